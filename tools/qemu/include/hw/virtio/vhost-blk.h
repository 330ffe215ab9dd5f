/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the virtio device vhost-blk and its transports know of each other.
 *
 * The path is that of a QEMU tree, so that the sources include it by the same
 * name there and here.
 */
#ifndef HW_VIRTIO_VHOST_BLK_H
#define HW_VIRTIO_VHOST_BLK_H

#include "hw/block/block.h"
/* They moved in QEMU 11.0. */
#if __has_include("hw/core/qdev-properties.h")
#include "hw/core/qdev-properties.h"
#include "hw/core/qdev-properties-system.h"
#else
#include "hw/qdev-properties.h"
#include "hw/qdev-properties-system.h"
#endif
/* It has another name since QEMU 10.1. */
#if __has_include("qemu/target-info.h")
#include "qemu/target-info.h"
#else
#include "exec/tswap.h"
#define target_big_endian target_words_bigendian
#endif
#include "hw/virtio/vhost.h"
#include "hw/virtio/virtio.h"
#include "qemu/event_notifier.h"
#include "qemu/notify.h"
#include "qom/object.h"
#include "standard-headers/linux/virtio_blk.h"
#include "system/block-backend.h"

/*
 * What QEMU 10.1 changed: the argument of class_init is constant, and set_status
 * tells whether it failed. SET_STATUS_OP(name) makes name_op of such a function.
 */
#if QEMU_VERSION_MAJOR == 10 && QEMU_VERSION_MINOR == 0
#define VHOST_BLK_CLASS_DATA void *
#define SET_STATUS_OP(name)                                     \
    static void name##_op(VirtIODevice *vdev, uint8_t status)   \
    {                                                           \
        name(vdev, status);                                     \
    }
#else
#define VHOST_BLK_CLASS_DATA const void *
#define SET_STATUS_OP(name)                                     \
    static int name##_op(VirtIODevice *vdev, uint8_t status)    \
    {                                                           \
        return name(vdev, status);                              \
    }
#endif

#define TYPE_VHOST_BLK "vhost-blk-device"
OBJECT_DECLARE_SIMPLE_TYPE(VHostBlk, VHOST_BLK)

/* The user named no number: the transport takes one that suits the machine. */
#define VHOST_BLK_AUTO_NUM_QUEUES UINT16_MAX

/* Fields of the configuration space that migration compares, but the capacity */
#define VHOST_BLK_IDENTITY_FIELDS 17

struct VHostBlk {
    VirtIODevice parent_obj;

    /* Properties, fixed from realize on */
    BlockConf conf;
    char *serial;
    char *vhostfd;                      /* of /dev/vhost-blk, opened elsewhere */
    uint16_t num_queues;
    uint16_t queue_size;
    uint32_t max_discard_sectors;       /* 0: the device's */
    uint32_t max_write_zeroes_sectors;
    bool seg_max_adjust;                /* to the ring, not a fixed number */
    uint32_t poll_us;                   /* busy polling of each ring */
    bool worker_per_virtqueue;

    /* Made by realize */
    BlockDriverState *host_node;        /* of the block device */
    int disk_fd;                        /* the same, opened for the kernel */
    Error *drive_in_use;                /* why block jobs are refused */
    Notifier drive_leaves;
    QEMUTimer *watch_timer;             /* looks for what nothing reports */
    EventNotifier config_changed;       /* the kernel's, of the capacity */
    FILE *counters;                     /* the kernel's, as text */
    struct vhost_dev dev;               /* has the fd of /dev/vhost-blk */
    struct vhost_virtqueue *vqs;        /* dev.vqs, which dev forgets */
    struct virtio_blk_config config;    /* as the guest reads it, but wce */
    bool claimed;                       /* the kernel keeps others away */
    bool kernel_runs;                   /* though it was told to stop */
    int stop_error;                     /* of the last stop, until a start */

    /* Guest's choice, the property's until it chooses */
    bool write_cache;

    /* Of the other side, when migration begins */
    uint64_t features_there;
    uint64_t capacity_there;            /* in sectors */
    uint64_t identity_there[VHOST_BLK_IDENTITY_FIELDS];
};

#endif /* HW_VIRTIO_VHOST_BLK_H */

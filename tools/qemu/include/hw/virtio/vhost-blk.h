/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Interface between the virtio device vhost-blk and its transports
 *
 * The path of this file is the one in a QEMU tree. So the sources can include
 * it by the same name there and here.
 */
#ifndef HW_VIRTIO_VHOST_BLK_H
#define HW_VIRTIO_VHOST_BLK_H

#include "hw/block/block.h"
/* QEMU 11.0 moved these headers. */
#if __has_include("hw/core/qdev-properties.h")
#include "hw/core/qdev-properties.h"
#include "hw/core/qdev-properties-system.h"
#else
#include "hw/qdev-properties.h"
#include "hw/qdev-properties-system.h"
#endif
/* QEMU 10.1 renamed this function. */
#if __has_include("qemu/target-info.h")
#include "qemu/target-info.h"
#else
#include "exec/tswap.h"
#define target_big_endian target_words_bigendian
#endif
#include "hw/virtio/vhost.h"
#include "hw/virtio/vhost-backend.h"
#include "hw/virtio/virtio.h"
#include "qemu/event_notifier.h"
#include "qemu/notify.h"
#include "qom/object.h"
#include "standard-headers/linux/virtio_blk.h"
#include "system/block-backend.h"

/*
 * QEMU 10.1 made the argument of class_init constant, and set_status return an
 * error. SET_STATUS_OP(name) defines name_op() with the type of this version.
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

/* The user gave no number, so the transport chooses one for the machine. */
#define VHOST_BLK_AUTO_NUM_QUEUES UINT16_MAX

/* Fields of the configuration space that migration compares, less capacity */
#define VHOST_BLK_IDENTITY_FIELDS 17

struct VHostBlk {
    VirtIODevice parent_obj;

    /* Properties, which don't change after realize */
    BlockConf conf;
    char *serial;
    char *vhostfd;                      /* an open /dev/vhost-blk */
    uint16_t num_queues;
    uint16_t queue_size;
    uint32_t max_discard_sectors;       /* 0 for the device's limit */
    uint32_t max_write_zeroes_sectors;
    bool seg_max_adjust;                /* adapt seg_max to the ring size */
    uint32_t poll_us;                   /* busy polling time of a ring */
    bool worker_per_virtqueue;
    bool pin_memory;                    /* the kernel keeps memory pinned */

    /* Set by realize */
    BlockDriverState *host_node;        /* node of the block device */
    int disk_fd;                        /* the block device, for the kernel */
    Error *drive_in_use;                /* error for block jobs */
    Notifier drive_removed;
    QEMUTimer *watch_timer;             /* runs vhost_blk_watch_drive() */
    EventNotifier config_changed;       /* set by the kernel: new capacity */
    VMChangeStateEntry *vm_state;
    FILE *counters;                     /* fdinfo of dev's fd */
    struct vhost_dev dev;               /* owns the fd of /dev/vhost-blk */
    struct vhost_virtqueue *vqs;        /* dev.vqs; vhost core clears that */
    struct virtio_blk_config config;    /* as the guest reads it, except wce */
    VhostOps vhost_ops;                 /* dev.vhost_ops */
    const VhostOps *kernel_ops;         /* vhost core's, which those replace */
    bool pin_failed;                    /* of plugged memory: pin no more */
    bool discard_disabled;              /* no page of memory is discarded */
    bool claimed;                       /* the kernel has an exclusive claim */
    bool kernel_started;                /* between start and stop */
    bool kernel_runs;                   /* the last stop failed */
    int stop_error;                     /* result of the last stop, or 0 */
    int flush_error;                    /* result of the last flush, or 0 */

    /* Set by the guest; until then from the property */
    bool write_cache;

    /* Sent by the source when migration begins */
    uint64_t features_there;
    uint64_t capacity_there;            /* in sectors */
    uint64_t identity_there[VHOST_BLK_IDENTITY_FIELDS];
};

#endif /* HW_VIRTIO_VHOST_BLK_H */

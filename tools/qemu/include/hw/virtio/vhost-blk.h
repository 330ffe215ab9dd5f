/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the virtio device vhost-blk and its transports know of each other.
 *
 * The path is that of a QEMU tree, so that the sources include it by the same
 * name there and here.
 */
#ifndef HW_VIRTIO_VHOST_BLK_H
#define HW_VIRTIO_VHOST_BLK_H

#include "hw/virtio/vhost.h"
#include "hw/virtio/virtio.h"
#include "qemu/notify.h"
#include "qom/object.h"
#include "standard-headers/linux/virtio_blk.h"
#include "system/block-backend.h"

#define TYPE_VHOST_BLK "vhost-blk"
OBJECT_DECLARE_SIMPLE_TYPE(VHostBlk, VHOST_BLK)

/* The user named no number: the transport takes one that suits the machine. */
#define VHOST_BLK_AUTO_NUM_QUEUES UINT16_MAX

struct VHostBlk {
    VirtIODevice parent_obj;

    /* Properties, fixed from realize on */
    BlockBackend *drive;
    char *serial;
    int32_t bootindex;
    uint16_t num_queues;
    uint16_t queue_size;
    uint32_t poll_us;                   /* busy polling of each ring */
    bool worker_per_virtqueue;

    /* Made by realize */
    Error *drive_in_use;                /* why block jobs are refused */
    Notifier drive_leaves;
    struct vhost_dev dev;               /* has the fd of /dev/vhost-blk */
    struct vhost_virtqueue *vqs;        /* dev.vqs, which dev forgets */
    struct virtio_blk_config config;    /* as the guest reads it */
};

#endif /* HW_VIRTIO_VHOST_BLK_H */

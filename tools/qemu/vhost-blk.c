/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vhost-blk: a virtio-blk device whose requests the host kernel serves
 *
 * QEMU is the control plane only. Realize binds /dev/vhost-blk to the block
 * device behind drive= and takes features and configuration space from the
 * kernel, which derives both from that device. When the guest's driver is
 * ready, start hands rings, kick and interrupt eventfds to the kernel; from
 * then on no request passes through QEMU. Stop takes the rings back, drained.
 *
 * Since the block layer never sees a request, drive= must be a node that adds
 * nothing to the device: host_device, or raw over it. The node is still what
 * locks the device against other users of QEMU's image locking, and block
 * jobs, which would copy a disk without the guest's writes, are refused on it.
 *
 * The transports (vhost-blk-pci.c) embed the device made here. The calls to
 * the kernel are described in <linux/vhost_blk.h>.
 */
#include "qemu/osdep.h"
#include <linux/vhost_blk.h>
#include <sys/ioctl.h>
#include "block/block_int-common.h"
#include "hw/qdev-properties.h"
#include "hw/qdev-properties-system.h"
#include "hw/virtio/vhost-blk.h"
#include "hw/virtio/virtio-bus.h"
#include "qapi/error.h"
#include "qemu/bswap.h"
#include "qemu/error-report.h"
#include "qemu/module.h"
#include "system/blockdev.h"
#include "system/system.h"

#define VHOST_BLK_DEV "/dev/vhost-blk"
#define VHOST_BLK_MIN_RING 4    /* header, status and two data segments */

/*
 * The features of virtio-blk that the kernel may offer through this device.
 * VIRTIO_BLK_F_CONFIG_WCE is none of them: the guest's writes to the
 * configuration space do not reach the kernel.
 */
#define VHOST_BLK_FEATURES                  \
    (BIT_ULL(VIRTIO_BLK_F_SIZE_MAX) |       \
     BIT_ULL(VIRTIO_BLK_F_SEG_MAX) |        \
     BIT_ULL(VIRTIO_BLK_F_RO) |             \
     BIT_ULL(VIRTIO_BLK_F_BLK_SIZE) |       \
     BIT_ULL(VIRTIO_BLK_F_FLUSH) |          \
     BIT_ULL(VIRTIO_BLK_F_TOPOLOGY) |       \
     BIT_ULL(VIRTIO_BLK_F_MQ) |             \
     BIT_ULL(VIRTIO_BLK_F_DISCARD) |        \
     BIT_ULL(VIRTIO_BLK_F_WRITE_ZEROES) |   \
     BIT_ULL(VIRTIO_BLK_F_SECURE_ERASE))

static const VirtIOFeature vhost_blk_config_ends[] = {
    { .flags = BIT_ULL(VIRTIO_BLK_F_DISCARD),
      .end = endof(struct virtio_blk_config, discard_sector_alignment) },
    { .flags = BIT_ULL(VIRTIO_BLK_F_WRITE_ZEROES),
      .end = endof(struct virtio_blk_config, write_zeroes_may_unmap) },
    { .flags = BIT_ULL(VIRTIO_BLK_F_SECURE_ERASE),
      .end = endof(struct virtio_blk_config, secure_erase_sector_alignment) },
    {}
};

static const VirtIOConfigSizeParams vhost_blk_config_size = {
    .min_size = endof(struct virtio_blk_config, num_queues),
    .max_size = sizeof(struct virtio_blk_config),
    .feature_sizes = vhost_blk_config_ends,
};

/* Start and stop */

static int vhost_blk_set_running(VHostBlk *s, uint32_t running)
{
    int vhostfd = (uintptr_t)s->dev.opaque;

    /* A signal may interrupt the wait of a stop for the requests in flight. */
    if (RETRY_ON_EINTR(ioctl(vhostfd, VHOST_BLK_SET_RUNNING, &running)) < 0) {
        return -errno;
    }
    return 0;
}

/*
 * vhost core tells the kernel of the rings that the guest has set up. Of those
 * that it has not, the kernel may still know where an earlier guest had them.
 */
static int vhost_blk_forget_unused_rings(VHostBlk *s)
{
    VirtIODevice *vdev = VIRTIO_DEVICE(s);
    int ret = 0;

    for (unsigned int i = 0; i < s->dev.nvqs && !ret; i++) {
        struct vhost_vring_addr nowhere = { .index = i };

        if (!virtio_queue_get_desc_addr(vdev, i)) {
            ret = s->dev.vhost_ops->vhost_set_vring_addr(&s->dev, &nowhere);
        }
    }
    return ret;
}

static bool vhost_blk_start(VirtIODevice *vdev, Error **errp)
{
    VHostBlk *s = VHOST_BLK(vdev);
    BusState *qbus = qdev_get_parent_bus(DEVICE(vdev));
    VirtioBusClass *k = VIRTIO_BUS_GET_CLASS(qbus);
    int ret;

    if (!k->set_guest_notifiers) {
        error_setg(errp, "the transport has no guest notifiers");
        return false;
    }

    ret = vhost_dev_enable_notifiers(&s->dev, vdev);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "cannot set up the kick eventfds");
        return false;
    }

    /* Unmasks what is to be unmasked, through guest_notifier_mask. */
    ret = k->set_guest_notifiers(qbus->parent, s->dev.nvqs, true);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "cannot set up the interrupt eventfds");
        goto err_host_notifiers;
    }

    s->dev.acked_features = vdev->guest_features;
    ret = vhost_dev_start(&s->dev, vdev, true);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "the kernel refuses the guest's rings");
        goto err_guest_notifiers;
    }

    ret = vhost_blk_forget_unused_rings(s);
    if (!ret) {
        ret = vhost_blk_set_running(s, 1);
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "the kernel cannot run the rings");
        goto err_vhost;
    }
    return true;

err_vhost:
    vhost_dev_stop(&s->dev, vdev, true);
err_guest_notifiers:
    k->set_guest_notifiers(qbus->parent, s->dev.nvqs, false);
err_host_notifiers:
    vhost_dev_disable_notifiers(&s->dev, vdev);
    return false;
}

static void vhost_blk_start_or_report(VirtIODevice *vdev)
{
    /* The user gave the transport its name. */
    DeviceState *transport = qdev_get_parent_bus(DEVICE(vdev))->parent;
    g_autofree char *name = qdev_get_human_name(transport);
    Error *err = NULL;

    if (vhost_blk_start(vdev, &err)) {
        return;
    }
    error_append_hint(&err, "The guest's requests wait. Remove the cause and "
                      "'stop' and 'cont' the machine, or reset it.\n");
    error_reportf_err(err, "vhost-blk %s does not start: ", name);
}

static void vhost_blk_stop(VirtIODevice *vdev)
{
    VHostBlk *s = VHOST_BLK(vdev);
    BusState *qbus = qdev_get_parent_bus(DEVICE(vdev));
    VirtioBusClass *k = VIRTIO_BUS_GET_CLASS(qbus);
    int ret;

    /*
     * Before anything is taken from the kernel: the ring positions that
     * vhost_dev_stop() reads are final only when nothing is in flight.
     */
    ret = vhost_blk_set_running(s, 0);
    if (ret < 0) {
        error_report("vhost-blk: the kernel cannot stop the rings: %s",
                     strerror(-ret));
    }

    vhost_dev_stop(&s->dev, vdev, true);

    ret = k->set_guest_notifiers(qbus->parent, s->dev.nvqs, false);
    if (ret < 0) {
        error_report("vhost-blk: cannot take down the interrupt eventfds: %s",
                     strerror(-ret));
    }

    vhost_dev_disable_notifiers(&s->dev, vdev);
}

/* Called for every reason to start or stop: guest, reset, stop and cont. */
static void vhost_blk_set_status(VirtIODevice *vdev, uint8_t status)
{
    VHostBlk *s = VHOST_BLK(vdev);
    bool start = virtio_device_should_start(vdev, status);

    if (start == vhost_dev_is_started(&s->dev)) {
        return;
    }
    if (start) {
        vhost_blk_start_or_report(vdev);
    } else {
        vhost_blk_stop(vdev);
    }
}

/*
 * A kick that the kernel did not get. Drivers older than virtio 1.0 may kick
 * before they set DRIVER_OK and then wait for the answer.
 */
static void vhost_blk_handle_output(VirtIODevice *vdev, VirtQueue *vq)
{
    if (!vdev->start_on_kick) {
        return;
    }
    /* First: a start that fails ends in a last look at the kicks, in here. */
    virtio_set_started(vdev, true);
    vhost_blk_start_or_report(vdev);
}

/* Interrupts */

/* The kernel raises no configuration interrupt, so there is none to mask. */
static void vhost_blk_guest_notifier_mask(VirtIODevice *vdev, int idx,
                                          bool mask)
{
    VHostBlk *s = VHOST_BLK(vdev);

    if (idx != VIRTIO_CONFIG_IRQ_IDX) {
        vhost_virtqueue_mask(&s->dev, vdev, idx, mask);
    }
}

static bool vhost_blk_guest_notifier_pending(VirtIODevice *vdev, int idx)
{
    VHostBlk *s = VHOST_BLK(vdev);

    return idx != VIRTIO_CONFIG_IRQ_IDX &&
           vhost_virtqueue_pending(&s->dev, idx);
}

/* Features and configuration space */

static uint64_t vhost_blk_get_features(VirtIODevice *vdev, uint64_t features,
                                       Error **errp)
{
    VHostBlk *s = VHOST_BLK(vdev);

    /* Of the rings: what bus and user ask for and the kernel goes along with */
    features &= s->dev.features;
    /* No call stops one ring alone. */
    virtio_clear_feature(&features, VIRTIO_F_RING_RESET);

    return features | (s->dev.features & VHOST_BLK_FEATURES);
}

static void vhost_blk_get_config(VirtIODevice *vdev, uint8_t *config)
{
    memcpy(config, &VHOST_BLK(vdev)->config, vdev->config_len);
}

static bool vhost_blk_read_config(VHostBlk *s, Error **errp)
{
    int vhostfd = (uintptr_t)s->dev.opaque;
    g_autofree struct vhost_blk_config *kernel =
        g_malloc0(sizeof(*kernel) + sizeof(s->config));
    uint32_t seg_max;

    kernel->size = sizeof(s->config);
    if (ioctl(vhostfd, VHOST_BLK_GET_CONFIG, kernel) < 0) {
        error_setg_errno(errp, errno, "cannot read the configuration space "
                         "from " VHOST_BLK_DEV);
        return false;
    }
    memcpy(&s->config, kernel->data, sizeof(s->config));

    /* A request's header and status take a descriptor each. */
    seg_max = MIN(ldl_le_p(&s->config.seg_max), s->queue_size - 2);
    stl_le_p(&s->config.seg_max, seg_max);
    stw_le_p(&s->config.num_queues, s->num_queues);
    return true;
}

/* The block device */

/*
 * The node that stands for the device behind @bs, or NULL if there is more to
 * @bs than that device.
 */
static BlockDriverState *vhost_blk_host_device(BlockDriverState *bs)
{
    GRAPH_RDLOCK_GUARD_MAINLOOP();

    /* raw may show a part of its file only; one of equal length does not. */
    if (!strcmp(bdrv_get_format_name(bs), "raw") && bs->file &&
        bdrv_getlength(bs) == bdrv_getlength(bs->file->bs)) {
        bs = bs->file->bs;
    }
    return strcmp(bdrv_get_format_name(bs), "host_device") ? NULL : bs;
}

static void vhost_blk_unblock_drive(VHostBlk *s)
{
    bdrv_op_unblock_all(blk_bs(s->drive), s->drive_in_use);
    error_free(s->drive_in_use);
    s->drive_in_use = NULL;
}

/* At its end QEMU takes the node from the device without unrealizing it. */
static void vhost_blk_drive_leaves(Notifier *notifier, void *opaque)
{
    vhost_blk_unblock_drive(container_of(notifier, VHostBlk, drive_leaves));
}

static bool vhost_blk_claim_drive(VHostBlk *s, Error **errp)
{
    bool writable;
    uint64_t perm;
    uint64_t shared;

    if (!s->drive || !blk_bs(s->drive)) {
        error_setg(errp, "property 'drive' %s: give it the name of a -blockdev "
                   "with driver=host_device", s->drive ? "is empty" :
                   "is not set");
        return false;
    }
    if (!vhost_blk_host_device(blk_bs(s->drive))) {
        error_setg(errp, "property 'drive': '%s' with driver=%s is not a whole "
                   "host block device: give a -blockdev with "
                   "driver=host_device, or driver=raw directly over one",
                   bdrv_get_device_or_node_name(blk_bs(s->drive)),
                   bdrv_get_format_name(blk_bs(s->drive)));
        return false;
    }

    /*
     * The guest's writes bypass the host's page cache, so another reader in
     * QEMU could see old data: there is none beside a writer.
     */
    writable = blk_supports_write_perm(s->drive);
    perm = BLK_PERM_CONSISTENT_READ | (writable ? BLK_PERM_WRITE : 0);
    shared = writable ? 0 : BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE_UNCHANGED;
    if (blk_set_perm(s->drive, perm, shared, errp) < 0) {
        return false;
    }

    error_setg(&s->drive_in_use, "the host kernel serves the guest's requests");
    bdrv_op_block_all(blk_bs(s->drive), s->drive_in_use);
    s->drive_leaves.notify = vhost_blk_drive_leaves;
    blk_add_remove_bs_notifier(s->drive, &s->drive_leaves);
    return true;
}

static void vhost_blk_release_drive(VHostBlk *s)
{
    notifier_remove(&s->drive_leaves);
    if (s->drive_in_use) {
        vhost_blk_unblock_drive(s);
    }
    blk_set_perm(s->drive, 0, BLK_PERM_ALL, &error_abort);
}

/* The kernel's device */

static const char *vhost_blk_bind_advice(int err)
{
    switch (err) {
    case EBUSY:
        return "it is mounted or in exclusive use on the host "
               "(see lsblk and fuser): free it first";
    case ENOTBLK:
        return "it is not a block device";
    case EROFS:
        return "it is write-protected: give its -blockdev read-only=on";
    default:
        return strerror(err);
    }
}

static bool vhost_blk_bind(VHostBlk *s, int vhostfd, Error **errp)
{
    BlockDriverState *bs = vhost_blk_host_device(blk_bs(s->drive));
    bool writable = blk_supports_write_perm(s->drive);
    struct vhost_blk_bind bind = {
        .flags = writable ? 0 : VHOST_BLK_BIND_READ_ONLY,
        .num_queues = s->num_queues,
    };
    int err = 0;

    if (s->serial) {
        memcpy(bind.serial, s->serial, strlen(s->serial));
    }

    /* By name, since a node does not tell its fd; /dev/fdset/N works too. */
    bind.fd = qemu_open(bs->exact_filename, writable ? O_RDWR : O_RDONLY, errp);
    if (bind.fd < 0) {
        return false;
    }
    if (ioctl(vhostfd, VHOST_BLK_BIND, &bind) < 0) {
        err = errno;
        error_setg(errp, "property 'drive': the kernel cannot serve '%s': %s",
                   bs->exact_filename, vhost_blk_bind_advice(err));
    }
    qemu_close(bind.fd);
    return !err;
}

static int vhost_blk_open(Error **errp)
{
    /* Nonblocking: vhost core reads IOTLB misses until there are none. */
    int vhostfd = qemu_open(VHOST_BLK_DEV, O_RDWR | O_NONBLOCK, NULL);

    if (vhostfd >= 0) {
        return vhostfd;
    }
    switch (errno) {
    case ENOENT:
    case ENODEV:
    case ENXIO:
        error_setg(errp, "the host has no " VHOST_BLK_DEV
                   ": load its module there (modprobe vhost_blk)");
        break;
    case EACCES:
    case EPERM:
        error_setg(errp, "no permission to open " VHOST_BLK_DEV
                   ": let the user who runs QEMU read and write it");
        break;
    default:
        error_setg_errno(errp, errno, "cannot open " VHOST_BLK_DEV);
    }
    return -1;
}

static void vhost_blk_disconnect(VHostBlk *s)
{
    vhost_dev_cleanup(&s->dev);
    g_free(s->vqs);
}

/* The first queue keeps the worker that vhost core made for all of them. */
static bool vhost_blk_make_workers(VHostBlk *s, Error **errp)
{
    const VhostOps *ops = s->dev.vhost_ops;

    for (unsigned int i = 1; i < s->num_queues; i++) {
        struct vhost_worker_state worker = { 0 };
        struct vhost_vring_worker ring = { .index = i };
        int ret = ops->vhost_new_worker(&s->dev, &worker);

        ring.worker_id = worker.worker_id;
        if (!ret) {
            ret = ops->vhost_attach_vring_worker(&s->dev, &ring);
        }
        if (ret < 0) {
            error_setg_errno(errp, -ret, "property 'worker-per-virtqueue': the "
                             "kernel makes no worker for queue %u", i);
            return false;
        }
    }
    return true;
}

static bool vhost_blk_connect(VHostBlk *s, Error **errp)
{
    int vhostfd = vhost_blk_open(errp);

    if (vhostfd < 0) {
        return false;
    }
    /* The kernel answers nothing before it knows the device. */
    if (!vhost_blk_bind(s, vhostfd, errp)) {
        close(vhostfd);
        return false;
    }

    s->vqs = g_new0(struct vhost_virtqueue, s->num_queues);
    s->dev.vqs = s->vqs;
    s->dev.nvqs = s->num_queues;
    /* From here on the fd belongs to vhost core, if this fails as well. */
    if (vhost_dev_init(&s->dev, (void *)(uintptr_t)vhostfd,
                       VHOST_BACKEND_TYPE_KERNEL, s->poll_us, errp) < 0) {
        g_free(s->vqs);
        return false;
    }
    if (s->worker_per_virtqueue && !vhost_blk_make_workers(s, errp)) {
        vhost_blk_disconnect(s);
        return false;
    }
    return true;
}

/* The QEMU device */

static bool vhost_blk_check_properties(VHostBlk *s, Error **errp)
{
    if (s->num_queues == VHOST_BLK_AUTO_NUM_QUEUES) {
        s->num_queues = 1;
    }
    if (s->num_queues < 1 || s->num_queues > VHOST_BLK_MAX_QUEUES) {
        error_setg(errp, "property 'num-queues': %u is not between 1 and %u",
                   s->num_queues, VHOST_BLK_MAX_QUEUES);
        return false;
    }
    if (!is_power_of_2(s->queue_size) || s->queue_size < VHOST_BLK_MIN_RING ||
        s->queue_size > VHOST_BLK_MAX_RING) {
        error_setg(errp, "property 'queue-size': %u is not a power of two "
                   "between %u and %u", s->queue_size, VHOST_BLK_MIN_RING,
                   VHOST_BLK_MAX_RING);
        return false;
    }
    if (s->serial && strlen(s->serial) > VHOST_BLK_SERIAL_BYTES) {
        error_setg(errp, "property 'serial': '%s' is longer than %u bytes",
                   s->serial, VHOST_BLK_SERIAL_BYTES);
        return false;
    }
    return true;
}

static void vhost_blk_realize(DeviceState *dev, Error **errp)
{
    VHostBlk *s = VHOST_BLK(dev);
    VirtIODevice *vdev = VIRTIO_DEVICE(dev);

    if (!vhost_blk_check_properties(s, errp) ||
        !vhost_blk_claim_drive(s, errp)) {
        return;
    }
    if (!vhost_blk_connect(s, errp)) {
        goto err_drive;
    }
    if (!vhost_blk_read_config(s, errp)) {
        goto err_connection;
    }

    virtio_init(vdev, VIRTIO_ID_BLOCK,
                virtio_get_config_size(&vhost_blk_config_size,
                                       s->dev.features));
    for (int i = 0; i < s->num_queues; i++) {
        virtio_add_queue(vdev, s->queue_size, vhost_blk_handle_output);
    }
    return;

err_connection:
    vhost_blk_disconnect(s);
err_drive:
    vhost_blk_release_drive(s);
}

static void vhost_blk_unrealize(DeviceState *dev)
{
    VHostBlk *s = VHOST_BLK(dev);
    VirtIODevice *vdev = VIRTIO_DEVICE(dev);

    virtio_set_status(vdev, 0);

    for (int i = 0; i < s->num_queues; i++) {
        virtio_del_queue(vdev, i);
    }
    virtio_cleanup(vdev);

    vhost_blk_disconnect(s);
    vhost_blk_release_drive(s);
    blockdev_mark_auto_del(s->drive);
}

static struct vhost_dev *vhost_blk_get_vhost(VirtIODevice *vdev)
{
    return &VHOST_BLK(vdev)->dev;
}

static void vhost_blk_instance_init(Object *obj)
{
    device_add_bootindex_property(obj, &VHOST_BLK(obj)->bootindex, "bootindex",
                                  "/disk@0,0", DEVICE(obj));
}

/*
 * The kernel keeps a dirty log, but source and destination would have to hand
 * the block device over: both bind it exclusively, from realize on.
 */
static const VMStateDescription vmstate_vhost_blk = {
    .name = "vhost-blk",
    .unmigratable = 1,
};

/*
 * The usual drive=, but for one thing: another node in its place at run time,
 * where that is done to insert a filter, would not reach the kernel.
 */
static PropertyInfo vhost_blk_prop_drive;

static const Property vhost_blk_properties[] = {
    DEFINE_PROP("drive", VHostBlk, drive, vhost_blk_prop_drive, BlockBackend *),
    DEFINE_PROP_STRING("serial", VHostBlk, serial),
    DEFINE_PROP_UINT16("num-queues", VHostBlk, num_queues,
                       VHOST_BLK_AUTO_NUM_QUEUES),
    DEFINE_PROP_UINT16("queue-size", VHostBlk, queue_size, 256),
    DEFINE_PROP_UINT32("poll-us", VHostBlk, poll_us, 0),
    DEFINE_PROP_BOOL("worker-per-virtqueue", VHostBlk, worker_per_virtqueue,
                     false),
};

static void vhost_blk_class_init(ObjectClass *klass, void *data)
{
    DeviceClass *dc = DEVICE_CLASS(klass);
    VirtioDeviceClass *vdc = VIRTIO_DEVICE_CLASS(klass);

    vhost_blk_prop_drive = qdev_prop_drive;
    vhost_blk_prop_drive.realized_set_allowed = false;
    device_class_set_props(dc, vhost_blk_properties);

    dc->desc = "virtio-blk device served by the host kernel (vhost_blk)";
    dc->vmsd = &vmstate_vhost_blk;
    set_bit(DEVICE_CATEGORY_STORAGE, dc->categories);
    vdc->realize = vhost_blk_realize;
    vdc->unrealize = vhost_blk_unrealize;
    vdc->get_features = vhost_blk_get_features;
    vdc->get_config = vhost_blk_get_config;
    vdc->set_status = vhost_blk_set_status;
    vdc->guest_notifier_mask = vhost_blk_guest_notifier_mask;
    vdc->guest_notifier_pending = vhost_blk_guest_notifier_pending;
    vdc->get_vhost = vhost_blk_get_vhost;
}

static const TypeInfo vhost_blk_info = {
    .name = TYPE_VHOST_BLK,
    .parent = TYPE_VIRTIO_DEVICE,
    .instance_size = sizeof(VHostBlk),
    .instance_init = vhost_blk_instance_init,
    .class_init = vhost_blk_class_init,
};

static void vhost_blk_register_types(void)
{
    type_register_static(&vhost_blk_info);
}

type_init(vhost_blk_register_types)

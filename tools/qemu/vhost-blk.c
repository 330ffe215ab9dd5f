/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vhost-blk: a virtio-blk device whose requests the host kernel serves
 *
 * QEMU is the control plane only. Realize binds /dev/vhost-blk to the block
 * device of drive=, and reads features and configuration space from the
 * kernel. When the guest's driver is ready, start passes the rings and their
 * eventfds to the kernel. From then on no request passes through QEMU. Stop
 * drains the rings and takes them back.
 *
 * QEMU's block layer sees no request. Therefore drive= must be a node that adds
 * nothing to the device: host_device, or raw over it. The node keeps QEMU's
 * image locks. Block jobs on it are refused, because they would not see the
 * guest's writes.
 *
 * The kernel claims the block device for the side of a migration that runs:
 *
 * - The destination binds the device without a claim.
 * - The source releases its claim when it has stopped.
 * - The side whose machine runs takes the claim.
 *
 * The source sends the limits of the disk when migration begins. A destination
 * whose limits differ fails while the source still runs.
 *
 * A transport (vhost-blk-pci.c) embeds this device. <linux/vhost_blk.h>
 * describes the ioctls.
 */
#include "qemu/osdep.h"
#include <linux/vhost_blk.h>
#include <linux/fs.h>
#include <linux/hdreg.h>
#include <sys/ioctl.h>
#include "block/block_int-common.h"
#include "block/dirty-bitmap.h"
#include "hw/pci/pci_device.h"
#include "hw/virtio/vhost-blk.h"
#include "hw/virtio/virtio-bus.h"
#include "migration/vmstate.h"
#include "monitor/monitor.h"
#include "qapi/error.h"
#include "qemu/bswap.h"
#include "qemu/cutils.h"
#include "qemu/error-report.h"
#include "qemu/module.h"
#include "qemu/timer.h"
#include "qemu/units.h"
#include "system/blockdev.h"
#include "system/runstate.h"
#include "system/system.h"

#define VHOST_BLK_DEV "/dev/vhost-blk"
#define VHOST_BLK_MIN_RING 4    /* header, status and two data segments */
#define VHOST_BLK_FIXED_SEG_MAX (128 - 2)   /* as virtio-blk has it */

/* Features of the block device that the user can't switch off */
#define VHOST_BLK_DEVICE_FEATURES           \
    (BIT_ULL(VIRTIO_BLK_F_SIZE_MAX) |       \
     BIT_ULL(VIRTIO_BLK_F_SEG_MAX) |        \
     BIT_ULL(VIRTIO_BLK_F_RO) |             \
     BIT_ULL(VIRTIO_BLK_F_BLK_SIZE) |       \
     BIT_ULL(VIRTIO_BLK_F_FLUSH) |          \
     BIT_ULL(VIRTIO_BLK_F_TOPOLOGY) |       \
     BIT_ULL(VIRTIO_BLK_F_MQ) |             \
     BIT_ULL(VIRTIO_BLK_F_SECURE_ERASE))

/* Offered by the kernel if the device has a volatile write cache */
#define VHOST_BLK_HAS_CACHE BIT_ULL(VIRTIO_BLK_F_CONFIG_WCE)

#define VHOST_BLK_LIMITS_ADVICE "the host kernel serves the guest's requests, " \
    "limit them there (io.max of QEMU's cgroup)"

/* Interval of vhost_blk_watch_drive() */
#define VHOST_BLK_WATCH_INTERVAL_MS 1000

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

/* Features and configuration space */

static int vhost_blk_fd(VHostBlk *s)
{
    return (uintptr_t)s->dev.opaque;
}

/* Fails for features that the user asks for and the kernel does not have */
static bool vhost_blk_check_features(VHostBlk *s, uint64_t features,
                                     Error **errp)
{
    static const struct {
        const char *property;
        unsigned int bit;
    } refused[] = {
        { "packed", VIRTIO_F_RING_PACKED },
        { "in_order", VIRTIO_F_IN_ORDER },
        { "iommu_platform", VIRTIO_F_IOMMU_PLATFORM },
    };

    for (unsigned int i = 0; i < ARRAY_SIZE(refused); i++) {
        if (virtio_has_feature(features & ~s->dev.features, refused[i].bit)) {
            error_setg(errp, "property '%s': the kernel serves no such rings: "
                       "leave it off", refused[i].property);
            return false;
        }
    }
    return true;
}

static uint64_t vhost_blk_get_features(VirtIODevice *vdev, uint64_t features,
                                       Error **errp)
{
    VHostBlk *s = VHOST_BLK(vdev);

    if (!vhost_blk_check_features(s, features, errp)) {
        return 0;
    }
    /* Features of rings and of properties must be supported by the kernel. */
    features &= s->dev.features;
    /* The kernel can't reset a single ring. */
    virtio_clear_feature(&features, VIRTIO_F_RING_RESET);

    features |= s->dev.features & VHOST_BLK_DEVICE_FEATURES;
    /* A limit that was rounded down to 0 blocks can't be offered. */
    if (!s->config.max_discard_sectors) {
        virtio_clear_feature(&features, VIRTIO_BLK_F_DISCARD);
    }
    if (!s->config.max_write_zeroes_sectors) {
        virtio_clear_feature(&features, VIRTIO_BLK_F_WRITE_ZEROES);
    }
    if (!s->config.max_secure_erase_sectors) {
        virtio_clear_feature(&features, VIRTIO_BLK_F_SECURE_ERASE);
    }
    /* Without VIRTIO_BLK_F_FLUSH the kernel makes each write durable. */
    if (!s->write_cache && !virtio_has_feature(features,
                                               VIRTIO_BLK_F_CONFIG_WCE)) {
        virtio_clear_feature(&features, VIRTIO_BLK_F_FLUSH);
    }
    return features;
}

static void vhost_blk_get_config(VirtIODevice *vdev, uint8_t *config)
{
    VHostBlk *s = VHOST_BLK(vdev);
    struct virtio_blk_config now = s->config;

    now.wce = s->write_cache && s->dev.features & VHOST_BLK_HAS_CACHE;
    memcpy(config, &now, vdev->config_len);
}

/* Receives writes of the kernel that no guest may see */
static uint8_t vhost_blk_scratch_page[4 * KiB] QEMU_ALIGNED(4 * KiB);

/* The guest chooses @start. A ring may reach the end of the addresses. */
static void vhost_blk_map_ring(VHostBlk *s, uint64_t start, uint64_t size,
                               bool use_scratch_page)
{
    const uint64_t page = sizeof(vhost_blk_scratch_page);
    uint64_t first = QEMU_ALIGN_DOWN(start, page);
    uint64_t num_pages = DIV_ROUND_UP(start - first + size, page);

    for (uint64_t i = 0; i < num_pages; i++) {
        uint64_t at = first + i * page;

        if (at < first) {
            return;
        }
        if (use_scratch_page) {
            vhost_backend_update_device_iotlb(&s->dev, at,
                                              (uintptr_t)vhost_blk_scratch_page,
                                              page, IOMMU_RW);
        } else {
            vhost_device_iotlb_miss(&s->dev, at, true);
        }
    }
}

/*
 * With a virtual IOMMU the kernel sends one miss for each page that it lacks,
 * and may have lost others. So pass all pages of the rings.
 */
static void vhost_blk_map_rings(VHostBlk *s, bool use_scratch_page)
{
    for (unsigned int i = 0; i < s->dev.nvqs; i++) {
        struct vhost_virtqueue *vq = &s->vqs[i];

        if (!vq->desc_phys) {
            continue;
        }
        vhost_blk_map_ring(s, vq->desc_phys, vq->desc_size, use_scratch_page);
        vhost_blk_map_ring(s, vq->avail_phys, vq->avail_size, use_scratch_page);
        vhost_blk_map_ring(s, vq->used_phys, vq->used_size, use_scratch_page);
    }
}

/* An ioctl that waits for requests in flight, and needs the rings for that */
static int vhost_blk_drain_ioctl(VHostBlk *s, unsigned long request, void *arg)
{
    int ret = RETRY_ON_EINTR(ioctl(vhost_blk_fd(s), request, arg));

    if (ret < 0 && errno == EAGAIN && s->dev.vdev) {
        /* The IOTLB lacks a ring, so that used elements can't be written. */
        vhost_blk_map_rings(s, false);
        ret = RETRY_ON_EINTR(ioctl(vhost_blk_fd(s), request, arg));
    }
    return ret < 0 ? -errno : 0;
}

/* When @use changes to false, the kernel flushes the device's cache. */
static int vhost_blk_use_write_cache(VHostBlk *s, bool use)
{
    g_autofree struct vhost_blk_config *config = g_malloc0(sizeof(*config) + 1);

    if (!(s->dev.features & VHOST_BLK_HAS_CACHE)) {
        return 0;
    }
    config->offset = offsetof(struct virtio_blk_config, wce);
    config->size = 1;
    config->data[0] = use;
    return vhost_blk_drain_ioctl(s, VHOST_BLK_SET_CONFIG, config);
}

/* The cache mode is the only field that a driver may write. */
static void vhost_blk_set_config(VirtIODevice *vdev, const uint8_t *config)
{
    VHostBlk *s = VHOST_BLK(vdev);
    bool write_cache = ((const struct virtio_blk_config *)config)->wce;
    int ret = 0;

    if (write_cache == s->write_cache ||
        !virtio_has_feature(vdev->host_features, VIRTIO_BLK_F_CONFIG_WCE)) {
        return;
    }
    if (vhost_dev_is_started(&s->dev)) {
        ret = vhost_blk_use_write_cache(s, write_cache);
    }
    if (ret < 0) {
        warn_report_once("vhost-blk: the kernel does not change the cache "
                         "mode: %s", strerror(-ret));
    }
    /* If the flush failed, the kernel has kept write-back. */
    if (!ret) {
        s->write_cache = write_cache;
    }
}

static bool vhost_blk_default_write_cache(VHostBlk *s)
{
    return s->conf.wce == ON_OFF_AUTO_AUTO ?
           blk_enable_write_cache(s->conf.blk) :
           s->conf.wce == ON_OFF_AUTO_ON;
}

static void vhost_blk_reset(VirtIODevice *vdev)
{
    VHostBlk *s = VHOST_BLK(vdev);

    s->write_cache = vhost_blk_default_write_cache(s);
}

/* Convert device blocks to the guest's logical blocks */
static uint64_t vhost_blk_in_blocks(uint64_t blocks, uint32_t device_size,
                                    uint32_t size, uint64_t max)
{
    return MIN(blocks * device_size / size, max);
}

static void vhost_blk_round_down(void *field, uint32_t sectors)
{
    stl_le_p(field, ROUND_DOWN(ldl_le_p(field), sectors));
}

static void vhost_blk_round_up(void *field, uint32_t sectors)
{
    stl_le_p(field, ROUND_UP(ldl_le_p(field), sectors));
}

/* Round to the guest's blocks of @sectors sectors of 512 bytes */
static void vhost_blk_round_to_blocks(struct virtio_blk_config *config,
                                      uint32_t sectors)
{
    stq_le_p(&config->capacity,
             ROUND_DOWN(ldq_le_p(&config->capacity), sectors));
    vhost_blk_round_down(&config->max_discard_sectors, sectors);
    vhost_blk_round_down(&config->max_write_zeroes_sectors, sectors);
    vhost_blk_round_down(&config->max_secure_erase_sectors, sectors);
    vhost_blk_round_up(&config->discard_sector_alignment, sectors);
    vhost_blk_round_up(&config->secure_erase_sector_alignment, sectors);
}

/* The guest's blocks may be larger than the device's. */
static bool vhost_blk_apply_block_sizes(VHostBlk *s,
                                        struct virtio_blk_config *config,
                                        Error **errp)
{
    uint32_t device = ldl_le_p(&config->blk_size);
    uint32_t logical = s->conf.logical_block_size ?: device;
    uint32_t physical = s->conf.physical_block_size ?:
                        MAX(device << config->physical_block_exp, logical);

    if (logical < device) {
        error_setg(errp, "property 'logical_block_size': %u is less than the "
                   "%u bytes of the device's blocks", logical, device);
        return false;
    }
    if (physical < logical) {
        error_setg(errp, "property 'physical_block_size': %u is less than the "
                   "%u bytes of a logical block", physical, logical);
        return false;
    }
    vhost_blk_round_to_blocks(config, logical / BDRV_SECTOR_SIZE);
    stl_le_p(&config->blk_size, logical);
    config->physical_block_exp = ctz32(physical / logical);
    config->alignment_offset =
        vhost_blk_in_blocks(config->alignment_offset, device, logical,
                            UINT8_MAX);
    stw_le_p(&config->min_io_size,
             vhost_blk_in_blocks(lduw_le_p(&config->min_io_size), device,
                                 logical, UINT16_MAX));
    stl_le_p(&config->opt_io_size,
             vhost_blk_in_blocks(ldl_le_p(&config->opt_io_size), device,
                                 logical, UINT32_MAX));
    return true;
}

/* A size from the user must consist of logical blocks; 0 means not set. */
static bool vhost_blk_check_size(const char *property, uint32_t bytes,
                                 uint32_t logical, uint32_t max_blocks,
                                 Error **errp)
{
    if (bytes % logical || bytes / logical > max_blocks) {
        error_setg(errp, "property '%s': %u is no multiple of the %u bytes of "
                   "a logical block, or more than %u of them", property, bytes,
                   logical, max_blocks);
        return false;
    }
    return true;
}

/* A user's limit in sectors must not exceed the device's; 0 means not set. */
static bool vhost_blk_apply_limit(const char *property, uint32_t want,
                                  void *limit, uint32_t logical,
                                  Error **errp)
{
    uint32_t device = ldl_le_p(limit);

    if (want && device &&
        (want > device || want % (logical >> BDRV_SECTOR_BITS))) {
        error_setg(errp, "property '%s': %u is more than the %u sectors of the "
                   "device, or no whole logical blocks", property, want,
                   device);
        return false;
    }
    if (want && device) {
        stl_le_p(limit, want);
    }
    return true;
}

/* With equal limits a guest can migrate between different devices. */
static bool vhost_blk_apply_limits(VHostBlk *s,
                                   struct virtio_blk_config *config,
                                   Error **errp)
{
    const BlockConf *conf = &s->conf;
    uint32_t logical = ldl_le_p(&config->blk_size);
    bool granular = conf->discard_granularity != UINT32_MAX;

    if (!vhost_blk_check_size("min_io_size", conf->min_io_size, logical,
                              UINT16_MAX, errp) ||
        !vhost_blk_check_size("opt_io_size", conf->opt_io_size, logical,
                              UINT32_MAX, errp) ||
        (granular &&
         !vhost_blk_check_size("discard_granularity",
                               conf->discard_granularity, logical, UINT32_MAX,
                               errp)) ||
        !vhost_blk_apply_limit("max-discard-sectors", s->max_discard_sectors,
                               &config->max_discard_sectors, logical, errp) ||
        !vhost_blk_apply_limit("max-write-zeroes-sectors",
                               s->max_write_zeroes_sectors,
                               &config->max_write_zeroes_sectors, logical,
                               errp)) {
        return false;
    }
    if (conf->min_io_size) {
        stw_le_p(&config->min_io_size, conf->min_io_size / logical);
    }
    if (conf->opt_io_size) {
        stl_le_p(&config->opt_io_size, conf->opt_io_size / logical);
    }
    if (granular) {
        stl_le_p(&config->discard_sector_alignment,
                 conf->discard_granularity >> BDRV_SECTOR_BITS);
    }
    return true;
}

static bool vhost_blk_read_config(VHostBlk *s, struct virtio_blk_config *config,
                                  Error **errp)
{
    g_autofree struct vhost_blk_config *kernel =
        g_malloc0(sizeof(*kernel) + sizeof(*config));
    uint32_t seg_max;

    kernel->size = sizeof(*config);
    if (ioctl(vhost_blk_fd(s), VHOST_BLK_GET_CONFIG, kernel) < 0) {
        error_setg_errno(errp, errno, "the kernel does not give the "
                         "configuration space");
        return false;
    }
    memcpy(config, kernel->data, sizeof(*config));

    /* Header and status take one descriptor each. */
    seg_max = MIN(ldl_le_p(&config->seg_max), s->queue_size - 2);
    if (!s->seg_max_adjust) {
        seg_max = MIN(seg_max, VHOST_BLK_FIXED_SEG_MAX);
    }
    stl_le_p(&config->seg_max, seg_max);
    stw_le_p(&config->num_queues, s->num_queues);
    return vhost_blk_apply_block_sizes(s, config, errp) &&
           vhost_blk_apply_limits(s, config, errp);
}

/*
 * The size of the block device changed. Tell the guest. Update no other field,
 * because the guest expects no other change.
 */
static void vhost_blk_update_capacity(VHostBlk *s)
{
    struct virtio_blk_config now;
    Error *err = NULL;

    if (!vhost_blk_read_config(s, &now, &err)) {
        error_report_err(err);
        return;
    }
    s->config.capacity = now.capacity;
    virtio_notify_config(VIRTIO_DEVICE(s));
}

static void vhost_blk_config_changed(EventNotifier *notifier)
{
    VHostBlk *s = container_of(notifier, VHostBlk, config_changed);

    if (event_notifier_test_and_clear(notifier)) {
        vhost_blk_update_capacity(s);
    }
}

/* Called after block_resize */
static void vhost_blk_resized(void *opaque)
{
    vhost_blk_update_capacity(opaque);
}

static const BlockDevOps vhost_blk_dev_ops = {
    .resize_cb = vhost_blk_resized,
};

static int vhost_blk_set_config_call(VHostBlk *s, int32_t fd)
{
    return ioctl(vhost_blk_fd(s), VHOST_BLK_SET_CONFIG_CALL, &fd) < 0 ?
           -errno : 0;
}

static bool vhost_blk_watch_config(VHostBlk *s, Error **errp)
{
    int ret = event_notifier_init(&s->config_changed, 0);

    if (ret < 0) {
        error_setg_errno(errp, -ret, "making an eventfd failed");
        return false;
    }
    ret = vhost_blk_set_config_call(s,
                                    event_notifier_get_fd(&s->config_changed));
    if (ret < 0) {
        error_setg_errno(errp, -ret, "the kernel does not watch the device");
        event_notifier_cleanup(&s->config_changed);
        return false;
    }
    event_notifier_set_handler(&s->config_changed, vhost_blk_config_changed);
    return true;
}

static void vhost_blk_unwatch_config(VHostBlk *s)
{
    event_notifier_set_handler(&s->config_changed, NULL);
    vhost_blk_set_config_call(s, -1);
    event_notifier_cleanup(&s->config_changed);
}

/* The block device */

/*
 * Returns the host_device node of @bs, or NULL if @bs is not exactly its host
 * block device
 */
static BlockDriverState *vhost_blk_host_device(BlockDriverState *bs)
{
    GRAPH_RDLOCK_GUARD_MAINLOOP();

    /* A raw node of the same length shows the whole device. */
    if (!strcmp(bdrv_get_format_name(bs), "raw") && bs->file &&
        bdrv_getlength(bs) == bdrv_getlength(bs->file->bs)) {
        bs = bs->file->bs;
    }
    return strcmp(bdrv_get_format_name(bs), "host_device") ? NULL : bs;
}

/* Resize is the only operation on a node that the kernel follows. */
static void vhost_blk_block_node(VHostBlk *s, BlockDriverState *bs)
{
    bdrv_op_block_all(bs, s->drive_in_use);
    bdrv_op_unblock(bs, BLOCK_OP_TYPE_RESIZE, s->drive_in_use);
}

/* blockdev-reopen must not give the raw node another file. */
static void vhost_blk_freeze_file(BlockDriverState *raw, bool freeze)
{
    GRAPH_RDLOCK_GUARD_MAINLOOP();

    raw->file->frozen = freeze;
}

/* Block jobs on either node would miss the guest's writes. */
static void vhost_blk_block_drive(VHostBlk *s)
{
    BlockDriverState *bs = blk_bs(s->conf.blk);

    error_setg(&s->drive_in_use, "the host kernel serves the guest's requests");
    s->host_node = vhost_blk_host_device(bs);
    bdrv_ref(s->host_node);
    vhost_blk_block_node(s, bs);
    if (s->host_node != bs) {
        vhost_blk_block_node(s, s->host_node);
        vhost_blk_freeze_file(bs, true);
    }
}

static void vhost_blk_unblock_drive(VHostBlk *s)
{
    BlockDriverState *bs = blk_bs(s->conf.blk);

    if (s->host_node != bs) {
        vhost_blk_freeze_file(bs, false);
    }
    bdrv_op_unblock_all(bs, s->drive_in_use);
    bdrv_op_unblock_all(s->host_node, s->drive_in_use);
    bdrv_unref(s->host_node);
    error_free(s->drive_in_use);
    s->drive_in_use = NULL;
}

/* At exit QEMU removes the node without unrealizing the device. */
static void vhost_blk_drive_removed(Notifier *notifier, void *opaque)
{
    vhost_blk_unblock_drive(container_of(notifier, VHostBlk, drive_removed));
}

static bool vhost_blk_is_writable(VHostBlk *s)
{
    return blk_supports_write_perm(s->conf.blk);
}

static bool vhost_blk_is_throttled(VHostBlk *s)
{
    return blk_get_public(s->conf.blk)->throttle_group_member.throttle_state;
}

static void vhost_blk_remove_throttling(VHostBlk *s)
{
    if (vhost_blk_is_throttled(s)) {
        blk_io_limits_disable(s->conf.blk);
        error_report("vhost-blk: I/O limits of '%s' are taken back: "
                     VHOST_BLK_LIMITS_ADVICE,
                     bdrv_get_device_or_node_name(blk_bs(s->conf.blk)));
    }
}

/* Returns a named bitmap that records writes, or NULL */
static BdrvDirtyBitmap *vhost_blk_find_bitmap(BlockDriverState *bs)
{
    BdrvDirtyBitmap *bitmap;

    FOR_EACH_DIRTY_BITMAP(bs, bitmap) {
        if (bdrv_dirty_bitmap_name(bitmap) &&
            bdrv_dirty_bitmap_enabled(bitmap)) {
            return bitmap;
        }
    }
    return NULL;
}

/* A backup by this bitmap would miss the guest's writes. */
static void vhost_blk_remove_bitmaps(BlockDriverState *bs)
{
    BdrvDirtyBitmap *bitmap;

    while ((bitmap = vhost_blk_find_bitmap(bs)) &&
           !bdrv_dirty_bitmap_check(bitmap, BDRV_BITMAP_BUSY, NULL)) {
        error_report("vhost-blk: dirty bitmap '%s' of '%s' is removed: the "
                     "guest's writes do not pass through QEMU",
                     bdrv_dirty_bitmap_name(bitmap),
                     bdrv_get_device_or_node_name(bs));
        bdrv_release_dirty_bitmap(bitmap);
    }
}

/* Counters */

/* The kernel's kinds of requests, and the matching ones of query-blockstats */
static const struct {
    const char *kernel;
    enum BlockAcctType type;
} vhost_blk_kinds[] = {
    { "read", BLOCK_ACCT_READ },
    { "write", BLOCK_ACCT_WRITE },
    { "write_zeroes", BLOCK_ACCT_WRITE },
    { "flush", BLOCK_ACCT_FLUSH },
    { "discard", BLOCK_ACCT_UNMAP },
    { "secure_erase", BLOCK_ACCT_UNMAP },
};

/* Add a counter of a queue. The names are KIND, KIND_bytes and KIND_errors. */
static void vhost_blk_add_counter(BlockAcctStats *stats, const char *name,
                                  uint64_t value)
{
    for (unsigned int i = 0; i < ARRAY_SIZE(vhost_blk_kinds); i++) {
        enum BlockAcctType type = vhost_blk_kinds[i].type;
        const char *unit;

        if (!strstart(name, vhost_blk_kinds[i].kernel, &unit)) {
            continue;
        }
        if (!*unit) {
            stats->nr_ops[type] += value;
        } else if (!strcmp(unit, "_bytes")) {
            stats->nr_bytes[type] += value;
        } else if (!strcmp(unit, "_errors")) {
            /* The kernel counts a failed request in KIND as well. */
            stats->failed_ops[type] += value;
            stats->nr_ops[type] -= value;
        }
    }
}

/* Parse a line "queueN:\tNAME VALUE NAME VALUE ..." */
static void vhost_blk_add_queue(BlockAcctStats *stats, char *line)
{
    char *rest = NULL, *name;

    strtok_r(line, "\t", &rest);
    while ((name = strtok_r(NULL, "\n ", &rest))) {
        const char *value = strtok_r(NULL, "\n ", &rest);

        if (value) {
            vhost_blk_add_counter(stats, name,
                                  g_ascii_strtoull(value, NULL, 10));
        }
    }
}

/* Copy the kernel's counters to those of query-blockstats */
static void vhost_blk_update_counters(VHostBlk *s)
{
    BlockAcctStats *stats = blk_get_stats(s->conf.blk);
    g_autofree BlockAcctStats *sum = g_new0(BlockAcctStats, 1);
    g_autofree char *line = NULL;
    size_t size = 0;

    if (!s->counters) {
        return;
    }
    rewind(s->counters);
    while (getline(&line, &size, s->counters) > 0) {
        if (strstart(line, "queue", NULL)) {
            vhost_blk_add_queue(sum, line);
        }
    }
    WITH_QEMU_LOCK_GUARD(&stats->lock) {
        if (memcmp(stats->nr_ops, sum->nr_ops, sizeof(sum->nr_ops))) {
            stats->last_access_time_ns =
                qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
        }
        memcpy(stats->nr_ops, sum->nr_ops, sizeof(sum->nr_ops));
        memcpy(stats->nr_bytes, sum->nr_bytes, sizeof(sum->nr_bytes));
        memcpy(stats->failed_ops, sum->failed_ops, sizeof(sum->failed_ops));
    }
}

/* Opened early: later QEMU may have no /proc, or run as another user. */
static void vhost_blk_open_counters(VHostBlk *s)
{
    g_autofree char *path = g_strdup_printf("/proc/self/fdinfo/%d",
                                            vhost_blk_fd(s));

    s->counters = fopen(path, "re");
    if (!s->counters) {
        warn_report_once("vhost-blk: query-blockstats will count nothing: "
                         "%s: %s", path, strerror(errno));
    }
}

/*
 * QEMU does not tell a device that its node gets I/O limits or a bitmap, and
 * query-blockstats does not call the device. So do it periodically: remove
 * I/O limits and bitmaps, and update the counters.
 */
static void vhost_blk_watch_drive(void *opaque)
{
    VHostBlk *s = opaque;

    vhost_blk_update_counters(s);
    vhost_blk_remove_throttling(s);
    if (vhost_blk_is_writable(s)) {
        vhost_blk_remove_bitmaps(blk_bs(s->conf.blk));
        vhost_blk_remove_bitmaps(s->host_node);
    }
    timer_mod(s->watch_timer, qemu_clock_get_ms(QEMU_CLOCK_REALTIME) +
              VHOST_BLK_WATCH_INTERVAL_MS);
}

/* Fails if a bitmap would miss the guest's writes */
static bool vhost_blk_check_bitmaps(VHostBlk *s, BlockDriverState *bs,
                                    Error **errp)
{
    BdrvDirtyBitmap *bitmap = vhost_blk_find_bitmap(bs);

    if (bitmap && vhost_blk_is_writable(s)) {
        error_setg(errp, "property 'drive': dirty bitmap '%s' of '%s' would "
                   "miss the guest's writes: remove or disable it",
                   bdrv_dirty_bitmap_name(bitmap),
                   bdrv_get_device_or_node_name(bs));
        return false;
    }
    return true;
}

/* Fails if the node is not just the block device */
static bool vhost_blk_check_drive(VHostBlk *s, Error **errp)
{
    BlockBackend *blk = s->conf.blk;
    BlockDriverState *bs = blk ? blk_bs(blk) : NULL;
    BlockDriverState *host_node;

    if (!bs) {
        error_setg(errp, "property 'drive' %s: give it the name of a -blockdev "
                   "with driver=host_device", blk ? "is empty" : "is not set");
        return false;
    }
    host_node = vhost_blk_host_device(bs);
    if (!host_node) {
        error_setg(errp, "property 'drive': '%s' with driver=%s is not a whole "
                   "host block device: give a -blockdev with "
                   "driver=host_device, or driver=raw directly over one",
                   bdrv_get_device_or_node_name(bs),
                   bdrv_get_format_name(bs));
        return false;
    }
    /* The guest could write an image header, which QEMU would probe. */
    if (bs->probed) {
        error_setg(errp, "property 'drive': the format of '%s' was probed, so "
                   "the guest could choose it for the next start: add "
                   "format=raw", bdrv_get_device_or_node_name(bs));
        return false;
    }
    if (vhost_blk_is_throttled(s)) {
        error_setg(errp, "property 'drive': I/O limits are not possible: "
                   VHOST_BLK_LIMITS_ADVICE);
        return false;
    }
    if (bs->detect_zeroes != BLOCKDEV_DETECT_ZEROES_OPTIONS_OFF ||
        host_node->detect_zeroes != BLOCKDEV_DETECT_ZEROES_OPTIONS_OFF) {
        error_setg(errp, "property 'drive': detect-zeroes is not possible: the "
                   "host kernel serves the guest's requests");
        return false;
    }
    return vhost_blk_check_bitmaps(s, bs, errp) &&
           vhost_blk_check_bitmaps(s, host_node, errp);
}

static bool vhost_blk_claim_drive(VHostBlk *s, Error **errp)
{
    BlockBackend *blk = s->conf.blk;
    uint64_t perm = BLK_PERM_CONSISTENT_READ;
    uint64_t shared = BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE_UNCHANGED;

    if (!vhost_blk_check_drive(s, errp)) {
        return false;
    }
    /*
     * The guest's writes bypass the host's page cache. Another reader in QEMU
     * could see old data. So share the node only if the user asks for it.
     */
    if (s->conf.share_rw) {
        shared |= BLK_PERM_WRITE;
    } else if (vhost_blk_is_writable(s)) {
        shared = 0;
    }
    if (vhost_blk_is_writable(s)) {
        perm |= BLK_PERM_WRITE;
    }
    if (blk_set_perm(blk, perm, shared | BLK_PERM_RESIZE, errp) < 0) {
        return false;
    }

    vhost_blk_block_drive(s);
    s->drive_removed.notify = vhost_blk_drive_removed;
    blk_add_remove_bs_notifier(blk, &s->drive_removed);
    blk_set_dev_ops(blk, &vhost_blk_dev_ops, s);
    s->watch_timer = timer_new_ms(QEMU_CLOCK_REALTIME, vhost_blk_watch_drive,
                                  s);
    vhost_blk_watch_drive(s);
    return true;
}

static void vhost_blk_release_drive(VHostBlk *s)
{
    timer_free(s->watch_timer);
    blk_set_dev_ops(s->conf.blk, NULL, NULL);
    notifier_remove(&s->drive_removed);
    if (s->drive_in_use) {
        vhost_blk_unblock_drive(s);
    }
    blk_set_perm(s->conf.blk, 0, BLK_PERM_ALL, &error_abort);
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
    case ENOTTY:
        return "property 'vhostfd' is no open " VHOST_BLK_DEV;
    default:
        return strerror(err);
    }
}

/* With share-rw=on, others may write to the device as well. */
static bool vhost_blk_wants_claim(VHostBlk *s)
{
    return vhost_blk_is_writable(s) && !s->conf.share_rw;
}

/* Identifies a block device. Fields that it does not report are 0. */
typedef struct {
    uint64_t sequence;          /* number of the disk, never used again */
    uint64_t size;              /* in bytes */
    struct hd_geometry geometry;        /* .start identifies a partition */
} VHostBlkDisk;

static bool vhost_blk_is_same_disk(const VHostBlkDisk *a, const VHostBlkDisk *b)
{
    return a->sequence == b->sequence && a->size == b->size &&
           a->geometry.start == b->geometry.start;
}

/* blk_ioctl() acts on the file that the node has open. */
static bool vhost_blk_check_disk(VHostBlk *s, Error **errp)
{
    BlockBackend *blk = s->conf.blk;
    VHostBlkDisk node = { 0 }, ours = { 0 };

    blk_ioctl(blk, HDIO_GETGEO, &node.geometry);
    ioctl(s->disk_fd, HDIO_GETGEO, &ours.geometry);
    if (blk_ioctl(blk, BLKGETDISKSEQ, &node.sequence) < 0 ||
        blk_ioctl(blk, BLKGETSIZE64, &node.size) < 0 ||
        ioctl(s->disk_fd, BLKGETDISKSEQ, &ours.sequence) < 0 ||
        ioctl(s->disk_fd, BLKGETSIZE64, &ours.size) < 0 ||
        !vhost_blk_is_same_disk(&node, &ours)) {
        error_setg(errp, "property 'drive': '%s' is not the device any more "
                   "that '%s' has open and locked: add the node again",
                   s->host_node->exact_filename,
                   bdrv_get_device_or_node_name(s->host_node));
        return false;
    }
    return true;
}

/*
 * A migration binds the device again. By then QEMU may have no access to the
 * name, or the name may belong to another device. So open it once, here.
 *
 * A node does not tell its fd. So open the device by name, and compare. For
 * /dev/fdset/N, QEMU finds the fd by its flags, so use the node's flags.
 */
static bool vhost_blk_open_disk(VHostBlk *s, Error **errp)
{
    int flags = vhost_blk_is_writable(s) ? O_RDWR : O_RDONLY;

    if (s->host_node->open_flags & BDRV_O_NOCACHE) {
        flags |= O_DIRECT;
    }
    s->disk_fd = qemu_open(s->host_node->exact_filename, flags, errp);
    if (s->disk_fd < 0) {
        return false;
    }
    if (!vhost_blk_check_disk(s, errp)) {
        qemu_close(s->disk_fd);
        return false;
    }
    return true;
}

static DeviceState *vhost_blk_transport(VHostBlk *s)
{
    return qdev_get_parent_bus(DEVICE(s))->parent;
}

/*
 * For counters and trace events. The kernel accepts any QEMU id. The user gives it to the
 * transport, or to this device on a virtio-mmio bus.
 */
static void vhost_blk_set_name(VHostBlk *s, int vhostfd)
{
    const char *id = DEVICE(s)->id ?: vhost_blk_transport(s)->id;
    struct vhost_blk_name name = {};

    if (id && strlen(id) < sizeof(name.name)) {
        memcpy(name.name, id, strlen(id));
        ioctl(vhostfd, VHOST_BLK_SET_NAME, &name);
    }
}

static bool vhost_blk_bind(VHostBlk *s, int vhostfd, bool claim, Error **errp)
{
    bool writable = vhost_blk_is_writable(s);
    struct vhost_blk_bind bind = {
        .fd = s->disk_fd,
        .flags = (writable ? 0 : VHOST_BLK_BIND_READ_ONLY) |
                 (claim ? 0 : VHOST_BLK_BIND_SHARED),
        .num_queues = s->num_queues,
    };

    if (s->serial) {
        memcpy(bind.serial, s->serial, strlen(s->serial));
    }
    if (ioctl(vhostfd, VHOST_BLK_BIND, &bind) < 0) {
        error_setg(errp, "property 'drive': the kernel does not serve '%s': %s",
                   s->host_node->exact_filename, vhost_blk_bind_advice(errno));
        return false;
    }
    s->claimed = claim;
    vhost_blk_set_name(s, vhostfd);
    return true;
}

/* While the device is stopped */
static bool vhost_blk_take_claim(VHostBlk *s, Error **errp)
{
    return s->claimed || !vhost_blk_wants_claim(s) ||
           vhost_blk_bind(s, vhost_blk_fd(s), true, errp);
}

static int vhost_blk_open_path(Error **errp)
{
    int vhostfd = qemu_open(VHOST_BLK_DEV, O_RDWR, NULL);

    if (vhostfd >= 0) {
        return vhostfd;
    }
    switch (errno) {
    case ENOENT:
    case ENODEV:
    case ENXIO:
        error_setg(errp, "the host has no " VHOST_BLK_DEV
                   ": load its module there (modprobe vhost_blk), or let "
                   "this QEMU see it, if it runs in a sandbox");
        break;
    case EACCES:
    case EPERM:
        error_setg(errp, "no permission to open " VHOST_BLK_DEV
                   ": let the user that runs QEMU read and write it, or open it "
                   "for QEMU and give it with vhostfd=");
        break;
    default:
        error_setg_errno(errp, errno, "opening " VHOST_BLK_DEV " failed");
    }
    return -1;
}

static int vhost_blk_open(VHostBlk *s, Error **errp)
{
    int vhostfd = s->vhostfd ? monitor_fd_param(monitor_cur(), s->vhostfd, errp)
                             : vhost_blk_open_path(errp);

    /* vhost core reads IOTLB misses until read() returns EAGAIN. */
    if (vhostfd >= 0 && !g_unix_set_fd_nonblocking(vhostfd, true, NULL)) {
        error_setg(errp, "property 'vhostfd': '%s' is not open", s->vhostfd);
        close(vhostfd);
        return -1;
    }
    return vhostfd;
}

static void vhost_blk_disconnect(VHostBlk *s)
{
    if (s->counters) {
        fclose(s->counters);
        s->counters = NULL;
    }
    vhost_dev_cleanup(&s->dev);
    if (s->discard_disabled) {
        ram_block_discard_disable(false);
        s->discard_disabled = false;
    }
    g_free(s->vqs);
    qemu_close(s->disk_fd);
}

/* The first queue uses the worker that the kernel made for all queues. */
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

static int vhost_blk_set_pinned(VHostBlk *s, uint32_t pin)
{
    return ioctl(vhost_blk_fd(s), VHOST_BLK_SET_PIN_MEMORY, &pin) < 0 ?
           -errno : 0;
}

/*
 * While the device is stopped, memory may be replaced by other memory at the
 * same address. vhost core does not tell the kernel, and the kernel compares
 * only addresses. So nothing stays pinned between two starts.
 */
static void vhost_blk_unpin_memory(VHostBlk *s)
{
    if (s->pin_memory) {
        vhost_blk_set_pinned(s, 0);
    }
}

/*
 * At the start pin what the new table has. The regions of the old one may be
 * gone, so that they can't be pinned.
 *
 * Later vhost core ignores an error after memory was plugged, and the guest
 * would use memory that the kernel does not know. So rather do without pinned
 * memory.
 */
static int vhost_blk_set_mem_table(struct vhost_dev *dev,
                                   struct vhost_memory *mem)
{
    VHostBlk *s = container_of(dev, VHostBlk, dev);
    int ret = s->kernel_ops->vhost_set_mem_table(dev, mem);

    if (!s->kernel_started) {
        return ret < 0 || s->pin_failed ? ret : vhost_blk_set_pinned(s, 1);
    }
    if (ret >= 0) {
        return ret;
    }
    warn_report("vhost-blk: memory that was plugged can't be pinned: %s: "
                "from now on 'pin-memory' is off", strerror(-ret));
    s->pin_failed = true;
    ret = vhost_blk_set_pinned(s, 0);
    return ret < 0 ? ret : s->kernel_ops->vhost_set_mem_table(dev, mem);
}

/*
 * If QEMU discarded a page that is pinned, the guest and the kernel would use
 * different ones.
 */
static bool vhost_blk_prepare_pinning(VHostBlk *s, Error **errp)
{
    int ret = ram_block_discard_disable(true);

    if (ret < 0) {
        error_setg_errno(errp, -ret, "property 'pin-memory': a device of this "
                         "machine discards memory (virtio-mem)");
        return false;
    }
    s->discard_disabled = true;
    ret = vhost_blk_set_pinned(s, 0);
    if (ret == -ENOTTY) {
        error_setg(errp, "property 'pin-memory': the loaded vhost_blk is "
                   "too old: load a newer one");
        return false;
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "property 'pin-memory': the kernel "
                         "does not pin memory");
        return false;
    }
    s->vhost_ops.vhost_set_mem_table = vhost_blk_set_mem_table;
    return true;
}

static void vhost_blk_add_pin_hint(VHostBlk *s, int error, Error **errp)
{
    if (s->pin_memory && error == ENOMEM) {
        error_append_hint(errp, "pin-memory=on needs a limit of locked memory "
                          "(ulimit -l) above the guest's memory.\n");
    } else if (s->pin_memory && error == EOPNOTSUPP) {
        error_append_hint(errp, "pin-memory=on needs memory of QEMU, of a "
                          "memfd, or of a file in tmpfs or hugetlbfs.\n");
    }
}

/*
 * The kernel found an error in a ring, and stopped fetching from it. The other
 * rings run until the driver resets the device.
 */
static void vhost_blk_ring_broke(EventNotifier *notifier)
{
    struct vhost_virtqueue *vq = container_of(notifier, struct vhost_virtqueue,
                                              error_notifier);
    VHostBlk *s = container_of(vq->dev, VHostBlk, dev);
    VirtIODevice *vdev = VIRTIO_DEVICE(s);

    if (event_notifier_test_and_clear(notifier) &&
        vhost_dev_is_started(&s->dev) && !vdev->broken) {
        virtio_error(vdev, "vhost-blk: ring error in queue %td: the driver has "
                     "to reset the device", vq - s->vqs);
    }
}

/* Replaces vhost core's handlers, which don't tell the guest */
static void vhost_blk_watch_rings(VHostBlk *s)
{
    for (unsigned int i = 0; i < s->num_queues; i++) {
        event_notifier_set_handler(&s->vqs[i].error_notifier,
                                   vhost_blk_ring_broke);
    }
}

static bool vhost_blk_connect(VHostBlk *s, Error **errp)
{
    bool incoming = runstate_check(RUN_STATE_INMIGRATE);
    int vhostfd;

    if (!vhost_blk_open_disk(s, errp)) {
        return false;
    }
    vhostfd = vhost_blk_open(s, errp);
    if (vhostfd < 0) {
        goto err_disk;
    }
    /* Before a bind the kernel refuses all other ioctls. */
    if (!vhost_blk_bind(s, vhostfd, vhost_blk_wants_claim(s) && !incoming,
                        errp)) {
        close(vhostfd);
        goto err_disk;
    }

    s->vqs = g_new0(struct vhost_virtqueue, s->num_queues);
    s->dev.vqs = s->vqs;
    s->dev.nvqs = s->num_queues;
    /* vhost_dev_init() takes the fd, also if it fails. */
    if (vhost_dev_init(&s->dev, (void *)(uintptr_t)vhostfd,
                       VHOST_BACKEND_TYPE_KERNEL, s->poll_us, errp) < 0) {
        g_free(s->vqs);
        goto err_disk;
    }
    s->kernel_ops = s->dev.vhost_ops;
    s->vhost_ops = *s->kernel_ops;
    s->dev.vhost_ops = &s->vhost_ops;
    vhost_blk_watch_rings(s);
    vhost_blk_open_counters(s);
    if ((s->worker_per_virtqueue && !vhost_blk_make_workers(s, errp)) ||
        (s->pin_memory && !vhost_blk_prepare_pinning(s, errp))) {
        vhost_blk_disconnect(s);
        return false;
    }
    return true;

err_disk:
    qemu_close(s->disk_fd);
    return false;
}

/* Start and stop */

static int vhost_blk_set_running(VHostBlk *s, uint32_t running)
{
    return vhost_blk_drain_ioctl(s, VHOST_BLK_SET_RUNNING, &running);
}

/*
 * If the stop fails, the kernel keeps running. The next start repeats the stop
 * first, because the kernel refuses other changes before.
 */
static int vhost_blk_stop_kernel(VHostBlk *s)
{
    int ret = vhost_blk_set_running(s, 0);

    if (ret == -EAGAIN) {
        /*
         * The guest unmapped its rings with requests in flight. Real hardware
         * could not report their end either. Let the kernel write the used
         * elements to the scratch page.
         */
        vhost_blk_map_rings(s, true);
        ret = vhost_blk_set_running(s, 0);
    }
    s->kernel_runs = ret < 0;
    return ret;
}

/*
 * vhost core passes only rings that the guest has set up. Clear the addresses
 * of all others, which may be those of an earlier guest.
 */
static int vhost_blk_clear_unused_rings(VHostBlk *s)
{
    VirtIODevice *vdev = VIRTIO_DEVICE(s);
    int ret = 0;

    for (unsigned int i = 0; i < s->dev.nvqs && !ret; i++) {
        struct vhost_vring_addr none = { .index = i };

        if (!virtio_queue_get_desc_addr(vdev, i)) {
            ret = s->dev.vhost_ops->vhost_set_vring_addr(&s->dev, &none);
        }
    }
    return ret;
}

/* As vhost core does it for the rings of all queues */
static int vhost_blk_map_used_rings(VHostBlk *s)
{
    int ret = 0;

    for (unsigned int i = 0; i < s->dev.nvqs && !ret; i++) {
        if (s->vqs[i].desc_phys) {
            ret = vhost_device_iotlb_miss(&s->dev, s->vqs[i].used_phys, true);
        }
    }
    return ret;
}

/*
 * With a virtual IOMMU vhost core maps the used rings of all queues. This fails
 * for a queue that the guest does not use, and so would the start. Therefore
 * hide from vhost core that misses can be received, and do both here.
 */
static int vhost_blk_start_vhost(VHostBlk *s)
{
    VirtIODevice *vdev = VIRTIO_DEVICE(s);
    int ret;

    s->vhost_ops.vhost_set_iotlb_callback = NULL;
    ret = vhost_dev_start(&s->dev, vdev, true);
    s->vhost_ops.vhost_set_iotlb_callback =
        s->kernel_ops->vhost_set_iotlb_callback;
    if (ret < 0 || !vhost_dev_has_iommu(&s->dev)) {
        return ret;
    }

    s->vhost_ops.vhost_set_iotlb_callback(&s->dev, true);
    ret = vhost_blk_map_used_rings(s);
    if (ret < 0) {
        vhost_dev_stop(&s->dev, vdev, true);
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

    if (virtio_is_big_endian(vdev)) {
        error_setg(errp, "a big-endian guest needs a driver for virtio 1.0");
        return false;
    }

    ret = s->kernel_runs ? vhost_blk_stop_kernel(s) : 0;
    if (ret < 0) {
        error_setg_errno(errp, -ret, "the kernel still does not stop the rings");
        return false;
    }

    if (!vhost_blk_take_claim(s, errp)) {
        return false;
    }

    ret = vhost_dev_enable_notifiers(&s->dev, vdev);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "setting up the kick eventfds failed");
        return false;
    }

    /* This calls guest_notifier_mask() for each interrupt. */
    ret = k->set_guest_notifiers(qbus->parent, s->dev.nvqs, true);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "setting up the interrupt eventfds failed");
        goto err_host_notifiers;
    }

    /* Drop errors of the rings of the last run. */
    for (unsigned int i = 0; i < s->dev.nvqs; i++) {
        event_notifier_test_and_clear(&s->vqs[i].error_notifier);
    }
    s->dev.acked_features = vdev->guest_features;
    ret = vhost_blk_start_vhost(s);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "the kernel refuses the guest's rings");
        vhost_blk_add_pin_hint(s, -ret, errp);
        goto err_guest_notifiers;
    }

    ret = vhost_blk_clear_unused_rings(s);
    if (!ret) {
        /* A bind resets the cache mode. */
        ret = vhost_blk_use_write_cache(s, s->write_cache);
    }
    if (!ret) {
        ret = vhost_blk_set_running(s, 1);
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "the kernel does not run the rings");
        goto err_vhost;
    }
    s->kernel_started = true;
    s->stop_error = 0;
    /*
     * The source had a smaller capacity, or the driver has read it before a
     * resize: tell the guest, once QEMU has stored the status that this start
     * is a part of. Before that it does not notify.
     */
    if (s->capacity_there != le64_to_cpu(s->config.capacity)) {
        s->capacity_there = le64_to_cpu(s->config.capacity);
        event_notifier_set(&s->config_changed);
    }
    return true;

err_vhost:
    vhost_dev_stop(&s->dev, vdev, true);
err_guest_notifiers:
    vhost_blk_unpin_memory(s);
    k->set_guest_notifiers(qbus->parent, s->dev.nvqs, false);
err_host_notifiers:
    vhost_dev_disable_notifiers(&s->dev, vdev);
    return false;
}

static void vhost_blk_report_no_start(VirtIODevice *vdev, Error *err)
{
    /* The user knows the name of the transport, not of this device. */
    DeviceState *transport = vhost_blk_transport(VHOST_BLK(vdev));
    g_autofree char *name = qdev_get_human_name(transport);

    error_append_hint(&err, "The guest's requests wait. Remove the cause and "
                      "'stop' and 'cont' the machine, or reset it.\n");
    error_reportf_err(err, "vhost-blk %s does not start: ", name);
}

static void vhost_blk_start_or_report(VirtIODevice *vdev)
{
    Error *err = NULL;

    if (!vhost_blk_start(vdev, &err)) {
        vhost_blk_report_no_start(vdev, err);
    }
}

static int vhost_blk_stop(VirtIODevice *vdev)
{
    VHostBlk *s = VHOST_BLK(vdev);
    BusState *qbus = qdev_get_parent_bus(DEVICE(vdev));
    VirtioBusClass *k = VIRTIO_BUS_GET_CLASS(qbus);
    int stopped, ret;

    /*
     * Stop the kernel first. vhost_dev_stop() reads the ring positions, which
     * are final only when nothing is in flight.
     */
    stopped = vhost_blk_stop_kernel(s);
    s->kernel_started = false;
    if (stopped < 0) {
        error_report("vhost-blk: the kernel does not stop the rings: %s",
                     strerror(-stopped));
    }

    vhost_blk_update_counters(s);
    vhost_dev_stop(&s->dev, vdev, true);
    vhost_blk_unpin_memory(s);

    ret = k->set_guest_notifiers(qbus->parent, s->dev.nvqs, false);
    if (ret < 0) {
        error_report("vhost-blk: taking down the interrupt eventfds failed: %s",
                     strerror(-ret));
    }

    vhost_dev_disable_notifiers(&s->dev, vdev);
    s->stop_error = stopped;
    return stopped;
}

/*
 * A PCI device without bus mastering must not access memory. After kexec the
 * memory belongs to another kernel.
 */
static bool vhost_blk_may_use_memory(VirtIODevice *vdev)
{
    Object *transport = OBJECT(vhost_blk_transport(VHOST_BLK(vdev)));
    Object *pci = object_dynamic_cast(transport, TYPE_PCI_DEVICE);

    return !pci || pci_get_word(PCI_DEVICE(pci)->config + PCI_COMMAND) &
                   PCI_COMMAND_MASTER;
}

/* Called for the guest's status, reset, stop and cont */
static int vhost_blk_set_status(VirtIODevice *vdev, uint8_t status)
{
    VHostBlk *s = VHOST_BLK(vdev);
    bool start = virtio_device_should_start(vdev, status) &&
                 vhost_blk_may_use_memory(vdev);

    if (start == vhost_dev_is_started(&s->dev)) {
        return 0;
    }
    if (!start) {
        return vhost_blk_stop(vdev);
    }
    vhost_blk_start_or_report(vdev);
    return 0;
}

SET_STATUS_OP(vhost_blk_set_status)

/*
 * A kick that did not go to the kernel. A driver before virtio 1.0 may kick
 * before it sets DRIVER_OK, and wait for the result.
 */
static void vhost_blk_handle_output(VirtIODevice *vdev, VirtQueue *vq)
{
    if (!vdev->start_on_kick || !vhost_blk_may_use_memory(vdev)) {
        return;
    }
    /* Set it first: a start that fails calls this function again. */
    virtio_set_started(vdev, true);
    vhost_blk_start_or_report(vdev);
}

/*
 * A stopped machine may continue elsewhere, or from a file. So its writes must
 * be durable, also those of a driver that has reset the device since.
 *
 * QEMU's block layer saw no write, so it does not flush. The kernel flushes when
 * the cache mode changes, but a driver that takes VIRTIO_BLK_F_FLUSH and not
 * VIRTIO_BLK_F_CONFIG_WCE writes back in either mode. fsync() always flushes.
 */
static int vhost_blk_flush(VHostBlk *s)
{
    int ret;

    if (!vhost_blk_is_writable(s) ||
        RETRY_ON_EINTR(fsync(s->disk_fd)) == 0) {
        return 0;
    }
    ret = -errno;
    error_report("vhost-blk: the kernel does not flush the device's cache: %s",
                 strerror(-ret));
    return ret;
}

/*
 * Called after the devices have stopped, and before they start. A disk without
 * a driver is claimed here: after a migration nobody else may write to it. A
 * device that starts takes its claim itself.
 */
static void vhost_blk_vm_state_changed(void *opaque, bool running,
                                       RunState state)
{
    VHostBlk *s = opaque;
    VirtIODevice *vdev = VIRTIO_DEVICE(s);
    Error *err = NULL;

    if (!running) {
        s->flush_error = vhost_blk_flush(s);
        return;
    }
    if (virtio_device_started(vdev, vdev->status) &&
        vhost_blk_may_use_memory(vdev)) {
        return;
    }
    if (!vhost_blk_take_claim(s, &err)) {
        vhost_blk_report_no_start(vdev, err);
    }
}

/* Interrupts */

/* The kernel sends no configuration interrupt, so ignore its mask. */
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

/* Migration */

/*
 * Fields of the configuration space that the guest may have read. They must be
 * the same on the destination. Only the capacity may be larger there.
 */
static const struct {
    const char *name;
    size_t offset;
    size_t size;
    int feature;                /* the field is valid with it; -1: always */
} vhost_blk_identity[VHOST_BLK_IDENTITY_FIELDS] = {
#define IDENTITY(field, bit) {                                          \
        .name = #field,                                                 \
        .offset = offsetof(struct virtio_blk_config, field),            \
        .size = sizeof_field(struct virtio_blk_config, field),          \
        .feature = bit }
    IDENTITY(num_queues, -1),
    IDENTITY(size_max, VIRTIO_BLK_F_SIZE_MAX),
    IDENTITY(seg_max, VIRTIO_BLK_F_SEG_MAX),
    IDENTITY(blk_size, VIRTIO_BLK_F_BLK_SIZE),
    IDENTITY(physical_block_exp, VIRTIO_BLK_F_TOPOLOGY),
    IDENTITY(alignment_offset, VIRTIO_BLK_F_TOPOLOGY),
    IDENTITY(min_io_size, VIRTIO_BLK_F_TOPOLOGY),
    IDENTITY(opt_io_size, VIRTIO_BLK_F_TOPOLOGY),
    IDENTITY(max_discard_sectors, VIRTIO_BLK_F_DISCARD),
    IDENTITY(max_discard_seg, VIRTIO_BLK_F_DISCARD),
    IDENTITY(discard_sector_alignment, VIRTIO_BLK_F_DISCARD),
    IDENTITY(max_write_zeroes_sectors, VIRTIO_BLK_F_WRITE_ZEROES),
    IDENTITY(max_write_zeroes_seg, VIRTIO_BLK_F_WRITE_ZEROES),
    IDENTITY(write_zeroes_may_unmap, VIRTIO_BLK_F_WRITE_ZEROES),
    IDENTITY(max_secure_erase_sectors, VIRTIO_BLK_F_SECURE_ERASE),
    IDENTITY(max_secure_erase_seg, VIRTIO_BLK_F_SECURE_ERASE),
    IDENTITY(secure_erase_sector_alignment, VIRTIO_BLK_F_SECURE_ERASE),
#undef IDENTITY
};

/* Returns a field, or 0 if the source did not offer its feature */
static uint64_t vhost_blk_identity_field(VHostBlk *s, uint64_t features,
                                         unsigned int i)
{
    int feature = vhost_blk_identity[i].feature;

    if (feature >= 0 && !virtio_has_feature(features, feature)) {
        return 0;
    }
    return ldn_le_p((const uint8_t *)&s->config + vhost_blk_identity[i].offset,
                    vhost_blk_identity[i].size);
}

static int vhost_blk_save_identity(void *opaque)
{
    VHostBlk *s = opaque;

    s->features_there = VIRTIO_DEVICE(s)->host_features;
    s->capacity_there = le64_to_cpu(s->config.capacity);
    for (unsigned int i = 0; i < VHOST_BLK_IDENTITY_FIELDS; i++) {
        s->identity_there[i] = vhost_blk_identity_field(s, s->features_there,
                                                        i);
    }
    return 0;
}

static void vhost_blk_report_difference(const char *name, uint64_t there,
                                        uint64_t here)
{
    error_report("vhost-blk: the source's disk has %s %" PRIu64 ", this "
                 "one %" PRIu64 ": give both the same block device and "
                 "properties", name, there, here);
}

static int vhost_blk_load_identity(void *opaque, int version_id)
{
    VHostBlk *s = opaque;
    uint64_t lacking = s->features_there & ~VIRTIO_DEVICE(s)->host_features;
    uint64_t capacity = le64_to_cpu(s->config.capacity);

    if (lacking) {
        error_report("vhost-blk: the source's disk has features that this one "
                     "has not (bits 0x%" PRIx64 "): give both the same block "
                     "device and properties", lacking);
        return -EINVAL;
    }
    if (capacity < s->capacity_there) {
        vhost_blk_report_difference("capacity", s->capacity_there, capacity);
        return -EINVAL;
    }
    for (unsigned int i = 0; i < VHOST_BLK_IDENTITY_FIELDS; i++) {
        uint64_t here = vhost_blk_identity_field(s, s->features_there, i);

        if (here != s->identity_there[i]) {
            vhost_blk_report_difference(vhost_blk_identity[i].name,
                                        s->identity_there[i], here);
            return -EINVAL;
        }
    }
    return 0;
}

static const VMStateDescription vmstate_vhost_blk_identity = {
    .name = "vhost-blk-identity",
    .version_id = 2,
    .minimum_version_id = 2,
    .early_setup = true,
    .pre_save = vhost_blk_save_identity,
    .post_load = vhost_blk_load_identity,
    .fields = (const VMStateField[]) {
        VMSTATE_UINT64(features_there, VHostBlk),
        VMSTATE_UINT64(capacity_there, VHostBlk),
        VMSTATE_UINT64_ARRAY(identity_there, VHostBlk,
                             VHOST_BLK_IDENTITY_FIELDS),
        VMSTATE_END_OF_LIST()
    },
};

/*
 * The source has stopped and releases its claim. If it continues after all, it
 * takes the claim again.
 *
 * QEMU 10.0 ignores the result of set_status. So fail the migration here if the
 * stop failed: the disk may lack writes that the guest takes for durable.
 */
static int vhost_blk_release_claim(void *opaque)
{
    VHostBlk *s = opaque;
    int stopped = s->stop_error ?: s->flush_error;
    Error *err = NULL;

    if (stopped < 0) {
        error_report("vhost-blk: the device's last stop failed, so the guest "
                     "can't leave: %s", strerror(-stopped));
        return stopped;
    }

    if (s->claimed && !vhost_blk_bind(s, vhost_blk_fd(s), false, &err)) {
        error_report_err(err);
        return -EIO;
    }
    return 0;
}

static const VMStateDescription vmstate_vhost_blk_device = {
    .name = "vhost-blk-device",
    .version_id = 1,
    .minimum_version_id = 1,
    .fields = (const VMStateField[]) {
        VMSTATE_BOOL(write_cache, VHostBlk),
        VMSTATE_END_OF_LIST()
    },
};

static const VMStateDescription vmstate_vhost_blk = {
    .name = "vhost-blk",
    .version_id = 1,
    .minimum_version_id = 1,
    .pre_save = vhost_blk_release_claim,
    .fields = (const VMStateField[]) {
        VMSTATE_VIRTIO_DEVICE,
        VMSTATE_END_OF_LIST()
    },
};

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
    /* Watch before the first read, so that no change is lost. */
    if (!vhost_blk_watch_config(s, errp)) {
        goto err_connection;
    }
    if (!vhost_blk_read_config(s, &s->config, errp)) {
        goto err_watch;
    }
    s->capacity_there = le64_to_cpu(s->config.capacity);

    s->write_cache = vhost_blk_default_write_cache(s);
    virtio_init(vdev, VIRTIO_ID_BLOCK,
                virtio_get_config_size(&vhost_blk_config_size,
                                       s->dev.features));
    for (int i = 0; i < s->num_queues; i++) {
        virtio_add_queue(vdev, s->queue_size, vhost_blk_handle_output);
    }
    vmstate_register_any(VMSTATE_IF(dev), &vmstate_vhost_blk_identity, s);
    s->vm_state = qemu_add_vm_change_state_handler(vhost_blk_vm_state_changed,
                                                   s);
    return;

err_watch:
    vhost_blk_unwatch_config(s);
err_connection:
    vhost_blk_disconnect(s);
err_drive:
    vhost_blk_release_drive(s);
}

static void vhost_blk_unrealize(DeviceState *dev)
{
    VHostBlk *s = VHOST_BLK(dev);
    VirtIODevice *vdev = VIRTIO_DEVICE(dev);

    qemu_del_vm_change_state_handler(s->vm_state);
    vmstate_unregister(VMSTATE_IF(dev), &vmstate_vhost_blk_identity, s);
    virtio_set_status(vdev, 0);

    for (int i = 0; i < s->num_queues; i++) {
        virtio_del_queue(vdev, i);
    }
    virtio_cleanup(vdev);

    vhost_blk_unwatch_config(s);
    vhost_blk_disconnect(s);
    vhost_blk_release_drive(s);
    blockdev_mark_auto_del(s->conf.blk);
}

static struct vhost_dev *vhost_blk_get_vhost(VirtIODevice *vdev)
{
    return &VHOST_BLK(vdev)->dev;
}

static void vhost_blk_instance_init(Object *obj)
{
    device_add_bootindex_property(obj, &VHOST_BLK(obj)->conf.bootindex,
                                  "bootindex", "/disk@0,0", DEVICE(obj));
}

/*
 * The usual drive= property, but it can't be changed after realize: the kernel
 * would not see a filter node that is inserted.
 */
static PropertyInfo vhost_blk_prop_drive;

static const Property vhost_blk_properties[] = {
    DEFINE_PROP("drive", VHostBlk, conf.blk, vhost_blk_prop_drive,
                BlockBackend *),
    DEFINE_PROP_BLOCKSIZE("logical_block_size", VHostBlk,
                          conf.logical_block_size),
    DEFINE_PROP_BLOCKSIZE("physical_block_size", VHostBlk,
                          conf.physical_block_size),
    DEFINE_PROP_SIZE32("min_io_size", VHostBlk, conf.min_io_size, 0),
    DEFINE_PROP_SIZE32("opt_io_size", VHostBlk, conf.opt_io_size, 0),
    DEFINE_PROP_SIZE32("discard_granularity", VHostBlk,
                       conf.discard_granularity, -1),
    DEFINE_PROP_UINT32("max-discard-sectors", VHostBlk, max_discard_sectors,
                       0),
    DEFINE_PROP_UINT32("max-write-zeroes-sectors", VHostBlk,
                       max_write_zeroes_sectors, 0),
    DEFINE_PROP_ON_OFF_AUTO("write-cache", VHostBlk, conf.wce,
                            ON_OFF_AUTO_AUTO),
    DEFINE_PROP_BOOL("share-rw", VHostBlk, conf.share_rw, false),
    DEFINE_PROP_STRING("serial", VHostBlk, serial),
    DEFINE_PROP_BIT64("config-wce", VHostBlk, parent_obj.host_features,
                      VIRTIO_BLK_F_CONFIG_WCE, true),
    DEFINE_PROP_BIT64("discard", VHostBlk, parent_obj.host_features,
                      VIRTIO_BLK_F_DISCARD, true),
    DEFINE_PROP_BIT64("write-zeroes", VHostBlk, parent_obj.host_features,
                      VIRTIO_BLK_F_WRITE_ZEROES, true),
    DEFINE_PROP_UINT16("num-queues", VHostBlk, num_queues,
                       VHOST_BLK_AUTO_NUM_QUEUES),
    DEFINE_PROP_UINT16("queue-size", VHostBlk, queue_size, 256),
    DEFINE_PROP_BOOL("seg-max-adjust", VHostBlk, seg_max_adjust, true),
    DEFINE_PROP_UINT32("poll-us", VHostBlk, poll_us, 0),
    DEFINE_PROP_BOOL("worker-per-virtqueue", VHostBlk, worker_per_virtqueue,
                     false),
    DEFINE_PROP_BOOL("pin-memory", VHostBlk, pin_memory, false),
    DEFINE_PROP_STRING("vhostfd", VHostBlk, vhostfd),
};

static void vhost_blk_class_init(ObjectClass *klass, VHOST_BLK_CLASS_DATA data)
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
    vdc->set_config = vhost_blk_set_config;
    vdc->set_status = vhost_blk_set_status_op;
    vdc->reset = vhost_blk_reset;
    vdc->vmsd = &vmstate_vhost_blk_device;
    vdc->guest_notifier_mask = vhost_blk_guest_notifier_mask;
    vdc->guest_notifier_pending = vhost_blk_guest_notifier_pending;
    vdc->get_vhost = vhost_blk_get_vhost;
    vdc->toggle_device_iotlb = vhost_toggle_device_iotlb;
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

// SPDX-License-Identifier: GPL-2.0-only
/*
 * virtio_blk: the guest driver for virtio block devices (virtio 1.4, section
 * 5.2). Here are the driver and the life of a disk; virtio_blk.h tells where the
 * rest is.
 *
 * The device need not be trusted, as it is not in a confidential guest: whatever
 * it says or does costs at most the data of its own disk.
 */
#include <linux/idr.h>
#include <linux/interrupt.h>
#include <linux/module.h>
#include <linux/pm.h>
#include <linux/slab.h>
#include <linux/virtio_config.h>

#include "virtio_blk.h"

#define VIRTIO_BLK_MINORS	16

static int virtio_blk_major;
static DEFINE_IDA(virtio_blk_ida);

static int virtio_blk_getgeo(struct gendisk *disk, struct hd_geometry *geo)
{
	struct virtio_blk *vblk = disk->private_data;

	geo->heads = vblk->geometry.heads;
	geo->sectors = vblk->geometry.sectors;
	geo->cylinders = vblk->geometry.cylinders;
	if (!geo->heads || !geo->sectors) {
		/* What SCSI disks of this size show: a cylinder has 1 MiB. */
		geo->heads = 64;
		geo->sectors = 32;
		geo->cylinders = get_capacity(disk) >> 11;
	}
	return 0;
}

GETGEO_OP(virtio_blk_getgeo)

#ifdef CONFIG_BLK_DEV_ZONED
REPORT_ZONES_OP(virtio_blk_report_zones)
#endif

static void virtio_blk_free(struct virtio_blk *vblk)
{
	ida_free(&virtio_blk_ida, vblk->index);
	kfree(vblk);
}

static void virtio_blk_free_disk(struct gendisk *disk)
{
	virtio_blk_free(disk->private_data);
}

static const struct block_device_operations virtio_blk_fops = {
	.owner		= THIS_MODULE,
	.getgeo		= virtio_blk_getgeo_op,
#ifdef CONFIG_BLK_DEV_ZONED
	.report_zones	= virtio_blk_report_zones_op,
#endif
	.free_disk	= virtio_blk_free_disk,
};

static void virtio_blk_config_work(struct work_struct *work)
{
	struct virtio_blk *vblk =
		container_of(work, struct virtio_blk, config_work);

	virtio_blk_update_capacity(vblk, true);
}

static void virtio_blk_config_changed(struct virtio_device *vdev)
{
	struct virtio_blk *vblk = vdev->priv;

	queue_work(system_freezable_wq, &vblk->config_work);
}

/* vda to vdz, then vdaa and so on. */
static void virtio_blk_name(int index, char *name)
{
	char letters[DISK_NAME_LEN] = {};
	int i = sizeof(letters) - 1;

	do {
		letters[--i] = 'a' + index % 26;
		index = index / 26 - 1;
	} while (index >= 0);
	snprintf(name, DISK_NAME_LEN, "vd%.*s", DISK_NAME_LEN - 3, &letters[i]);
}

static int virtio_blk_alloc_disk(struct virtio_blk *vblk)
{
	struct queue_limits lim = {};
	struct gendisk *disk;
	int err;

	err = virtio_blk_read_limits(vblk, &lim);
	if (err)
		return err;
	disk = blk_mq_alloc_disk(&vblk->tag_set, &lim, vblk);
	if (IS_ERR(disk)) {
		dev_err(&vblk->vdev->dev, "limits of the device are refused\n");
		return PTR_ERR(disk);
	}

	virtio_blk_name(vblk->index, disk->disk_name);
	disk->major = virtio_blk_major;
	disk->first_minor = vblk->index * VIRTIO_BLK_MINORS;
	disk->minors = VIRTIO_BLK_MINORS;
	disk->fops = &virtio_blk_fops;
	disk->private_data = vblk;
	if (virtio_has_feature(vblk->vdev, VIRTIO_BLK_F_RO))
		set_disk_ro(disk, true);
	virtio_blk_read_geometry(vblk);
	vblk->disk = disk;
	return 0;
}

static struct virtio_blk *virtio_blk_new(struct virtio_device *vdev)
{
	struct virtio_blk *vblk = kzalloc_obj(*vblk, GFP_KERNEL);
	int index;

	if (!vblk)
		return ERR_PTR(-ENOMEM);
	index = ida_alloc_max(&virtio_blk_ida,
			      (1 << MINORBITS) / VIRTIO_BLK_MINORS - 1,
			      GFP_KERNEL);
	if (index < 0) {
		kfree(vblk);
		return ERR_PTR(index);
	}
	vblk->index = index;
	vblk->vdev = vdev;
	vdev->priv = vblk;
	INIT_WORK(&vblk->config_work, virtio_blk_config_work);
	virtio_blk_init_recovery(vblk);
	return vblk;
}

/* From here on there is I/O: zones, then the partition table are read. */
static int virtio_blk_go_live(struct virtio_blk *vblk)
{
	int err;

	virtio_device_ready(vblk->vdev);
	err = virtio_blk_revalidate_zones(vblk);
	if (!err)
		err = device_add_disk(&vblk->vdev->dev, vblk->disk,
				      virtio_blk_groups);
	if (err) {
		disable_work_sync(&vblk->config_work);
		virtio_blk_reset_device(vblk);
	}
	return err;
}

static int virtio_blk_probe(struct virtio_device *vdev)
{
	struct virtio_blk *vblk;
	int err;

	if (!vdev->config->get) {
		dev_err(&vdev->dev, "no access to the configuration space\n");
		return -EINVAL;
	}
	vblk = virtio_blk_new(vdev);
	if (IS_ERR(vblk))
		return PTR_ERR(vblk);
	err = virtio_blk_init_queues(vblk);
	if (err)
		goto err_free;
	err = virtio_blk_alloc_tags(vblk);
	if (err)
		goto err_queues;
	err = virtio_blk_alloc_disk(vblk);
	if (err)
		goto err_tags;
	err = virtio_blk_update_capacity(vblk, false);
	if (!err)
		err = virtio_blk_go_live(vblk);
	if (err)
		goto err_disk;
	return 0;

err_disk:
	/* Of a disk that was never added, free_disk is not called. */
	put_disk(vblk->disk);
err_tags:
	blk_mq_free_tag_set(&vblk->tag_set);
err_queues:
	virtio_blk_exit_queues(vblk);
err_free:
	virtio_blk_free(vblk);
	return err;
}

static void virtio_blk_remove(struct virtio_device *vdev)
{
	struct virtio_blk *vblk = vdev->priv;

	/* The core reports no more changes; a recovery may ask for it, too. */
	disable_work_sync(&vblk->config_work);
	/* Requests fail before those who use the disk hear of it, and wait. */
	if (virtio_blk_abandon_broken(vblk))
		blk_mark_disk_dead(vblk->disk);
	/* Waits for the requests in flight, for which the device must still work. */
	del_gendisk(vblk->disk);
	virtio_blk_reset_device(vblk);
	blk_mq_free_tag_set(&vblk->tag_set);
	virtio_blk_exit_queues(vblk);
	vblk->vdev = NULL;
	put_disk(vblk->disk);
}

/* For suspend, hibernation, and a reset by the transport. */
static int virtio_blk_freeze(struct virtio_device *vdev)
{
	struct virtio_blk *vblk = vdev->priv;
	struct request_queue *q = vblk->disk->queue;
	unsigned int memflags;

	/* Lets the device end what it has, and holds up what comes. */
	memflags = blk_mq_freeze_queue(q);
	blk_mq_quiesce_queue_nowait(q);
	blk_mq_unfreeze_queue(q, memflags);

	cancel_work_sync(&vblk->config_work);
	virtio_blk_reset_device(vblk);
	virtio_blk_stop_queues(vblk);
	return 0;
}

static int virtio_blk_restore(struct virtio_device *vdev)
{
	struct virtio_blk *vblk = vdev->priv;
	int err = virtio_blk_start(vblk);

	/* If it did not start, what was held up fails rather than waits for ever. */
	blk_mq_unquiesce_queue(vblk->disk->queue);
	return err;
}

static const struct virtio_device_id virtio_blk_ids[] = {
	{ VIRTIO_ID_BLOCK, VIRTIO_DEV_ANY_ID },
	{ 0 },
};
MODULE_DEVICE_TABLE(virtio, virtio_blk_ids);

static const unsigned int virtio_blk_features[] = {
	VIRTIO_BLK_F_SIZE_MAX,
	VIRTIO_BLK_F_SEG_MAX,
	VIRTIO_BLK_F_GEOMETRY,
	VIRTIO_BLK_F_RO,
	VIRTIO_BLK_F_BLK_SIZE,
	VIRTIO_BLK_F_FLUSH,
	VIRTIO_BLK_F_TOPOLOGY,
	VIRTIO_BLK_F_CONFIG_WCE,
	VIRTIO_BLK_F_MQ,
	VIRTIO_BLK_F_DISCARD,
	VIRTIO_BLK_F_WRITE_ZEROES,
	VIRTIO_BLK_F_LIFETIME,
	VIRTIO_BLK_F_SECURE_ERASE,
	/* The last one: legacy devices have none of it. */
	VIRTIO_BLK_F_ZONED,
};

static struct virtio_driver virtio_blk_driver = {
	.driver.name		= KBUILD_MODNAME,
	.id_table		= virtio_blk_ids,
	.feature_table		= virtio_blk_features,
	.feature_table_size	= ARRAY_SIZE(virtio_blk_features),
	.feature_table_legacy	= virtio_blk_features,
	.feature_table_size_legacy = ARRAY_SIZE(virtio_blk_features) - 1,
	.probe			= virtio_blk_probe,
	.remove			= virtio_blk_remove,
	.config_changed		= virtio_blk_config_changed,
	.freeze			= pm_sleep_ptr(virtio_blk_freeze),
	.restore		= pm_sleep_ptr(virtio_blk_restore),
	VIRTIO_RESET_OPS(virtio_blk_freeze, virtio_blk_restore)
};

static int __init virtio_blk_init(void)
{
	int err;

	virtio_blk_major = register_blkdev(0, "virtblk");
	if (virtio_blk_major < 0)
		return virtio_blk_major;
	err = register_virtio_driver(&virtio_blk_driver);
	if (err == -EEXIST || err == -EBUSY)
		pr_err("virtio_blk: another driver of this name is in the kernel; unload it, or boot without it if it is built in\n");
	if (err)
		unregister_blkdev(virtio_blk_major, "virtblk");
	return err;
}
module_init(virtio_blk_init);

static void __exit virtio_blk_exit(void)
{
	unregister_virtio_driver(&virtio_blk_driver);
	unregister_blkdev(virtio_blk_major, "virtblk");
}
module_exit(virtio_blk_exit);

MODULE_DESCRIPTION("Virtio block driver");
MODULE_LICENSE("GPL");

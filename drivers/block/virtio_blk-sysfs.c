// SPDX-License-Identifier: GPL-2.0-only
/*
 * virtio_blk: attributes of the disk in sysfs, which go before the device does.
 *
 *	serial			what VIRTIO_BLK_T_GET_ID answers
 *	cache_type		"write back" or "write through"; to be written if
 *				the device can change it (VIRTIO_BLK_F_CONFIG_WCE)
 *	life_time, pre_eol_info	how worn the medium is (VIRTIO_BLK_F_LIFETIME), as
 *				eMMC devices show it, where the values come from
 *	recovery/		struct virtio_blk_recovery: "attempts" and
 *				"queue_reset" to be set, the counters to be read
 */
#include <linux/slab.h>
#include <linux/sysfs.h>
#include <linux/virtio_config.h>

#include "virtio_blk.h"

/* The answer to VIRTIO_BLK_T_GET_LIFETIME. */
struct virtio_blk_lifetime {
	__le16 pre_eol_info;
	__le16 device_lifetime_est_typ_a;
	__le16 device_lifetime_est_typ_b;
};

static struct virtio_blk *virtio_blk_of(struct device *dev)
{
	return dev_to_disk(dev)->private_data;
}

static ssize_t serial_show(struct device *dev, struct device_attribute *attr,
			   char *buf)
{
	char *id;
	int ret;

	id = kzalloc(VIRTIO_BLK_ID_BYTES, GFP_KERNEL);
	if (!id)
		return -ENOMEM;
	ret = virtio_blk_get(virtio_blk_of(dev), VIRTIO_BLK_T_GET_ID, 0, id,
			     VIRTIO_BLK_ID_BYTES);
	if (!ret)
		ret = sysfs_emit(buf, "%.*s", VIRTIO_BLK_ID_BYTES, id);
	else if (ret == -EOPNOTSUPP)
		ret = 0;
	kfree(id);
	return ret;
}
static DEVICE_ATTR_RO(serial);

static const char *const virtio_blk_cache_types[] = {
	"write through", "write back"
};

static ssize_t cache_type_show(struct device *dev,
			       struct device_attribute *attr, char *buf)
{
	bool cache = virtio_blk_write_cache(virtio_blk_of(dev)->vdev);

	return sysfs_emit(buf, "%s\n", virtio_blk_cache_types[cache]);
}

static ssize_t cache_type_store(struct device *dev,
				struct device_attribute *attr, const char *buf,
				size_t count)
{
	struct virtio_blk *vblk = virtio_blk_of(dev);
	struct request_queue *q = vblk->disk->queue;
	struct queue_limits lim;
	u8 wce;
	int ret;

	ret = sysfs_match_string(virtio_blk_cache_types, buf);
	if (ret < 0)
		return ret;
	wce = ret;
	lim = queue_limits_start_update(q);
	virtio_cwrite(vblk->vdev, struct virtio_blk_config, wce, &wce);
	/* The device has the last word. */
	if (virtio_blk_write_cache(vblk->vdev))
		lim.features |= BLK_FEAT_WRITE_CACHE;
	else
		lim.features &= ~BLK_FEAT_WRITE_CACHE;
	ret = queue_limits_commit_update_frozen(q, &lim);
	return ret ?: count;
}
static DEVICE_ATTR_RW(cache_type);

static int virtio_blk_get_lifetime(struct device *dev,
				   struct virtio_blk_lifetime *lifetime)
{
	struct virtio_blk_lifetime *answer;
	int err;

	answer = kzalloc_obj(*answer, GFP_KERNEL);
	if (!answer)
		return -ENOMEM;
	err = virtio_blk_get(virtio_blk_of(dev), VIRTIO_BLK_T_GET_LIFETIME, 0,
			     answer, sizeof(*answer));
	*lifetime = *answer;
	kfree(answer);
	return err;
}

static ssize_t life_time_show(struct device *dev, struct device_attribute *attr,
			      char *buf)
{
	struct virtio_blk_lifetime lifetime;
	int err = virtio_blk_get_lifetime(dev, &lifetime);

	if (err)
		return err;
	return sysfs_emit(buf, "0x%02x 0x%02x\n",
			  le16_to_cpu(lifetime.device_lifetime_est_typ_a),
			  le16_to_cpu(lifetime.device_lifetime_est_typ_b));
}
static DEVICE_ATTR_RO(life_time);

static ssize_t pre_eol_info_show(struct device *dev,
				 struct device_attribute *attr, char *buf)
{
	struct virtio_blk_lifetime lifetime;
	int err = virtio_blk_get_lifetime(dev, &lifetime);

	if (err)
		return err;
	return sysfs_emit(buf, "0x%02x\n", le16_to_cpu(lifetime.pre_eol_info));
}
static DEVICE_ATTR_RO(pre_eol_info);

static struct attribute *virtio_blk_attrs[] = {
	&dev_attr_serial.attr,
	&dev_attr_cache_type.attr,
	&dev_attr_life_time.attr,
	&dev_attr_pre_eol_info.attr,
	NULL,
};

static umode_t virtio_blk_attr_is_visible(struct kobject *kobj,
					  struct attribute *attr, int index)
{
	struct virtio_device *vdev = virtio_blk_of(kobj_to_dev(kobj))->vdev;

	if (attr == &dev_attr_cache_type.attr &&
	    !virtio_has_feature(vdev, VIRTIO_BLK_F_CONFIG_WCE))
		return 0444;
	if ((attr == &dev_attr_life_time.attr ||
	     attr == &dev_attr_pre_eol_info.attr) &&
	    !virtio_has_feature(vdev, VIRTIO_BLK_F_LIFETIME))
		return 0;
	return attr->mode;
}

static const struct attribute_group virtio_blk_group = {
	.attrs		= virtio_blk_attrs,
	.is_visible	= virtio_blk_attr_is_visible,
};

static ssize_t attempts_show(struct device *dev, struct device_attribute *attr,
			     char *buf)
{
	return sysfs_emit(buf, "%u\n", virtio_blk_of(dev)->recovery.attempts);
}

static ssize_t attempts_store(struct device *dev, struct device_attribute *attr,
			      const char *buf, size_t count)
{
	u8 attempts;
	int err = kstrtou8(buf, 0, &attempts);

	if (err)
		return err;
	WRITE_ONCE(virtio_blk_of(dev)->recovery.attempts, attempts);
	return count;
}
static DEVICE_ATTR_RW(attempts);

static ssize_t queue_reset_show(struct device *dev,
				struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%u\n",
			  virtio_blk_of(dev)->recovery.queue_reset);
}

static ssize_t queue_reset_store(struct device *dev,
				 struct device_attribute *attr, const char *buf,
				 size_t count)
{
	bool queue_reset;
	int err = kstrtobool(buf, &queue_reset);

	if (err)
		return err;
	WRITE_ONCE(virtio_blk_of(dev)->recovery.queue_reset, queue_reset);
	return count;
}
static DEVICE_ATTR_RW(queue_reset);

static ssize_t counter_show(struct device *dev, struct device_attribute *attr,
			    char *buf);

static struct device_attribute virtio_blk_counter_attrs[] = {
	[VIRTIO_BLK_LOST_INTERRUPTS] =
		__ATTR(lost_interrupts, 0444, counter_show, NULL),
	[VIRTIO_BLK_QUEUE_RESETS] =
		__ATTR(queue_resets, 0444, counter_show, NULL),
	[VIRTIO_BLK_DEVICE_RESETS] =
		__ATTR(device_resets, 0444, counter_show, NULL),
	[VIRTIO_BLK_REQUEUED] = __ATTR(requeued, 0444, counter_show, NULL),
	[VIRTIO_BLK_TIMED_OUT] = __ATTR(timed_out, 0444, counter_show, NULL),
};

static ssize_t counter_show(struct device *dev, struct device_attribute *attr,
			    char *buf)
{
	struct virtio_blk *vblk = virtio_blk_of(dev);
	size_t index = attr - virtio_blk_counter_attrs;

	return sysfs_emit(buf, "%lu\n",
			  READ_ONCE(vblk->recovery.counters[index]));
}

static struct attribute *virtio_blk_recovery_attrs[] = {
	&dev_attr_attempts.attr,
	&dev_attr_queue_reset.attr,
	&virtio_blk_counter_attrs[VIRTIO_BLK_LOST_INTERRUPTS].attr,
	&virtio_blk_counter_attrs[VIRTIO_BLK_QUEUE_RESETS].attr,
	&virtio_blk_counter_attrs[VIRTIO_BLK_DEVICE_RESETS].attr,
	&virtio_blk_counter_attrs[VIRTIO_BLK_REQUEUED].attr,
	&virtio_blk_counter_attrs[VIRTIO_BLK_TIMED_OUT].attr,
	NULL,
};

static const struct attribute_group virtio_blk_recovery_group = {
	.name		= "recovery",
	.attrs		= virtio_blk_recovery_attrs,
};

const struct attribute_group *virtio_blk_groups[] = {
	&virtio_blk_group,
	&virtio_blk_recovery_group,
	NULL,
};

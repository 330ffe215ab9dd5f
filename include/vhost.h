/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What vhost_blk uses of vhost core, whose header is private to the kernel source
 * and in no headers package.
 *
 * Its structures come from vhost-btf.h, which tools/vhost-header makes from the
 * type information of the kernel's own vhost module. The functions are declared
 * here. vhost-btf.h holds both against each other: a function that is declared
 * otherwise than vhost.ko has it, and a member that is elsewhere with the headers
 * in use, end the build.
 *
 * In a kernel tree, drivers/vhost/vhost.h takes the place of this file.
 */
#ifndef _VHOST_H
#define _VHOST_H

#include <linux/build_bug.h>
#include <linux/eventfd.h>
#include <linux/irqbypass.h>
#include <linux/list.h>
#include <linux/llist.h>
#include <linux/mutex.h>
#include <linux/poll.h>
#include <linux/spinlock.h>
#include <linux/stddef.h>
#include <linux/uio.h>
#include <linux/vhost.h>
#include <linux/vhost_iotlb.h>
#include <linux/virtio_byteorder.h>
#include <linux/virtio_ring.h>
#include <linux/wait.h>
#include <linux/xarray.h>

/* Before the declarations: it takes the arguments away that older kernels lack. */
#include "compat.h"

struct vhost_dev;
struct vhost_log;
struct vhost_msg_node;
struct vhost_virtqueue;
struct vhost_work;

typedef void (*vhost_work_fn_t)(struct vhost_work *work);

/* Life of a device */

void vhost_dev_init(struct vhost_dev *dev, struct vhost_virtqueue **vqs,
		    int nvqs, int iov_limit, int weight, int byte_weight,
		    bool use_worker,
		    int (*msg_handler)(struct vhost_dev *dev, u32 asid,
				       struct vhost_iotlb_msg *msg));
void vhost_dev_stop(struct vhost_dev *dev);
void vhost_dev_flush(struct vhost_dev *dev);
void vhost_dev_cleanup(struct vhost_dev *dev);

/* Its owner and calls */

bool vhost_dev_has_owner(struct vhost_dev *dev);
long vhost_dev_check_owner(struct vhost_dev *dev);
struct vhost_iotlb *vhost_dev_reset_owner_prepare(void);
void vhost_dev_reset_owner(struct vhost_dev *dev, struct vhost_iotlb *umem);
long vhost_dev_ioctl(struct vhost_dev *dev, unsigned int ioctl, void __user *argp);
long vhost_vring_ioctl(struct vhost_dev *dev, unsigned int ioctl, void __user *argp);
long vhost_worker_ioctl(struct vhost_dev *dev, unsigned int ioctl, void __user *argp);
void vhost_set_backend_features(struct vhost_dev *dev, u64 features);
bool vhost_log_access_ok(struct vhost_dev *dev);

/* Rings */

bool vhost_vq_access_ok(struct vhost_virtqueue *vq);
int vhost_vq_init_access(struct vhost_virtqueue *vq);
int vq_meta_prefetch(struct vhost_virtqueue *vq);
bool vhost_vq_avail_empty(struct vhost_dev *dev, struct vhost_virtqueue *vq);
int vhost_add_used(struct vhost_virtqueue *vq, unsigned int head, int len);
int vhost_add_used_n(struct vhost_virtqueue *vq, struct vring_used_elem *heads,
		     u16 *nheads, unsigned int count);
void vhost_signal(struct vhost_dev *dev, struct vhost_virtqueue *vq);
bool vhost_enable_notify(struct vhost_dev *dev, struct vhost_virtqueue *vq);
void vhost_disable_notify(struct vhost_dev *dev, struct vhost_virtqueue *vq);
int vhost_log_write(struct vhost_virtqueue *vq, struct vhost_log *log,
		    unsigned int log_num, u64 len, struct iovec *iov, int count);

/* Work */

void vhost_work_init(struct vhost_work *work, vhost_work_fn_t fn);
bool vhost_vq_work_queue(struct vhost_virtqueue *vq, struct vhost_work *work);
bool vhost_vq_has_work(struct vhost_virtqueue *vq);

/* Translation of addresses, and messages about it */

int vhost_init_device_iotlb(struct vhost_dev *dev);
void vhost_clear_device_iotlb(struct vhost_dev *dev);
void vhost_clear_msg(struct vhost_dev *dev);
struct vhost_msg_node *vhost_new_msg(struct vhost_virtqueue *vq, int type);
void vhost_enqueue_msg(struct vhost_dev *dev, struct list_head *head,
		       struct vhost_msg_node *node);
__poll_t vhost_chr_poll(struct file *file, struct vhost_dev *dev, poll_table *wait);
ssize_t vhost_chr_read_iter(struct vhost_dev *dev, struct iov_iter *to, int noblock);
ssize_t vhost_chr_write_iter(struct vhost_dev *dev, struct iov_iter *from);

/* Structures */

#ifdef __CHECKER__
/* Left to the compiler: BTF does not tell pointers to user memory, which sparse does. */
#define BTF_LAYOUT(type, condition)
#define BTF_FUNCTION(name, type...)
#else
#define BTF_LAYOUT(type, condition) \
	static_assert(condition, "the kernel headers and vhost.ko differ in " #type)
#define BTF_FUNCTION(name, type...) \
	static_assert(__builtin_types_compatible_p(typeof(name), type), \
		      "vhost_blk is not written for this kernel, where " #name "() is " #type)
#endif

#include "vhost-btf.h"

/* The backend of a stopped queue is NULL. It changes under vq->mutex. */

static inline void vhost_vq_set_backend(struct vhost_virtqueue *vq, void *backend)
{
	vq->private_data = backend;
}

static inline void *vhost_vq_get_backend(struct vhost_virtqueue *vq)
{
	return vq->private_data;
}

/* Features 0 to 63. Newer kernels keep more of them, which vhost_blk does not have. */
static inline bool vhost_has_feature(struct vhost_virtqueue *vq, int bit)
{
	return vq->acked_features & BIT_ULL(bit);
}

static inline bool vhost_backend_has_feature(struct vhost_virtqueue *vq, int bit)
{
	return vq->acked_backend_features & BIT_ULL(bit);
}

/* With cross-endian support, is_le is right for legacy rings, too. */
static inline bool vhost_is_little_endian(struct vhost_virtqueue *vq)
{
	if (vq->is_le)
		return true;
	return !IS_ENABLED(CONFIG_VHOST_CROSS_ENDIAN_LEGACY) &&
	       virtio_legacy_is_little_endian();
}

static inline u16 vhost16_to_cpu(struct vhost_virtqueue *vq, __virtio16 value)
{
	return __virtio16_to_cpu(vhost_is_little_endian(vq), value);
}

static inline u32 vhost32_to_cpu(struct vhost_virtqueue *vq, __virtio32 value)
{
	return __virtio32_to_cpu(vhost_is_little_endian(vq), value);
}

static inline u64 vhost64_to_cpu(struct vhost_virtqueue *vq, __virtio64 value)
{
	return __virtio64_to_cpu(vhost_is_little_endian(vq), value);
}

static inline __virtio16 cpu_to_vhost16(struct vhost_virtqueue *vq, u16 value)
{
	return __cpu_to_virtio16(vhost_is_little_endian(vq), value);
}

static inline __virtio32 cpu_to_vhost32(struct vhost_virtqueue *vq, u32 value)
{
	return __cpu_to_virtio32(vhost_is_little_endian(vq), value);
}

/* Reports a ring's error in the debug log, and to the VMM by the ring's eventfd. */
#define vq_err(vq, fmt, ...) do { \
	struct eventfd_ctx *error_ctx = (vq)->error_ctx; \
\
	pr_debug(fmt, ##__VA_ARGS__); \
	if (error_ctx) \
		eventfd_signal(error_ctx); \
} while (0)

#endif /* _VHOST_H */

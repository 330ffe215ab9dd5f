/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vhost-blk-pci: the PCI transport of vhost-blk (vhost-blk.c)
 *
 * To the guest it looks like virtio-blk-pci, so that every virtio-blk driver
 * and firmware works.
 */
#include "qemu/osdep.h"
#include <linux/vhost_blk.h>
#include "hw/virtio/vhost-blk.h"
#include "hw/virtio/virtio-pci.h"
#include "qemu/module.h"

#define TYPE_VHOST_BLK_PCI "vhost-blk-pci-base"
OBJECT_DECLARE_SIMPLE_TYPE(VHostBlkPCI, VHOST_BLK_PCI)

struct VHostBlkPCI {
    VirtIOPCIProxy parent_obj;
    VHostBlk vdev;
};

static const Property vhost_blk_pci_properties[] = {
    DEFINE_PROP_UINT32("vectors", VirtIOPCIProxy, nvectors,
                       DEV_NVECTORS_UNSPECIFIED),
};

static void vhost_blk_pci_realize(VirtIOPCIProxy *proxy, Error **errp)
{
    VHostBlk *s = &VHOST_BLK_PCI(proxy)->vdev;

    /*
     * Before virtio 1.0 the rings and the configuration space have the byte
     * order of the guest's CPU. The kernel supports little endian only.
     */
    if (target_big_endian()) {
        virtio_pci_force_virtio_1(proxy);
    }
    if (s->num_queues == VHOST_BLK_AUTO_NUM_QUEUES) {
        s->num_queues = MIN(virtio_pci_optimal_num_queues(0),
                            VHOST_BLK_MAX_QUEUES);
    }
    if (proxy->nvectors == DEV_NVECTORS_UNSPECIFIED) {
        /* One vector per queue, and one for changes of the configuration */
        proxy->nvectors = s->num_queues + 1;
    }
    qdev_realize(DEVICE(s), BUS(&proxy->bus), errp);
}

static void vhost_blk_pci_instance_init(Object *obj)
{
    VHostBlkPCI *dev = VHOST_BLK_PCI(obj);

    virtio_instance_init_common(obj, &dev->vdev, sizeof(dev->vdev),
                                TYPE_VHOST_BLK);
    object_property_add_alias(obj, "bootindex", OBJECT(&dev->vdev),
                              "bootindex");
}

static void vhost_blk_pci_class_init(ObjectClass *klass,
                                     VHOST_BLK_CLASS_DATA data)
{
    DeviceClass *dc = DEVICE_CLASS(klass);
    VirtioPCIClass *k = VIRTIO_PCI_CLASS(klass);
    PCIDeviceClass *pcidev_k = PCI_DEVICE_CLASS(klass);

    dc->desc = "virtio-blk device served by the host kernel (vhost_blk)";
    set_bit(DEVICE_CATEGORY_STORAGE, dc->categories);
    device_class_set_props(dc, vhost_blk_pci_properties);
    k->realize = vhost_blk_pci_realize;
    pcidev_k->vendor_id = PCI_VENDOR_ID_REDHAT_QUMRANET;
    pcidev_k->device_id = PCI_DEVICE_ID_VIRTIO_BLOCK;
    pcidev_k->revision = VIRTIO_PCI_ABI_VERSION;
    pcidev_k->class_id = PCI_CLASS_STORAGE_SCSI;
}

static const VirtioPCIDeviceTypeInfo vhost_blk_pci_info = {
    .base_name = TYPE_VHOST_BLK_PCI,
    .generic_name = "vhost-blk-pci",
    .transitional_name = "vhost-blk-pci-transitional",
    .non_transitional_name = "vhost-blk-pci-non-transitional",
    .instance_size = sizeof(VHostBlkPCI),
    .instance_init = vhost_blk_pci_instance_init,
    .class_init = vhost_blk_pci_class_init,
};

static void vhost_blk_pci_register_types(void)
{
    virtio_pci_types_register(&vhost_blk_pci_info);
}

type_init(vhost_blk_pci_register_types)

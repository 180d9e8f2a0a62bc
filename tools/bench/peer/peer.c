// SPDX-License-Identifier: GPL-2.0
/*
 * Stands in for the rest of ocxl, so that its interrupts work without an OpenCAPI device.
 *
 * /dev/ocxl/peer.<domain:bus:dev.fn>.0 is ocxl's own character device: its
 * files afu_irq.c, context.c and file.c are linked to this one unmodified. This
 * file has the functions that they call in ocxl's other files. Those about
 * interrupts do the same as in link.c. Those about the device's address
 * translation do nothing, and no measured operation calls them.
 */
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/slab.h>
#include <asm/xive.h>
#include "ocxl_internal.h"

static atomic_t irq_available = ATOMIC_INIT(MAX_IRQ_PER_LINK);
static struct ocxl_fn *fn;

/* Static, so that its last reference frees nothing. */
static struct ocxl_afu afu = {
	.kref = KREF_INIT(1),
	.config = {
		.name = "peer",
		.pp_mmio_stride = PAGE_SIZE,
	},
	.irq_base_offset = PAGE_SIZE,
	.pasid_max = MAX_IRQ_PER_LINK,
	.contexts_lock = __MUTEX_INITIALIZER(afu.contexts_lock),
	.contexts_idr = IDR_INIT(afu.contexts_idr),
	.afu_control_lock = __MUTEX_INITIALIZER(afu.afu_control_lock),
};

int ocxl_link_irq_alloc(void *link_handle, int *hw_irq)
{
	int irq;

	if (atomic_dec_if_positive(&irq_available) < 0)
		return -ENOSPC;

	irq = xive_native_alloc_irq();
	if (!irq) {
		atomic_inc(&irq_available);
		return -ENXIO;
	}
	*hw_irq = irq;
	return 0;
}

void ocxl_link_free_irq(void *link_handle, int hw_irq)
{
	xive_native_free_irq(hw_irq);
	atomic_inc(&irq_available);
}

int ocxl_link_add_pe(void *link_handle, int pasid, u32 pidr, u32 tidr, u64 amr,
		     u16 bdf, struct mm_struct *mm,
		     void (*xsl_err_cb)(void *data, u64 addr, u64 dsisr),
		     void *xsl_err_data)
{
	return 0;
}

int ocxl_link_update_pe(void *link_handle, int pasid, __u16 tid)
{
	return 0;
}

int ocxl_link_remove_pe(void *link_handle, int pasid)
{
	return 0;
}

int ocxl_config_terminate_pasid(struct pci_dev *dev, int afu_control_offset,
				int pasid)
{
	return 0;
}

int ocxl_sysfs_register_afu(struct ocxl_file_info *info)
{
	return 0;
}

void ocxl_sysfs_unregister_afu(struct ocxl_file_info *info)
{
}

static void release_afu(struct kref *kref)
{
}

void ocxl_afu_get(struct ocxl_afu *a)
{
	kref_get(&a->kref);
}

void ocxl_afu_put(struct ocxl_afu *a)
{
	kref_put(&a->kref, release_afu);
}

void ocxl_afu_set_private(struct ocxl_afu *a, void *private)
{
	a->private = private;
}

void *ocxl_afu_get_private(struct ocxl_afu *a)
{
	return a->private;
}

static void release_fn(struct device *dev)
{
	kfree(container_of(dev, struct ocxl_fn, dev));
}

/* The parent is only a name: the first PCI device, which every machine has. */
static int __init make_fn(void)
{
	struct pci_dev *parent = pci_get_device(PCI_ANY_ID, PCI_ANY_ID, NULL);
	int rc;

	if (!parent)
		return -ENODEV;

	fn = kzalloc_obj(*fn);
	if (!fn) {
		rc = -ENOMEM;
		goto out;
	}
	device_initialize(&fn->dev);
	fn->dev.parent = &parent->dev;
	fn->dev.release = release_fn;
	rc = dev_set_name(&fn->dev, "ocxlfn.%s", dev_name(&parent->dev));
	if (!rc)
		rc = device_add(&fn->dev);
	if (rc)
		put_device(&fn->dev);
out:
	/* The child device holds a reference from now on. */
	pci_dev_put(parent);
	return rc;
}

static int __init peer_init(void)
{
	int rc;

	rc = make_fn();
	if (rc)
		return rc;
	afu.fn = fn;
	rc = ocxl_file_init();
	if (rc)
		goto err_fn;
	rc = ocxl_file_register_afu(&afu);
	if (rc)
		goto err_file;
	return 0;

err_file:
	ocxl_file_exit();
err_fn:
	device_unregister(&fn->dev);
	return rc;
}

static void __exit peer_exit(void)
{
	ocxl_file_unregister_afu(&afu);
	ocxl_file_exit();
	device_unregister(&fn->dev);
}

module_init(peer_init);
module_exit(peer_exit);
MODULE_DESCRIPTION("ocxl's interrupts without an OpenCAPI device, to compare with");
MODULE_LICENSE("GPL");

// SPDX-License-Identifier: GPL-2.0
/*
 * Wrappers of inline functions and macros of the kernel, which Rust cannot call.
 *
 * Would go to rust/helpers/, each to the file of the header that it is for.
 */
#include <linux/device.h>
#include <linux/io.h>
#include <linux/iommu.h>
#include <linux/irq.h>
#include <linux/irqbypass.h>
#include <linux/irqdomain.h>
#include <linux/kernfs.h>
#include <linux/kobject.h>
#include <linux/mm.h>
#include <linux/msi.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/topology.h>
#include <linux/user_namespace.h>
#include <asm/time.h>
#include <asm/xive.h>

#include "helpers.h"

/*
 * As vmf_insert_pfn(), uncached if the page is a @device's. The page is entered
 * as used already: else the first store would fault once more to record it.
 */
u32 uxive_vmf_insert_pfn(struct vm_area_struct *vma, unsigned long addr,
			 unsigned long pfn, bool device)
{
	pgprot_t prot = vma->vm_page_prot;

	if (device)
		prot = pgprot_noncached(prot);
	prot = __pgprot(pgprot_val(prot) | _PAGE_ACCESSED);
	if (vma->vm_flags & VM_WRITE)
		prot = __pgprot(pgprot_val(prot) | _PAGE_DIRTY);

	return (__force u32)vmf_insert_pfn_prot(vma, addr, pfn, prot);
}

/* For an address in the linear mapping. */
u64 uxive_virt_to_phys(const void *addr)
{
	return virt_to_phys(addr);
}

unsigned long uxive_totalram_pages(void)
{
	return totalram_pages();
}

void uxive_cond_resched(void)
{
	cond_resched();
}

u64 uxive_timebase(void)
{
	return get_tb();
}

/* Whether more than @micros have passed since the timebase was @begin. */
bool uxive_has_passed(u64 begin, u32 micros)
{
	return get_tb() - begin > micros * tb_ticks_per_usec;
}

/* Stores to a device, after everything before it, and before a lock that is held is released. */
void uxive_out_be64(void *addr, u64 val)
{
	out_be64((u64 __force __iomem *)addr, val);
}

/* A descriptor as the PCI core makes it, whose message may have 64 bits. */
struct msi_desc *uxive_msi_desc_new(struct device *dev)
{
	struct msi_desc *desc = kzalloc_obj(*desc);

	if (desc) {
		desc->dev = dev;
		desc->nvec_used = 1;
		desc->pci.msi_attrib.is_64 = 1;
	}
	return desc;
}

/*
 * Attaches @desc to the interrupt @virq, which was made with it, and composes
 * the message. Returns the address, 0 if that failed: no message goes there.
 */
u64 uxive_msi_compose(struct msi_desc *desc, unsigned int virq, u32 *data)
{
	struct irq_data *irq = irq_get_irq_data(virq);
	struct msi_msg msg = { };

	desc->irq = virq;
	irq->common->msi_desc = desc;
	if (irq->chip->irq_compose_msi_msg)
		irq->chip->irq_compose_msi_msg(irq, &msg);
	*data = msg.data;
	return (u64)msg.address_hi << 32 | msg.address_lo;
}

/* In a structure without a name, which bindgen leaves out. */
u64 uxive_user_ns_id(const struct user_namespace *ns)
{
	return ns->ns.ns_id;
}

int uxive_cpu_to_node(int cpu)
{
	return cpu_to_node(cpu);
}

/*
 * Returns whether there is a device class of that name. If there is one,
 * class_register() fails with a backtrace. The driver core's set of classes is
 * not exported, but each class has a directory in /sys/class. That is reached
 * from /sys/kernel, which is always there, by way of its parent, the root.
 */
bool uxive_class_exists(const char *name)
{
	struct kernfs_node *root, *classes, *class;

	root = rcu_access_pointer(kernel_kobj->sd->__parent);
	classes = kernfs_find_and_get(root, "class");
	class = classes ? kernfs_find_and_get(classes, name) : NULL;
	kernfs_put(class);
	kernfs_put(classes);
	return class;
}

/* Where nothing can be claimed, this and the next are inline: -ENODEV. */
int uxive_claim_dma_owner(struct device *dev, void *owner)
{
	return iommu_device_claim_dma_owner(dev, owner);
}

void uxive_release_dma_owner(struct device *dev)
{
	iommu_device_release_dma_owner(dev);
}

/* @arg is the number that the interrupt has in the default domain. */
static int child_alloc(struct irq_domain *domain, unsigned int virq, unsigned int count, void *arg)
{
	const u32 *hwirq = arg;
	struct irq_fwspec spec = {
		.fwnode = domain->parent->fwnode,
		.param_count = 2,
		.param = { *hwirq, IRQ_TYPE_EDGE_RISING },
	};
	int rc;

	rc = irq_domain_alloc_irqs_parent(domain, virq, count, &spec);
	if (rc)
		return rc;

	/* Nobody requests it: another has the interrupt. */
	irq_modify_status(virq, 0, IRQ_NOREQUEST | IRQ_NOPROBE | IRQ_NO_BALANCING);
	rc = irq_domain_set_hwirq_and_chip(domain, virq, *hwirq, domain->host_data, NULL);
	if (rc)
		irq_domain_free_irqs_parent(domain, virq, count);
	return rc;
}

static const struct irq_domain_ops child_ops = {
	.alloc = child_alloc,
	.free = irq_domain_free_irqs_common,
};

/* A domain below the default one, whose interrupts have @chip. NULL if that failed. */
struct irq_domain *uxive_irq_domain_create_child(struct irq_chip *chip)
{
	return irq_domain_create_hierarchy(irq_get_default_domain(), 0, 0, NULL, &child_ops, chip);
}

/* The manager has no prompt, and a module may be built for a kernel without it. */
bool uxive_has_irq_bypass(void)
{
	return IS_REACHABLE(CONFIG_IRQ_BYPASS_MANAGER);
}

int uxive_irq_bypass_register(struct irq_bypass_producer *producer, struct eventfd_ctx *eventfd)
{
	if (!IS_REACHABLE(CONFIG_IRQ_BYPASS_MANAGER))
		return -EOPNOTSUPP;
	return irq_bypass_register_producer(producer, eventfd, 0);
}

void uxive_irq_bypass_unregister(struct irq_bypass_producer *producer)
{
	if (IS_REACHABLE(CONFIG_IRQ_BYPASS_MANAGER))
		irq_bypass_unregister_producer(producer);
}

/*
 * Whether KVM takes an interrupt for what it is, and not for the name of its
 * chip. A kernel that does has the defects mended that others have there.
 */
bool uxive_kvm_takes_any_chip(void)
{
#ifdef KVM_XIVE_PASSTHROUGH_ANY_CHIP
	return true;
#else
	return false;
#endif
}

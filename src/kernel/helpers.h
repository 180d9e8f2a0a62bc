/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _KERNEL_HELPERS_H
#define _KERNEL_HELPERS_H

#include <linux/types.h>

struct device;
struct eventfd_ctx;
struct irq_bypass_producer;
struct irq_chip;
struct irq_domain;
struct msi_desc;
struct user_namespace;
struct vm_area_struct;

u32 uxive_vmf_insert_pfn(struct vm_area_struct *vma, unsigned long addr,
			 unsigned long pfn, bool device);
u64 uxive_virt_to_phys(const void *addr);
unsigned long uxive_totalram_pages(void);
void uxive_cond_resched(void);
u64 uxive_timebase(void);
bool uxive_has_passed(u64 begin, u32 micros);
void uxive_out_be64(void *addr, u64 val);
struct msi_desc *uxive_msi_desc_new(struct device *dev);
u64 uxive_msi_compose(struct msi_desc *desc, unsigned int virq, u32 *data);
u64 uxive_user_ns_id(const struct user_namespace *ns);
int uxive_cpu_to_node(int cpu);
bool uxive_class_exists(const char *name);
int uxive_claim_dma_owner(struct device *dev, void *owner);
void uxive_release_dma_owner(struct device *dev);
struct irq_domain *uxive_irq_domain_create_child(struct irq_chip *chip);
bool uxive_has_irq_bypass(void);
int uxive_irq_bypass_register(struct irq_bypass_producer *producer, struct eventfd_ctx *eventfd);
void uxive_irq_bypass_unregister(struct irq_bypass_producer *producer);
bool uxive_kvm_takes_any_chip(void);

#endif /* _KERNEL_HELPERS_H */

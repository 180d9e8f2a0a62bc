// SPDX-License-Identifier: GPL-2.0
/*
 * consumer.ko - a consumer of irq bypass that does with XIVE as KVM does, step by step,
 * without a guest: for kernels with checkers, of which KVM has some complain.
 *
 * A virtual processor with an event queue is where a guest would take its events.
 */
#include <linux/eventfd.h>
#include <linux/fs.h>
#include <linux/irq.h>
#include <linux/irqbypass.h>
#include <linux/irqdomain.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <asm/xive.h>
#include <asm/xive-regs.h>

#include "consumer.h"

#define PRIORITY	6
#define EISN		0x77
#define GENERATION	BIT(31)

struct guest {
	struct irq_bypass_consumer consumer;
	/* Guards the registration. The manager's mutex comes after it. */
	struct mutex mutex;
	struct eventfd_ctx *eventfd;
	int refusal;

	/* Guards all that follows. */
	raw_spinlock_t lock;
	/* While it is connected. */
	struct xive_irq_data *source;

	u32 vp;
	struct xive_q queue;
	__be32 *entries;
	unsigned int index, count;
	u32 generation;
};

static u64 esb_load(struct xive_irq_data *source, u32 offset)
{
	return in_be64(source->eoi_mmio + offset);
}

static void guest_eoi(struct guest *guest)
{
	if (esb_load(guest->source, XIVE_ESB_SET_PQ_00) & XIVE_ESB_VAL_Q)
		out_be64(guest->source->trig_mmio, 0);
}

static int guest_add_producer(struct irq_bypass_consumer *consumer,
			      struct irq_bypass_producer *producer)
{
	struct guest *guest = container_of(consumer, struct guest, consumer);
	struct irq_data *data = irq_domain_get_irq_data(irq_get_default_domain(), producer->irq);
	struct irq_chip *chip = irq_get_chip(producer->irq);
	unsigned long flags;
	int ret = READ_ONCE(guest->refusal);

	if (ret)
		return -ret;
	/* All that KVM looks at. */
	if (!data || !chip || strncmp(chip->name, "PNV-", 4))
		return -ENOENT;
	raw_spin_lock_irqsave(&guest->lock, flags);
	ret = irq_set_vcpu_affinity(producer->irq, guest);
	raw_spin_unlock_irqrestore(&guest->lock, flags);
	if (ret)
		return ret;
	ret = xive_native_configure_irq(irqd_to_hwirq(data), guest->vp, PRIORITY, EISN);
	if (ret)
		return ret;
	raw_spin_lock_irqsave(&guest->lock, flags);
	guest->source = irq_data_get_irq_chip_data(data);
#ifdef KVM_XIVE_PASSTHROUGH_ANY_CHIP
	/* Such a KVM ends the interrupt, unless the guest has it masked. */
	guest_eoi(guest);
#endif
	raw_spin_unlock_irqrestore(&guest->lock, flags);
	return 0;
}

static void guest_del_producer(struct irq_bypass_consumer *consumer,
			       struct irq_bypass_producer *producer)
{
	struct guest *guest = container_of(consumer, struct guest, consumer);
	unsigned long flags;

	raw_spin_lock_irqsave(&guest->lock, flags);
	if (esb_load(guest->source, XIVE_ESB_SET_PQ_10) & XIVE_ESB_VAL_P)
		esb_load(guest->source, XIVE_ESB_SET_PQ_11);
	irq_set_vcpu_affinity(producer->irq, NULL);
	guest->source = NULL;
	raw_spin_unlock_irqrestore(&guest->lock, flags);
}

static int guest_register(struct guest *guest, int fd)
{
	struct eventfd_ctx *eventfd;
	int ret;

	guard(mutex)(&guest->mutex);
	if (guest->eventfd)
		return -EBUSY;
	eventfd = eventfd_ctx_fdget(fd);
	if (IS_ERR(eventfd))
		return PTR_ERR(eventfd);
	guest->consumer.add_producer = guest_add_producer;
	guest->consumer.del_producer = guest_del_producer;
	ret = irq_bypass_register_consumer(&guest->consumer, eventfd);
	if (ret) {
		eventfd_ctx_put(eventfd);
		return ret;
	}
	guest->eventfd = eventfd;
	return 0;
}

static int guest_unregister(struct guest *guest)
{
	guard(mutex)(&guest->mutex);
	if (!guest->eventfd)
		return -ENOENT;
	irq_bypass_unregister_consumer(&guest->consumer);
	eventfd_ctx_put(guest->eventfd);
	guest->eventfd = NULL;
	return 0;
}

/* As a guest does: takes an entry, then ends the interrupt, which sends the next. */
static int guest_take(struct guest *guest)
{
	unsigned long flags;
	int taken = 0;

	raw_spin_lock_irqsave(&guest->lock, flags);
	while (taken < 64) {
		u32 entry = be32_to_cpu(READ_ONCE(guest->entries[guest->index]));

		if ((entry ^ guest->generation) & GENERATION)
			break;
		guest->index = (guest->index + 1) % guest->count;
		if (!guest->index)
			guest->generation ^= GENERATION;
		taken++;
		if (guest->source)
			guest_eoi(guest);
	}
	raw_spin_unlock_irqrestore(&guest->lock, flags);
	return taken;
}

static long consumer_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct guest *guest = file->private_data;

	switch (cmd) {
	case CONSUMER_REGISTER:
		return guest_register(guest, arg);
	case CONSUMER_UNREGISTER:
		return guest_unregister(guest);
	case CONSUMER_TAKE:
		return guest_take(guest);
	case CONSUMER_REFUSE:
		WRITE_ONCE(guest->refusal, arg);
		return 0;
	case CONSUMER_CONNECTED:
		return !!READ_ONCE(guest->source);
	}
	return -ENOTTY;
}

static int consumer_open(struct inode *inode, struct file *file)
{
	struct guest *guest = kzalloc(sizeof(*guest), GFP_KERNEL);
	int ret;

	if (!guest)
		return -ENOMEM;
	mutex_init(&guest->mutex);
	raw_spin_lock_init(&guest->lock);
	guest->count = PAGE_SIZE / sizeof(*guest->entries);
	guest->generation = GENERATION;
	guest->entries = (__be32 *)get_zeroed_page(GFP_KERNEL);
	guest->vp = guest->entries ? xive_native_alloc_vp_block(1) : XIVE_INVALID_VP;
	ret = guest->vp == XIVE_INVALID_VP ? -ENOSPC : 0;
	if (!ret)
		ret = xive_native_enable_vp(guest->vp, xive_native_has_single_escalation());
	if (!ret)
		ret = xive_native_configure_queue(guest->vp, &guest->queue, PRIORITY,
						  guest->entries, PAGE_SHIFT, false);
	if (ret) {
		if (guest->vp != XIVE_INVALID_VP)
			xive_native_free_vp_block(guest->vp);
		free_page((unsigned long)guest->entries);
		kfree(guest);
		return ret;
	}
	file->private_data = guest;
	return 0;
}

static int consumer_release(struct inode *inode, struct file *file)
{
	struct guest *guest = file->private_data;

	guest_unregister(guest);
	xive_native_disable_vp(guest->vp);
	xive_native_disable_queue(guest->vp, &guest->queue, PRIORITY);
	xive_native_free_vp_block(guest->vp);
	free_page((unsigned long)guest->entries);
	kfree(guest);
	return 0;
}

static const struct file_operations consumer_fops = {
	.owner = THIS_MODULE,
	.open = consumer_open,
	.release = consumer_release,
	.unlocked_ioctl = consumer_ioctl,
};

static struct miscdevice consumer = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "consumer",
	.fops = &consumer_fops,
	.mode = 0600,
};
module_misc_device(consumer);

MODULE_DESCRIPTION("A consumer of irq bypass");
MODULE_LICENSE("GPL");

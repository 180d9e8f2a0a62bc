// SPDX-License-Identifier: GPL-2.0
/*
 * hoarder.ko - takes every VP that the machine has left, and keeps them until
 * it is unloaded. With the parameter `neighbour`, the address of a PCI device,
 * it takes every message (MSI) of the host bridge that the device is behind
 * instead, or `most` of them.
 *
 * Programs cannot do that: the driver's limits leave others their part. How many
 * it has got is its parameter `vps` or `messages`.
 *
 * On the console OPAL reports each block size that has run out.
 */
#include <linux/init.h>
#include <linux/irq.h>
#include <linux/irqdomain.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/msi.h>
#include <linux/pci.h>
#include <linux/slab.h>
#include <asm/xive.h>

/*
 * The largest blocks that it asks for have 1 << LARGEST VPs. OPAL wants pages
 * for new ones, one at a time, and begins with the block anew after each: 64
 * thousand at once take more than a minute on an emulated machine.
 */
#define LARGEST 8

static char *neighbour;
module_param(neighbour, charp, 0444);
MODULE_PARM_DESC(neighbour, "a PCI device, 0000:00:00.0, whose host bridge's messages it takes");

static unsigned int most = UINT_MAX;
module_param(most, uint, 0444);
MODULE_PARM_DESC(most, "how many messages it takes at most");

static unsigned int vps;
module_param(vps, uint, 0444);
MODULE_PARM_DESC(vps, "how many VPs it has");

static unsigned int messages;
module_param(messages, uint, 0444);
MODULE_PARM_DESC(messages, "how many messages it has");

struct block {
	struct list_head list;
	u32 vp;
};

struct message {
	struct list_head list;
	int virq;
};

static LIST_HEAD(blocks);
static LIST_HEAD(taken);

/* True if there was a block of that size. */
static bool hoarder_take(unsigned int order)
{
	struct block *block = kmalloc(sizeof(*block), GFP_KERNEL);

	if (!block)
		return false;
	block->vp = xive_native_alloc_vp_block(1 << order);
	if (block->vp == XIVE_INVALID_VP) {
		kfree(block);
		return false;
	}
	list_add(&block->list, &blocks);
	vps += 1 << order;
	return true;
}

/* True if the host bridge of that device had a message. The irq core only keeps a record of it. */
static bool hoarder_take_message(struct pci_dev *dev)
{
	struct msi_desc desc = { .dev = &dev->dev, .nvec_used = 1, .pci.msi_attrib.is_64 = 1 };
	msi_alloc_info_t info = { .desc = &desc };
	struct message *message = kmalloc(sizeof(*message), GFP_KERNEL);

	if (!message)
		return false;
	message->virq = irq_domain_alloc_irqs(dev->dev.msi.domain, 1, NUMA_NO_NODE, &info);
	if (message->virq < 0) {
		kfree(message);
		return false;
	}
	list_add(&message->list, &taken);
	messages++;
	return true;
}

static int __init hoarder_take_messages(void)
{
	unsigned int domain, bus, slot, function;
	struct pci_dev *dev;

	if (sscanf(neighbour, "%x:%x:%x.%x", &domain, &bus, &slot, &function) != 4)
		return -EINVAL;
	dev = pci_get_domain_bus_and_slot(domain, bus, PCI_DEVFN(slot, function));
	if (!dev || !dev->dev.msi.domain) {
		pci_dev_put(dev);
		return -ENODEV;
	}
	while (messages < most && hoarder_take_message(dev))
		cond_resched();
	pci_dev_put(dev);
	return 0;
}

static int __init hoarder_init(void)
{
	int order;

	vps = 0;
	messages = 0;
	if (neighbour)
		return hoarder_take_messages();
	for (order = LARGEST; order >= 0; order--)
		while (hoarder_take(order))
			cond_resched();
	return 0;
}
module_init(hoarder_init);

static void __exit hoarder_exit(void)
{
	struct block *block, *next;
	struct message *message, *last;

	list_for_each_entry_safe(block, next, &blocks, list) {
		xive_native_free_vp_block(block->vp);
		kfree(block);
		cond_resched();
	}
	list_for_each_entry_safe(message, last, &taken, list) {
		irq_domain_free_irqs(message->virq, 1);
		kfree(message);
		cond_resched();
	}
}
module_exit(hoarder_exit);

MODULE_DESCRIPTION("Takes every VP that the machine has left, or every message of a host bridge");
MODULE_LICENSE("GPL");

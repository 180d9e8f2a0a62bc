// SPDX-License-Identifier: GPL-2.0
/*
 * hoarder.ko - takes every VP that the machine has left, and keeps them until
 * it is unloaded.
 *
 * Programs cannot do that: the machine has more VPs than there is memory for
 * contexts. How many it has got is its parameter `vps`.
 *
 * On the console OPAL reports each block size that has run out.
 */
#include <linux/init.h>
#include <linux/irq.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <asm/xive.h>

/*
 * The largest blocks that it asks for have 1 << LARGEST VPs. OPAL wants pages
 * for new ones, one at a time, and begins with the block anew after each: 64
 * thousand at once take more than a minute on an emulated machine.
 */
#define LARGEST 8

static unsigned int vps;
module_param(vps, uint, 0444);
MODULE_PARM_DESC(vps, "how many VPs it has");

struct block {
	struct list_head list;
	u32 vp;
};

static LIST_HEAD(blocks);

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

static int __init hoarder_init(void)
{
	int order;

	vps = 0;
	for (order = LARGEST; order >= 0; order--)
		while (hoarder_take(order))
			cond_resched();
	return 0;
}
module_init(hoarder_init);

static void __exit hoarder_exit(void)
{
	struct block *block, *next;

	list_for_each_entry_safe(block, next, &blocks, list) {
		xive_native_free_vp_block(block->vp);
		kfree(block);
		cond_resched();
	}
}
module_exit(hoarder_exit);

MODULE_DESCRIPTION("Takes every VP that the machine has left");
MODULE_LICENSE("GPL");

// SPDX-License-Identifier: GPL-2.0
/*
 * planted.ko - defects on purpose, to see the kernel's checkers report them.
 *
 *	insmod planted.ko defect=warn|sleep|leak|order|irq
 *
 * Loading plants the one defect named and stops nothing: each is harmless to a
 * kernel that does not look. The `checkers` program beside this file loads the
 * module and reads the reports. The functions that hold a defect are neither
 * inlined nor __init, so that reports name them for as long as the module is
 * loaded.
 */
#include <linux/delay.h>
#include <linux/init.h>
#include <linux/irq_work.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/string.h>

static char *defect = "";
module_param(defect, charp, 0444);
MODULE_PARM_DESC(defect, "which defect to plant: warn, sleep, leak, order or irq");

static noinline void planted_warn(void)
{
	WARN(1, "planted\n");
}

/* GFP_KERNEL says that the allocation may sleep; a spinlock says it must not. */
static noinline void planted_sleep(void)
{
	static DEFINE_SPINLOCK(planted_spin);
	void *p;

	spin_lock(&planted_spin);
	p = kmalloc(64, GFP_KERNEL);
	spin_unlock(&planted_spin);
	kfree(p);
}

/*
 * Several objects: a stale pointer in a register or on a stack would hide a
 * single one from kmemleak.
 */
static noinline void planted_leak(void)
{
	int i;

	for (i = 0; i < 8; i++) {
		char *p = kmalloc(64, GFP_KERNEL);

		if (p)
			memset(p, 0x55, 64);
	}
}

/* Two locks in one order, then in the other: two tasks would deadlock. */
static noinline void planted_order(void)
{
	static DEFINE_MUTEX(planted_a);
	static DEFINE_MUTEX(planted_b);

	mutex_lock(&planted_a);
	mutex_lock(&planted_b);
	mutex_unlock(&planted_b);
	mutex_unlock(&planted_a);

	mutex_lock(&planted_b);
	mutex_lock(&planted_a);
	mutex_unlock(&planted_a);
	mutex_unlock(&planted_b);
}

static DEFINE_SPINLOCK(planted_safe);
static DEFINE_SPINLOCK(planted_unsafe);

static void planted_irq_fn(struct irq_work *work)
{
	spin_lock(&planted_safe);
	spin_unlock(&planted_safe);
}

static struct irq_work planted_irq_work = IRQ_WORK_INIT_HARD(planted_irq_fn);

/*
 * planted_safe is taken by an interrupt; planted_unsafe with interrupts on, and
 * inside planted_safe. If one CPU holds planted_unsafe when the interrupt
 * comes, and another holds planted_safe and wants planted_unsafe, neither gets
 * on.
 *
 * The interrupt is raised and awaited with interrupts masked. On powerpc it
 * then arrives masked, and local_irq_restore() replays it.
 */
static noinline void planted_irq(void)
{
	unsigned long flags;

	local_irq_save(flags);
	irq_work_queue(&planted_irq_work);
	mdelay(1);
	local_irq_restore(flags);
	irq_work_sync(&planted_irq_work);

	spin_lock(&planted_unsafe);
	spin_unlock(&planted_unsafe);

	spin_lock_irqsave(&planted_safe, flags);
	spin_lock(&planted_unsafe);
	spin_unlock(&planted_unsafe);
	spin_unlock_irqrestore(&planted_safe, flags);
}

static const struct {
	const char *name;
	void (*plant)(void);
} defects[] = {
	{ "warn",	planted_warn },
	{ "sleep",	planted_sleep },
	{ "leak",	planted_leak },
	{ "order",	planted_order },
	{ "irq",	planted_irq },
};

static int __init planted_init(void)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(defects); i++) {
		if (!strcmp(defect, defects[i].name)) {
			defects[i].plant();
			return 0;
		}
	}
	pr_err("planted: no defect called '%s'\n", defect);
	return -EINVAL;
}
module_init(planted_init);

static void __exit planted_exit(void)
{
}
module_exit(planted_exit);

MODULE_DESCRIPTION("Defects on purpose, to see the kernel's checkers report them");
MODULE_LICENSE("GPL");

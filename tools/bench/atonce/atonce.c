// SPDX-License-Identifier: GPL-2.0
/*
 * atonce.ko - rings many interrupts at once, on a machine with one CPU.
 *
 * There each store to a trigger page is interrupted by the event that it has
 * raised. "ADDRESS COUNT", written to the parameter `ring`, has the kernel do
 * the stores to as many pages of 64 KiB, which are there, with interrupts off.
 */
#include <linux/init.h>
#include <linux/irqflags.h>
#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/sizes.h>
#include <linux/uaccess.h>

static int ring_all(void __user *pages, unsigned long count)
{
	unsigned long flags, i;
	int ret = -EFAULT;

	local_irq_save(flags);
	if (!user_write_access_begin(pages, count * SZ_64K))
		goto out;
	for (i = 0; i < count; i++)
		unsafe_put_user(0ULL, (u64 __user *)(pages + i * SZ_64K), err_end);
	ret = 0;
err_end:
	user_write_access_end();
out:
	local_irq_restore(flags);
	return ret;
}

static int ring_set(const char *val, const struct kernel_param *kp)
{
	unsigned long address, count;

	if (sscanf(val, "%lx %lu", &address, &count) != 2 || count > 65536)
		return -EINVAL;
	return ring_all((void __user *)address, count);
}

static const struct kernel_param_ops ring_ops = {
	.set = ring_set,
};

module_param_cb(ring, &ring_ops, NULL, 0200);
MODULE_PARM_DESC(ring, "ADDRESS COUNT: rings as many interrupts at once");

static int __init atonce_init(void)
{
	return 0;
}
module_init(atonce_init);

static void __exit atonce_exit(void)
{
}
module_exit(atonce_exit);

MODULE_DESCRIPTION("Rings many interrupts at once, on a machine with one CPU");
MODULE_LICENSE("GPL");

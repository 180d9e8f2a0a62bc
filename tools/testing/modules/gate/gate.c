// SPDX-License-Identifier: GPL-2.0
/*
 * gate.ko - stops the loading of modules before any of their functions runs.
 *
 * fail_function needs a module's symbols, which are there only once loading has
 * begun. The parameter `closed` closes and opens the gate; `holding` tells
 * whether a module waits at it.
 */
#include <linux/delay.h>
#include <linux/init.h>
#include <linux/module.h>
#include <linux/notifier.h>

static bool closed;
module_param(closed, bool, 0644);
MODULE_PARM_DESC(closed, "whether modules have to wait");

static bool holding;
module_param(holding, bool, 0444);
MODULE_PARM_DESC(holding, "whether a module waits now");

static int gate_notify(struct notifier_block *gate, unsigned long state, void *module)
{
	if (state != MODULE_STATE_COMING)
		return NOTIFY_DONE;
	while (READ_ONCE(closed)) {
		WRITE_ONCE(holding, true);
		usleep_range(1000, 2000);
	}
	WRITE_ONCE(holding, false);
	return NOTIFY_DONE;
}

/* Called after the notifier of error injection, which lists the module's functions. */
static struct notifier_block gate = {
	.notifier_call = gate_notify,
	.priority = -1,
};

static int __init gate_init(void)
{
	return register_module_notifier(&gate);
}
module_init(gate_init);

static void __exit gate_exit(void)
{
	unregister_module_notifier(&gate);
}
module_exit(gate_exit);

MODULE_DESCRIPTION("Stops the loading of modules");
MODULE_LICENSE("GPL");

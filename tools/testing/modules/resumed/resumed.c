// SPDX-License-Identifier: GPL-2.0
/*
 * resumed.ko - tells the driver of a PCI function that this was reset after an
 * error, and can be used again.
 *
 * EEH and AER do the same, after they have reported the error. But a driver that
 * was bound in between has missed that report. This module makes the rare order
 * certain.
 */
#include <linux/device.h>
#include <linux/init.h>
#include <linux/module.h>
#include <linux/pci.h>

static char *function;
module_param(function, charp, 0);
MODULE_PARM_DESC(function, "its name in sysfs");

static int __init resumed_init(void)
{
	struct device *dev;
	int ret = -ENODEV;

	if (!function)
		return -EINVAL;
	dev = bus_find_device_by_name(&pci_bus_type, NULL, function);
	if (!dev)
		return -ENODEV;
	device_lock(dev);
	if (dev->driver) {
		const struct pci_error_handlers *handlers = to_pci_driver(dev->driver)->err_handler;

		handlers->slot_reset(to_pci_dev(dev));
		handlers->resume(to_pci_dev(dev));
		ret = 0;
	}
	device_unlock(dev);
	put_device(dev);
	return ret;
}
module_init(resumed_init);

static void __exit resumed_exit(void)
{
}
module_exit(resumed_exit);

MODULE_DESCRIPTION("Tells a driver of the end of an error that it does not know of");
MODULE_LICENSE("GPL");

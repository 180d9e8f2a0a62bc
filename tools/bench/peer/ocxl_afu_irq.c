// SPDX-License-Identifier: GPL-2.0
/* Unmodified from drivers/misc/ocxl of the kernel, but for its exports, which are ocxl.ko's. */
#include <linux/export.h>
#undef EXPORT_SYMBOL_GPL
#define EXPORT_SYMBOL_GPL(name)
#include "afu_irq.c"

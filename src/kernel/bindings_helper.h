/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Input of bindgen: the headers that the driver needs and that the kernel's
 * own rust/bindings/bindings_helper.h does not include.
 */
#include <linux/anon_inodes.h>
#include <asm/opal-api.h>
#include <asm/xive.h>
#include <asm/xive-regs.h>

#include "helpers.h"
#include "../trace.h"

/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Input of bindgen: the headers that the driver needs and that the kernel's
 * own rust/bindings/bindings_helper.h does not include.
 */
#include <linux/anon_inodes.h>
#include <linux/error-injection.h>
#include <linux/fs.h>
#include <linux/irqbypass.h>
#include <asm/opal-api.h>
#include <asm/xive.h>
#include <asm/xive-regs.h>

#include "kernel/helpers.h"
#include "trace.h"

/* Macros with casts: bindgen evaluates variables. As the kernel's own file. */
const fmode_t RUST_CONST_HELPER_FMODE_NOWAIT = FMODE_NOWAIT;
const int RUST_CONST_HELPER_IOCB_NOWAIT = IOCB_NOWAIT;

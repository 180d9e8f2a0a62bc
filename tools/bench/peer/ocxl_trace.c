// SPDX-License-Identifier: GPL-2.0
/* Unmodified from drivers/misc/ocxl of the kernel, for a kernel that has trace events. */
#include "trace.c"

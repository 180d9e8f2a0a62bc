// SPDX-License-Identifier: GPL-2.0
/*
 * Tracing's data and functions of each event, which only macros of C can make.
 */
#define CREATE_TRACE_POINTS
#define CREATE_RUST_TRACE_POINTS
#include "trace.h"

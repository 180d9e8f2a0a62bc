// SPDX-License-Identifier: GPL-2.0
/*
 * What tracing needs of each event, which only the macros of C can make.
 */
#define CREATE_TRACE_POINTS
#define CREATE_RUST_TRACE_POINTS
#include "trace.h"

/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Trace events of the driver, see "Tracing" in
 * Documentation/driver-api/uxive-engine.rst. Functions in trace.rs raise them.
 *
 * A context has the number that /proc/interrupts and debugfs give it. Where
 * there is no slot its number is -1.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM uxive

#if !defined(_UXIVE_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define _UXIVE_TRACE_H

#include <linux/mm_types.h>
#include <linux/tracepoint.h>

#ifndef _UXIVE_TRACE_ENUMS
#define _UXIVE_TRACE_ENUMS
/* The outcome of an event: Delivery in trace.rs. */
enum uxive_delivery {
	UXIVE_DELIVERY_EVENTFD,
	UXIVE_DELIVERY_UNBOUND,
	UXIVE_DELIVERY_OFF,
	UXIVE_DELIVERY_FREED,
	UXIVE_DELIVERY_MASKED,
	UXIVE_DELIVERY_GUEST,
};

/* The part that fails to quiesce: QuiesceError in xive/error.rs. */
enum uxive_quiesce {
	UXIVE_QUIESCE_SOURCE = 1,
	UXIVE_QUIESCE_EVENTS,
	UXIVE_QUIESCE_ESCALATION,
	UXIVE_QUIESCE_AFU,
};
#endif

TRACE_DEFINE_ENUM(VM_FAULT_OOM);
TRACE_DEFINE_ENUM(VM_FAULT_SIGBUS);
TRACE_DEFINE_ENUM(VM_FAULT_NOPAGE);
TRACE_DEFINE_ENUM(UXIVE_DELIVERY_EVENTFD);
TRACE_DEFINE_ENUM(UXIVE_DELIVERY_UNBOUND);
TRACE_DEFINE_ENUM(UXIVE_DELIVERY_OFF);
TRACE_DEFINE_ENUM(UXIVE_DELIVERY_FREED);
TRACE_DEFINE_ENUM(UXIVE_DELIVERY_MASKED);
TRACE_DEFINE_ENUM(UXIVE_DELIVERY_GUEST);
TRACE_DEFINE_ENUM(UXIVE_QUIESCE_SOURCE);
TRACE_DEFINE_ENUM(UXIVE_QUIESCE_EVENTS);
TRACE_DEFINE_ENUM(UXIVE_QUIESCE_ESCALATION);
TRACE_DEFINE_ENUM(UXIVE_QUIESCE_AFU);

#define uxive_show_delivery(delivery)					\
	__print_symbolic(delivery,					\
			 { UXIVE_DELIVERY_EVENTFD, "eventfd" },		\
			 { UXIVE_DELIVERY_UNBOUND, "unbound" },		\
			 { UXIVE_DELIVERY_OFF, "off" },			\
			 { UXIVE_DELIVERY_FREED, "freed" },		\
			 { UXIVE_DELIVERY_MASKED, "masked" },		\
			 { UXIVE_DELIVERY_GUEST, "guest" })

#define uxive_show_reason(reason)					\
	__print_symbolic(reason,					\
			 { UXIVE_QUIESCE_SOURCE, "source" },		\
			 { UXIVE_QUIESCE_EVENTS, "events" },		\
			 { UXIVE_QUIESCE_ESCALATION, "escalation" },	\
			 { UXIVE_QUIESCE_AFU, "afu" })

#define uxive_show_fault(result)					\
	__print_symbolic(result,					\
			 { VM_FAULT_NOPAGE, "mapped" },			\
			 { VM_FAULT_SIGBUS, "SIGBUS" },			\
			 { VM_FAULT_OOM, "OOM" })

TRACE_EVENT(uxive_alloc,
	TP_PROTO(u64 context, int slot, u32 lisn, u64 offset, int ret),
	TP_ARGS(context, slot, lisn, offset, ret),
	TP_STRUCT__entry(
		__field(u64, context)
		__field(u64, offset)
		__field(int, slot)
		__field(u32, lisn)
		__field(int, ret)
	),
	TP_fast_assign(
		__entry->context = context;
		__entry->offset = offset;
		__entry->slot = slot;
		__entry->lisn = lisn;
		__entry->ret = ret;
	),
	TP_printk("context=%llu slot=%d lisn=0x%x offset=0x%llx ret=%d",
		  __entry->context, __entry->slot, __entry->lisn,
		  __entry->offset, __entry->ret)
);

TRACE_EVENT(uxive_bind,
	TP_PROTO(u64 context, int slot, bool eventfd),
	TP_ARGS(context, slot, eventfd),
	TP_STRUCT__entry(
		__field(u64, context)
		__field(int, slot)
		__field(bool, eventfd)
	),
	TP_fast_assign(
		__entry->context = context;
		__entry->slot = slot;
		__entry->eventfd = eventfd;
	),
	TP_printk("context=%llu slot=%d eventfd=%d",
		  __entry->context, __entry->slot, __entry->eventfd)
);

TRACE_EVENT(uxive_bypass,
	TP_PROTO(u64 context, int slot, u32 lisn, bool connected),
	TP_ARGS(context, slot, lisn, connected),
	TP_STRUCT__entry(
		__field(u64, context)
		__field(int, slot)
		__field(u32, lisn)
		__field(bool, connected)
	),
	TP_fast_assign(
		__entry->context = context;
		__entry->slot = slot;
		__entry->lisn = lisn;
		__entry->connected = connected;
	),
	TP_printk("context=%llu slot=%d lisn=0x%x connected=%d",
		  __entry->context, __entry->slot, __entry->lisn,
		  __entry->connected)
);

TRACE_EVENT(uxive_fault,
	TP_PROTO(u64 context, int slot, u64 offset, u32 result),
	TP_ARGS(context, slot, offset, result),
	TP_STRUCT__entry(
		__field(u64, context)
		__field(u64, offset)
		__field(int, slot)
		__field(u32, result)
	),
	TP_fast_assign(
		__entry->context = context;
		__entry->offset = offset;
		__entry->slot = slot;
		__entry->result = result;
	),
	TP_printk("context=%llu slot=%d offset=0x%llx result=%s",
		  __entry->context, __entry->slot, __entry->offset,
		  uxive_show_fault(__entry->result))
);

TRACE_EVENT(uxive_ring,
	TP_PROTO(u64 context, int slot, u32 delivery),
	TP_ARGS(context, slot, delivery),
	TP_STRUCT__entry(
		__field(u64, context)
		__field(int, slot)
		__field(u32, delivery)
	),
	TP_fast_assign(
		__entry->context = context;
		__entry->slot = slot;
		__entry->delivery = delivery;
	),
	TP_printk("context=%llu slot=%d delivery=%s",
		  __entry->context, __entry->slot,
		  uxive_show_delivery(__entry->delivery))
);

TRACE_EVENT(uxive_drain,
	TP_PROTO(u64 context, u32 entries, bool more),
	TP_ARGS(context, entries, more),
	TP_STRUCT__entry(
		__field(u64, context)
		__field(u32, entries)
		__field(bool, more)
	),
	TP_fast_assign(
		__entry->context = context;
		__entry->entries = entries;
		__entry->more = more;
	),
	TP_printk("context=%llu entries=%u more=%d",
		  __entry->context, __entry->entries, __entry->more)
);

TRACE_EVENT(uxive_wake,
	TP_PROTO(u64 context, bool eventfd),
	TP_ARGS(context, eventfd),
	TP_STRUCT__entry(
		__field(u64, context)
		__field(bool, eventfd)
	),
	TP_fast_assign(
		__entry->context = context;
		__entry->eventfd = eventfd;
	),
	TP_printk("context=%llu eventfd=%d",
		  __entry->context, __entry->eventfd)
);

TRACE_EVENT(uxive_arm,
	TP_PROTO(u64 context, bool armed),
	TP_ARGS(context, armed),
	TP_STRUCT__entry(
		__field(u64, context)
		__field(bool, armed)
	),
	TP_fast_assign(
		__entry->context = context;
		__entry->armed = armed;
	),
	TP_printk("context=%llu armed_before=%d",
		  __entry->context, __entry->armed)
);

DECLARE_EVENT_CLASS(uxive_slot,
	TP_PROTO(u64 context, int slot, u32 lisn),
	TP_ARGS(context, slot, lisn),
	TP_STRUCT__entry(
		__field(u64, context)
		__field(int, slot)
		__field(u32, lisn)
	),
	TP_fast_assign(
		__entry->context = context;
		__entry->slot = slot;
		__entry->lisn = lisn;
	),
	TP_printk("context=%llu slot=%d lisn=0x%x",
		  __entry->context, __entry->slot, __entry->lisn)
);

DEFINE_EVENT(uxive_slot, uxive_free,
	TP_PROTO(u64 context, int slot, u32 lisn),
	TP_ARGS(context, slot, lisn));

DEFINE_EVENT(uxive_slot, uxive_zap,
	TP_PROTO(u64 context, int slot, u32 lisn),
	TP_ARGS(context, slot, lisn));

TRACE_EVENT(uxive_quarantine,
	TP_PROTO(u64 context, int slot, u32 lisn, u32 reason),
	TP_ARGS(context, slot, lisn, reason),
	TP_STRUCT__entry(
		__field(u64, context)
		__field(int, slot)
		__field(u32, lisn)
		__field(u32, reason)
	),
	TP_fast_assign(
		__entry->context = context;
		__entry->slot = slot;
		__entry->lisn = lisn;
		__entry->reason = reason;
	),
	TP_printk("context=%llu slot=%d lisn=0x%x reason=%s",
		  __entry->context, __entry->slot, __entry->lisn,
		  uxive_show_reason(__entry->reason))
);

DEFINE_EVENT(uxive_slot, uxive_quarantine_end,
	TP_PROTO(u64 context, int slot, u32 lisn),
	TP_ARGS(context, slot, lisn));

TRACE_EVENT(uxive_export,
	TP_PROTO(u64 context, u32 id, u32 start, u32 count),
	TP_ARGS(context, id, start, count),
	TP_STRUCT__entry(
		__field(u64, context)
		__field(u32, id)
		__field(u32, start)
		__field(u32, count)
	),
	TP_fast_assign(
		__entry->context = context;
		__entry->id = id;
		__entry->start = start;
		__entry->count = count;
	),
	TP_printk("context=%llu id=%u start=%u count=%u",
		  __entry->context, __entry->id, __entry->start,
		  __entry->count)
);

TRACE_EVENT(uxive_revoke,
	TP_PROTO(u64 context, u32 id),
	TP_ARGS(context, id),
	TP_STRUCT__entry(
		__field(u64, context)
		__field(u32, id)
	),
	TP_fast_assign(
		__entry->context = context;
		__entry->id = id;
	),
	TP_printk("context=%llu id=%u", __entry->context, __entry->id)
);

#endif /* _UXIVE_TRACE_H */

/* Found by the -I that the Makefile has for trace.c. */
#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace

/* This part must be outside protection */
#include <trace/define_trace.h>

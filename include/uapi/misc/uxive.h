/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * User interface of uxive beyond the ioctls that it shares with ocxl, see
 * <misc/ocxl.h>. Documentation/userspace-api/uxive.rst describes both, and
 * Documentation/userspace-api/uxive-user-drain.rst the queue that a program drains.
 */
#ifndef _UAPI_MISC_UXIVE_H
#define _UAPI_MISC_UXIVE_H

#include <linux/ioctl.h>
#include <linux/types.h>
#include <misc/ocxl.h>

/*
 * ocxl has 0x10 to 0x2f of this type, uxive 0x40 to 0x7f. The number of an ioctl
 * says nothing of its argument, which is a structure of its own. All structures
 * begin with their size, and grow at their end. A program sets @size to that of
 * its own structure and may, if that is larger than the kernel's, set only fields
 * that the kernel knows: other bytes must be 0. The kernel writes back no more than
 * the smaller of both.
 *
 * All but UXIVE_IOC_INFO and UXIVE_IOC_EXPORT_INFO need a file that is open for
 * writing.
 */
#define UXIVE_MAGIC 0xCA

/* Returns features of the interface, its limits and their present use. */
#define UXIVE_IOC_INFO			_IO(UXIVE_MAGIC, 0x40)
/* Allocates an interrupt, as OCXL_IOCTL_IRQ_ALLOC does. */
#define UXIVE_IOC_IRQ_ALLOC		_IO(UXIVE_MAGIC, 0x41)
/* Allocates interrupts, all or none. */
#define UXIVE_IOC_IRQ_ALLOC_MANY	_IO(UXIVE_MAGIC, 0x42)
/*
 * Allocates an interrupt whose message lies in the store of the context's AFU:
 * nothing but the AFU can raise it, for work of this context.
 */
#define UXIVE_IOC_IMS_ALLOC		_IO(UXIVE_MAGIC, 0x43)
/* Frees interrupts, as OCXL_IOCTL_IRQ_FREE does, all or none. */
#define UXIVE_IOC_IRQ_FREE_MANY		_IO(UXIVE_MAGIC, 0x44)
/* Frees all interrupts of the context. */
#define UXIVE_IOC_IRQ_FREE_ALL		_IO(UXIVE_MAGIC, 0x45)
/* Raises, masks, unmasks or binds interrupts, all or none. */
#define UXIVE_IOC_SET_IRQS		_IO(UXIVE_MAGIC, 0x46)
/* 0x47 is reserved: to take a vector of a VFIO device into a slot. */
/* Has the program drain the event queue of the context by itself. */
#define UXIVE_IOC_USER_DRAIN		_IO(UXIVE_MAGIC, 0x48)
/* Has the next entry in a user-drained queue signal the eventfd, once. */
#define UXIVE_IOC_ARM			_IO(UXIVE_MAGIC, 0x49)
/*
 * Makes a range: a context of its own with no more than so many slots, charged to
 * the user of this one, which another process can be given as a file.
 */
#define UXIVE_IOC_RANGE			_IO(UXIVE_MAGIC, 0x4a)
/*
 * Makes a file by which others ring some interrupts of the context: they map it.
 * It does nothing else, and nothing once the interrupts are freed.
 */
#define UXIVE_IOC_EXPORT		_IO(UXIVE_MAGIC, 0x4b)
/* Ends an export: from now on its file rings nothing. */
#define UXIVE_IOC_REVOKE		_IO(UXIVE_MAGIC, 0x4c)
/* On the file of an export, which has no other ioctl: describes the export. */
#define UXIVE_IOC_EXPORT_INFO		_IO(UXIVE_MAGIC, 0x4d)
/* 0x4e is reserved: to make a handle that a device of VFIO writes to. */

/**
 * struct uxive_window - offsets of a context file that can be mapped
 * @offset: Where the window begins, in bytes.
 * @length: How long it is, in bytes.
 * @stride: Distance of its consecutive items in bytes: trigger pages, pairs of
 *	trigger page and management page, or entries of the event queue.
 */
struct uxive_window {
	__u64 offset;
	__u64 length;
	__u64 stride;
};

/*
 * Features, of struct uxive_info. All else in this header each kernel with the
 * driver has. A program ignores bits that it does not know.
 */

/* The context has an AFU: ocxl's calls for one, and UXIVE_IOC_IMS_ALLOC. */
#define UXIVE_FEATURE_AFU	0x1

/* Interrupts can be bound for irq bypass, see UXIVE_SET_BYPASS. */
#define UXIVE_FEATURE_BYPASS	0x2

/* 0x4 to 0x10 are reserved: vectors, handles and dma-bufs. */

/*
 * Formats of a user-drained queue and of the pages by which its interrupts are
 * ended, of struct uxive_info and struct uxive_user_drain.
 */

/* XIVE's own: UXIVE_ENTRY_* and UXIVE_ESB_*. */
#define UXIVE_DRAIN_XIVE	0x1

/*
 * An entry of the queue: 4 bytes in big-endian order. Bit 31 is the generation: 1
 * in the first pass through the queue, 0 in the second, and so on. The other bits
 * are the number of the interrupt.
 */
#define UXIVE_ENTRY_GENERATION	0x80000000U
#define UXIVE_ENTRY_NUMBER	0x7fffffffU

/*
 * A load of 8 bytes at one of these offsets in a management page returns P and Q,
 * in big-endian order: P if an event was sent and not ended, Q if another came
 * since. UXIVE_ESB_SET_PQ_* also set both to the value in their name.
 * UXIVE_ESB_SET_PQ_00 ends the interrupt: if it returns Q, a store to the trigger
 * page follows.
 */
#define UXIVE_ESB_GET		0x800
#define UXIVE_ESB_SET_PQ_00	0xc00
#define UXIVE_ESB_SET_PQ_01	0xd00
#define UXIVE_ESB_SET_PQ_10	0xe00
#define UXIVE_ESB_SET_PQ_11	0xf00
#define UXIVE_ESB_Q		0x1
#define UXIVE_ESB_P		0x2

/**
 * struct uxive_info - argument of UXIVE_IOC_INFO
 * @size: In: size of the structure.
 * @flags: In: none defined, must be 0.
 * @features: Out: UXIVE_FEATURE_*.
 * @drain_formats: Out: UXIVE_DRAIN_* that UXIVE_IOC_USER_DRAIN takes.
 * @page_size: Out: page size of the kernel in bytes, the unit of mappings.
 * @esb_page_size: Out: size of a trigger page and of a management page in bytes.
 *	Where @page_size is less, only the first @page_size bytes can be mapped.
 * @max_irqs: Out: the most interrupts that this context can have at present, as
 *	root may change this and the other limits. On an AFU it is 8192 at most.
 *	Of a range it is its number of slots, which root cannot change.
 * @irqs: Out: interrupts that this context has.
 * @max_irqs_user: Out: the most interrupts that all contexts of a user together
 *	can have. The user of a context is the user who opened it, or the context
 *	that it is a range of.
 * @irqs_user: Out: interrupts that the contexts of this one's user have.
 * @max_irqs_total: Out: the most that all contexts together can have.
 * @irqs_total: Out: interrupts that all contexts have, with those that are
 *	being allocated or freed at this moment. One that an AFU can ring both
 *	ways counts twice here and for the user.
 * @max_queues_user: Out: the most event queues that all contexts of a user can
 *	have. Each context that has an interrupt, or drains by itself, has one.
 * @queues_user: Out: event queues that the contexts of this one's user have.
 * @max_queues_total: Out: the most event queues that all contexts can have.
 * @queues_total: Out: event queues that all contexts have.
 * @max_exports_user: Out: the most exports that all contexts of a user can have,
 *	see UXIVE_IOC_EXPORT.
 * @exports_user: Out: exports that the contexts of this one's user have.
 * @max_exports_total: Out: the most exports that all contexts can have.
 * @exports_total: Out: exports that all contexts have.
 * @reserved: Out: 0.
 * @trigger: Out: trigger pages of the interrupts. The offset in a call that
 *	allocates or names an interrupt is that of its page in this window.
 * @esb: Out: for each number that appears in the event queue the trigger page
 *	and, half of the stride behind, the management page. There are no pages
 *	in it unless the program drains the queue; @length is told in any case.
 *	The second half is for messages: a context of no AFU uses the first.
 * @queue: Out: the event queue. There are no pages in it unless the program
 *	drains it; @length is told in any case.
 */
struct uxive_info {
	__u32 size;
	__u32 flags;
	__u64 features;
	__u32 drain_formats;
	__u32 page_size;
	__u32 esb_page_size;
	__u32 max_irqs;
	__u32 irqs;
	__u32 max_irqs_user;
	__u32 irqs_user;
	__u32 max_irqs_total;
	__u32 irqs_total;
	__u32 max_queues_user;
	__u32 queues_user;
	__u32 max_queues_total;
	__u32 queues_total;
	__u32 max_exports_user;
	__u32 exports_user;
	__u32 max_exports_total;
	__u32 exports_total;
	__u32 reserved;
	struct uxive_window trigger;
	struct uxive_window esb;
	struct uxive_window queue;
};

/**
 * struct uxive_user_drain - argument of UXIVE_IOC_USER_DRAIN
 * @size: In: size of the structure.
 * @flags: In: none defined, must be 0.
 * @eventfd: In: eventfd to signal when the armed queue has an entry, or -1.
 * @format: In: one of UXIVE_DRAIN_*, which the program can read.
 * @queue_offset: Out: offset at which the event queue can be mapped.
 * @queue_entries: Out: number of 4-byte entries of the queue, a power of two.
 * @esb_offset: Out: offset at which the pages of the interrupts can be mapped.
 * @esb_stride: Out: distance of the pages of consecutive interrupts in bytes.
 *	Each has its trigger page first, its management page at half of that.
 *	An entry of the queue has the number of the interrupt, or for a message
 *	of an AFU that plus @queue_entries; both have pages.
 */
struct uxive_user_drain {
	__u32 size;
	__u32 flags;
	__s32 eventfd;
	__u32 format;
	__u64 queue_offset;
	__u64 queue_entries;
	__u64 esb_offset;
	__u64 esb_stride;
};

/**
 * struct uxive_arm - argument of UXIVE_IOC_ARM
 * @size: In: size of the structure.
 * @flags: In: none defined, must be 0.
 */
struct uxive_arm {
	__u32 size;
	__u32 flags;
};

/* The interrupts come from the chip @chip, and from no other. */
#define UXIVE_ALLOC_CHIP	0x1

/* They come from the chips of the NUMA node @chip, and from no others. */
#define UXIVE_ALLOC_NODE	0x2

/* They get the slots from @start on. */
#define UXIVE_ALLOC_AT		0x4

/**
 * struct uxive_irq_alloc - argument of UXIVE_IOC_IRQ_ALLOC
 * @size: In: size of the structure.
 * @flags: In: UXIVE_ALLOC_CHIP, UXIVE_ALLOC_NODE, or 0.
 * @chip: In: with UXIVE_ALLOC_CHIP the chip, as physical_package_id numbers it
 *	in the topology of its CPUs in sysfs; with UXIVE_ALLOC_NODE the node;
 *	with neither 0.
 * @reserved: In: must be 0.
 * @offset: Out: offset of the trigger page.
 */
struct uxive_irq_alloc {
	__u32 size;
	__u32 flags;
	__u32 chip;
	__u32 reserved;
	__u64 offset;
};

/*
 * A slot is the number of an interrupt in its context: that of its page in the
 * window of trigger pages. Calls for many interrupts name them by slots on end.
 */

/**
 * struct uxive_irq_alloc_many - argument of UXIVE_IOC_IRQ_ALLOC_MANY
 * @size: In: size of the structure.
 * @flags: In: UXIVE_ALLOC_AT, and UXIVE_ALLOC_CHIP or UXIVE_ALLOC_NODE, or 0.
 * @chip: In: as in struct uxive_irq_alloc.
 * @count: In: how many interrupts, at least 1.
 * @start: In: with UXIVE_ALLOC_AT the first slot, without it 0. Out, only if the
 *	call succeeds: the first slot; without UXIVE_ALLOC_AT the lowest from
 *	which @count are free. Set it anew before another call with the structure.
 * @reserved: In: must be 0.
 * @eventfds: In: address of @count times __s32, the eventfd that the interrupt
 *	signals or -1; or 0, for no eventfds.
 */
struct uxive_irq_alloc_many {
	__u32 size;
	__u32 flags;
	__u32 chip;
	__u32 count;
	__u32 start;
	__u32 reserved;
	__u64 eventfds;
};

/**
 * struct uxive_irq_free_many - argument of UXIVE_IOC_IRQ_FREE_MANY
 * @size: In: size of the structure.
 * @flags: In: none defined, must be 0.
 * @start: In: first slot.
 * @count: In: how many, at least 1.
 */
struct uxive_irq_free_many {
	__u32 size;
	__u32 flags;
	__u32 start;
	__u32 count;
};

/**
 * struct uxive_irq_free_all - argument of UXIVE_IOC_IRQ_FREE_ALL
 * @size: In: size of the structure.
 * @flags: In: none defined, must be 0.
 */
struct uxive_irq_free_all {
	__u32 size;
	__u32 flags;
};

/* The array at @data of struct uxive_set_irqs; these are values of VFIO_IRQ_SET_*. */

/* None: the call is for all @count interrupts. */
#define UXIVE_SET_DATA_NONE	0x01

/* A __u8 for each interrupt: the call is for those where it is not 0. */
#define UXIVE_SET_DATA_BOOL	0x02

/* A __s32 for each interrupt, its eventfd or -1. */
#define UXIVE_SET_DATA_EVENTFD	0x04

/* The action on the interrupts. */

/* Masks them: their events are held back. One that is masked stays as it is. */
#define UXIVE_SET_MASK		0x08

/*
 * Unmasks them. Of each at most two events come: one for the rings while it was
 * masked, however many, and one if an event was under way when it was masked. An
 * interrupt that an AFU can ring, too, has as many of its message.
 */
#define UXIVE_SET_UNMASK	0x10

/* Raises them; with UXIVE_SET_DATA_EVENTFD binds them, or unbinds with -1. */
#define UXIVE_SET_TRIGGER	0x20

/*
 * Binds the interrupt, @count is 1, for irq bypass: once a guest of KVM has an irqfd
 * of the same eventfd, the interrupt goes to the guest and not by way of the host.
 * To be used with UXIVE_SET_DATA_EVENTFD and UXIVE_SET_TRIGGER, if UXIVE_IOC_INFO
 * tells of UXIVE_FEATURE_BYPASS.
 */
#define UXIVE_SET_BYPASS	0x40

/**
 * struct uxive_set_irqs - argument of UXIVE_IOC_SET_IRQS
 * @size: In: size of the structure.
 * @flags: In: one of UXIVE_SET_DATA_*, and UXIVE_SET_MASK, UXIVE_SET_UNMASK or
 *	UXIVE_SET_TRIGGER, the last with UXIVE_SET_BYPASS or without.
 * @start: In: first slot.
 * @count: In: how many, at least 1.
 * @data: In: address of the array; 0 with UXIVE_SET_DATA_NONE.
 */
struct uxive_set_irqs {
	__u32 size;
	__u32 flags;
	__u32 start;
	__u32 count;
	__u64 data;
};

/**
 * struct uxive_range - argument of UXIVE_IOC_RANGE
 * @size: In: size of the structure.
 * @flags: In: none defined, must be 0.
 * @count: In: number of slots of the range, 1 to 65536.
 * @fd: Out: the range, a file that is closed on exec.
 */
struct uxive_range {
	__u32 size;
	__u32 flags;
	__u32 count;
	__s32 fd;
};

/* Only work of the AFU's queue @queue raises the interrupt. */
#define UXIVE_IMS_QUEUE		0x1

/**
 * struct uxive_ims_alloc - argument of UXIVE_IOC_IMS_ALLOC
 * @size: In: size of the structure.
 * @flags: In: UXIVE_IMS_QUEUE or 0.
 * @eventfd: In: eventfd to signal, as OCXL_IOCTL_IRQ_SET_FD does, or -1.
 * @queue: In: with UXIVE_IMS_QUEUE the number of a queue, as the AFU counts
 *	them, not 0; without it 0: any queue of the context raises it.
 * @offset: Out: offset that names the interrupt in other calls, without a page.
 * @slot: Out: message slot of the context, by which the AFU knows the interrupt.
 * @reserved: In: must be 0.
 */
struct uxive_ims_alloc {
	__u32 size;
	__u32 flags;
	__s32 eventfd;
	__u32 queue;
	__u64 offset;
	__u32 slot;
	__u32 reserved;
};

/* Kinds of export. */

/* A file that can be mapped. */
#define UXIVE_EXPORT_FILE	1

/* 2 is reserved: a dma-buf. */

/**
 * struct uxive_export - argument of UXIVE_IOC_EXPORT
 * @size: In: size of the structure.
 * @flags: In: none defined, must be 0.
 * @kind: In: UXIVE_EXPORT_FILE.
 * @start: In: number of the first interrupt: its offset is that of the window of
 *	trigger pages and @start times the stride of that.
 * @count: In: how many, at least 1. All are interrupts that are rung by a store.
 * @id: Out: number of the export in this context, for UXIVE_IOC_REVOKE. It is
 *	not 0, and no other export of the context has it or will.
 * @fd: Out: descriptor of the new file, with O_CLOEXEC. At @count strides from
 *	offset 0 on it has their trigger pages. All processes together can map it
 *	128 times; a child does not inherit a mapping.
 * @max_rate: In: how many events may come in a second of all of them together, if
 *	that is less than root allows; 0 for as many as that.
 */
struct uxive_export {
	__u32 size;
	__u32 flags;
	__u32 kind;
	__u32 start;
	__u32 count;
	__u32 id;
	__s32 fd;
	__u32 max_rate;
};

/**
 * struct uxive_export_info - argument of UXIVE_IOC_EXPORT_INFO
 * @size: In: size of the structure.
 * @flags: In: none defined, must be 0.
 * @kind: Out: UXIVE_EXPORT_FILE.
 * @mode: Out: how the file is open: O_RDWR or O_WRONLY.
 * @count: Out: how many trigger pages it has, from offset 0 on.
 * @page_size: Out: page size of the kernel in bytes, the unit of mappings.
 * @stride: Out: distance of its trigger pages in bytes.
 */
struct uxive_export_info {
	__u32 size;
	__u32 flags;
	__u32 kind;
	__u32 mode;
	__u32 count;
	__u32 page_size;
	__u64 stride;
};

/**
 * struct uxive_revoke - argument of UXIVE_IOC_REVOKE
 * @size: In: size of the structure.
 * @flags: In: none defined, must be 0.
 * @id: In: number of the export.
 * @reserved: In: must be 0.
 */
struct uxive_revoke {
	__u32 size;
	__u32 flags;
	__u32 id;
	__u32 reserved;
};

/*
 * Events, which are read from a context: each is a struct uxive_event, that is, a
 * header and a body. The header is ocxl's, but has the length of the event where
 * that of ocxl has a reserved field. Events of ocxl's own types are as ocxl has
 * them: OCXL_AFU_EVENT_XSL_FAULT_ERROR reports an access that the context may not
 * make; the address is an offset in the context's MMIO, in bytes. A program skips
 * events of types that it does not know.
 */

/**
 * struct uxive_event_header - header of an event
 * @type: UXIVE_EVENT_*, or OCXL_AFU_EVENT_XSL_FAULT_ERROR.
 * @flags: OCXL_KERNEL_EVENT_FLAG_LAST or 0.
 * @length: Length of the event with its header, in bytes: 40 for those that this
 *	header describes. In events of ocxl's types it is 0, for 40.
 */
struct uxive_event_header {
	__u16 type;
	__u16 flags;
	__u32 length;
};

/* An interrupt was quarantined, see struct uxive_event_quarantine. */
#define UXIVE_EVENT_QUARANTINED	0x40

/* It went quiet and was freed, see struct uxive_event_quarantine. */
#define UXIVE_EVENT_RELEASED	0x41

/* The machine has no more of a resource, see struct uxive_event_exhausted. */
#define UXIVE_EVENT_EXHAUSTED	0x42

/* There was no room for events here, see struct uxive_event_dropped. */
#define UXIVE_EVENT_DROPPED	0x43

/* The AFU reported an error, see struct uxive_event_afu_error. */
#define UXIVE_EVENT_AFU_ERROR	0x44

/* There is no AFU any more, see struct uxive_event_gone. The last event. */
#define UXIVE_EVENT_GONE	0x45

/* Interrupts came too often, see struct uxive_event_storm. */
#define UXIVE_EVENT_STORM	0x46

/* The interrupt cannot be switched off at its source. */
#define UXIVE_QUARANTINE_SOURCE	1

/* Its events keep coming although it is off. */
#define UXIVE_QUARANTINE_EVENTS	2

/**
 * struct uxive_event_quarantine - body of UXIVE_EVENT_QUARANTINED and _RELEASED
 * @offset: Offset that the interrupt had.
 * @reason: UXIVE_QUARANTINE_*; with UXIVE_EVENT_RELEASED 0.
 * @reserved: 0.
 */
struct uxive_event_quarantine {
	__u64 offset;
	__u64 reason;
	__u64 reserved[2];
};

/* Interrupts: of the chip that the call named, or of all. */
#define UXIVE_RESOURCE_IRQ	1

/* Virtual processors, of which each context with an interrupt needs one. */
#define UXIVE_RESOURCE_VP	2

/*
 * Messages, of which each interrupt of an AFU needs one: of its host bridge. The driver
 * takes half of these at most.
 */
#define UXIVE_RESOURCE_MESSAGE	3

/**
 * struct uxive_event_exhausted - body of UXIVE_EVENT_EXHAUSTED
 * @resource: UXIVE_RESOURCE_*: firmware had no more of it for us, so a call failed.
 *	Not reported for the limits that UXIVE_IOC_INFO tells.
 * @reserved: 0.
 */
struct uxive_event_exhausted {
	__u64 resource;
	__u64 reserved[3];
};

/**
 * struct uxive_event_dropped - body of UXIVE_EVENT_DROPPED
 * @count: Number of events that were dropped here, as too many were unread.
 * @reserved: 0.
 */
struct uxive_event_dropped {
	__u64 count;
	__u64 reserved[3];
};

/**
 * struct uxive_event_afu_error - body of UXIVE_EVENT_AFU_ERROR
 * @code: The AFU's code of the error.
 * @count: Number of errors since the last that was reported. @code is that of the
 *	last of them.
 * @reserved: 0.
 */
struct uxive_event_afu_error {
	__u64 code;
	__u64 count;
	__u64 reserved[2];
};

/* The driver was unbound from its function, or the function was removed. */
#define UXIVE_GONE_UNBOUND	1

/* It did not answer for some seconds, or is not there any more. */
#define UXIVE_GONE_SILENT	2

/* Its function is reset, as also after an error of the host bridge. */
#define UXIVE_GONE_RESET	3

/**
 * struct uxive_event_gone - body of UXIVE_EVENT_GONE
 * @reason: UXIVE_GONE_*.
 * @reserved: 0.
 */
struct uxive_event_gone {
	__u64 reason;
	__u64 reserved[3];
};

/**
 * struct uxive_event_storm - body of UXIVE_EVENT_STORM
 * @offset: Offset of the interrupt; with @export_id that of one of its interrupts.
 * @count: How often its message came within a tenth of a second, or all
 *	interrupts of the export together, which was the most that is allowed. It
 *	was held back for the rest of that, and is again as long as this goes on,
 *	without a further event.
 * @export_id: Number of the export, or 0 if it was a message.
 * @reserved: 0.
 */
struct uxive_event_storm {
	__u64 offset;
	__u64 count;
	__u64 export_id;
	__u64 reserved;
};

/**
 * struct uxive_event - an event, as it is read from a context
 * @header: The header.
 * @quarantine: Body of UXIVE_EVENT_QUARANTINED and UXIVE_EVENT_RELEASED.
 * @exhausted: Body of UXIVE_EVENT_EXHAUSTED.
 * @dropped: Body of UXIVE_EVENT_DROPPED.
 * @fault: Body of OCXL_AFU_EVENT_XSL_FAULT_ERROR.
 * @afu_error: Body of UXIVE_EVENT_AFU_ERROR.
 * @gone: Body of UXIVE_EVENT_GONE.
 * @storm: Body of UXIVE_EVENT_STORM.
 * @body: Body of any.
 */
struct uxive_event {
	struct uxive_event_header header;
	/* C99 has no anonymous unions. */
	__extension__ union {
		struct uxive_event_quarantine quarantine;
		struct uxive_event_exhausted exhausted;
		struct uxive_event_dropped dropped;
		struct ocxl_kernel_event_xsl_fault_error fault;
		struct uxive_event_afu_error afu_error;
		struct uxive_event_gone gone;
		struct uxive_event_storm storm;
		__u64 body[4];
	};
};

#endif /* _UAPI_MISC_UXIVE_H */

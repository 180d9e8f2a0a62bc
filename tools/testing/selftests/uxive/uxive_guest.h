/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Helpers for selftests of irq bypass: a guest that consumer.ko stands in for, with KVM.
 */
#ifndef UXIVE_GUEST_H
#define UXIVE_GUEST_H

#include "uxive_selftest.h"

#include <consumer.h>

#define CONSUMER	"/dev/consumer"
#define CONSUMER_MODULE	"/modules/consumer.ko"

#define BIND	(UXIVE_SET_DATA_EVENTFD | UXIVE_SET_TRIGGER)
#define BYPASS	(BIND | UXIVE_SET_BYPASS)

static inline bool switch_bypass(bool on)
{
	return !limit_set("bypass", on);
}

static inline int bind_bypass(int fd, int slot, int efd)
{
	__s32 fds[] = { efd };

	return ux_set_irqs(fd, BYPASS, slot, 1, fds);
}

static inline int guest_open(void)
{
	return open(CONSUMER, O_RDWR | O_CLOEXEC);
}

static inline int guest_call(int guest, unsigned int call, long argument)
{
	int ret = ioctl(guest, call, argument);

	return ret < 0 ? -errno : ret;
}

static inline int guest_register(int guest, int efd)
{
	return guest_call(guest, CONSUMER_REGISTER, efd);
}

static inline int guest_unregister(int guest)
{
	return guest_call(guest, CONSUMER_UNREGISTER, 0);
}

static inline bool guest_has(int guest)
{
	return guest_call(guest, CONSUMER_CONNECTED, 0);
}

/* All events until none is under way: the guest takes what has come. */
static inline int guest_take(int guest)
{
	return guest_call(guest, CONSUMER_TAKE, 0);
}

/* Waits for an event, and takes those that have come. */
static inline int guest_wait(int guest)
{
	int taken = 0;

	return becomes((taken = guest_take(guest)) > 0, true) ? taken : 0;
}

#endif /* UXIVE_GUEST_H */

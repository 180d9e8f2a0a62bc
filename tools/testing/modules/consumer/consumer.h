/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Calls of /dev/consumer. An open file is a consumer of irq bypass, as a guest of KVM
 * is one: once it is connected it gets the events of an interrupt, and ends them.
 */
#ifndef CONSUMER_H
#define CONSUMER_H

#include <linux/ioctl.h>

/* Registers the consumer with the eventfd whose descriptor is the argument. */
#define CONSUMER_REGISTER	_IO('c', 1)
#define CONSUMER_UNREGISTER	_IO('c', 2)
/* Ends all events that have come since the last call. Returns how many there were. */
#define CONSUMER_TAKE		_IO('c', 3)
/* From now on the consumer refuses with this errno, or not if it is 0. */
#define CONSUMER_REFUSE		_IO('c', 4)
/* Returns whether it is connected. */
#define CONSUMER_CONNECTED	_IO('c', 5)

#endif /* CONSUMER_H */

/* SPDX-License-Identifier: GPL-2.0 */
/* The protocol between the owner and the ringer of the demonstration. */
#ifndef DEMO_H
#define DEMO_H

#include <sys/socket.h>
#include <sys/un.h>

#define INTERRUPTS 8
#define ROUNDS 1000

/* In the abstract namespace of UNIX sockets: the owner listens there. */
#define SOCKET "uxive-demo"

static inline socklen_t demo_address(struct sockaddr_un *address)
{
	*address = (struct sockaddr_un){ .sun_family = AF_UNIX, .sun_path = "\0" SOCKET };
	return sizeof(address->sun_family) + sizeof(SOCKET);
}

/* Messages of the owner: a ring has arrived, one was lost, the doorbell is revoked. */
#define ARRIVED 'a'
#define LOST 'l'
#define REVOKED 'r'

#endif /* DEMO_H */

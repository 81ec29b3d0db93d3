// SPDX-License-Identifier: Apache-2.0
/* What the scenarios share: the truth they tell, and ways to move bytes. */
#pragma once

#include <netinet/in.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/socket.h>

/* Primes, so that no sum comes out right by accident. */
#define CONNS	  7
#define UP	  12347
#define DOWN	  54323
#define DATAGRAMS 31
#define SIZE	  101 /* datagram i: SIZE + i there, twice as many back */

/* Of all processes of one side; in shared memory. */
struct truth {
	_Atomic long tx, rx;  /* payload */
	_Atomic long out, in; /* datagrams */
	_Atomic long conns, failures;
};

struct args {
	struct sockaddr_storage addr; /* the server's */
	socklen_t len;
	const char *extra; /* what the driver has to say */
};

struct scenario {
	const char *name;
	void (*server)(const struct args *a);
	void (*client)(const struct args *a);
};

enum way {
	WAY_PLAIN,
	WAY_SENDFILE,
	WAY_SPLICE,
	WAY_URING,
	WAY_ZEROCOPY,
};

extern struct truth *truth;
extern enum way way; /* how put() and get() do it */
/* They end with a NULL name. */
extern const struct scenario tcp_scenarios[], idle_scenarios[], other_scenarios[];

_Noreturn void die(const char *what);
/* Ends the run: this kernel can't. */
_Noreturn void skip(const char *why);
/* Names this process as one whose traffic it is. */
void say_owner(void);
void say_ready(void);
void sleep_ms(long ms);
/* Runs fn in a child; returns its pid. reap() waits for all of them. */
int spawn(void (*fn)(const struct args *a, int fd), const struct args *a, int fd);
void reap(void);

void put(int fd, long len);
void get(int fd, long len);
/* All until the peer's end. */
void get_all(int fd);

/* A socket that listens, after saying so; one connection of it; one to the server. */
int listener(const struct args *a);
int accept_one(int s);
int dialled(const struct args *a);

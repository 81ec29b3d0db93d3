// SPDX-License-Identifier: Apache-2.0
/* Holds a program at the end of all system calls, to see what that alone costs them: floor
 * hook|record PID. */
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/types.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "bench/floor/floor.h"
#include "bpf/floor.skel.h"

/* As our own plugins poll: half of the ring comes in less at no rate that was seen. */
#define POLL_US	  10000
#define RING_SIZE (16u << 20)

static volatile sig_atomic_t ended;

static void on_signal(int signo)
{
	(void)signo;
	ended = 1;
}

static int forget(void *arg, void *data, size_t size)
{
	(void)data;
	(void)size;
	++*(unsigned long *)arg;
	return 0;
}

static int die(const char *what)
{
	fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
	return 1;
}

int main(int argc, char **argv)
{
	unsigned long records = 0;
	struct ring_buffer *ring;
	struct floor_bpf *skel;
	struct bpf_link *link;
	int record;

	if (argc != 3 || (strcmp(argv[1], "hook") != 0 && strcmp(argv[1], "record") != 0)) {
		fputs("floor hook|record PID   of whose opens there are records\n", stderr);
		return 2;
	}
	record = strcmp(argv[1], "record") == 0;
	skel = floor_bpf__open();
	if (!skel)
		return die("open");
	skel->rodata->watched_tgid = (__u32)atoi(argv[2]);
	skel->rodata->watched_nr = SYS_openat;
	bpf_map__set_max_entries(skel->maps.events, RING_SIZE);
	bpf_program__set_autoload(record ? skel->progs.floor_hook : skel->progs.floor_record,
				  false);
	if (floor_bpf__load(skel) < 0)
		return die("load");
	link = bpf_program__attach(record ? skel->progs.floor_record : skel->progs.floor_hook);
	ring = ring_buffer__new(bpf_map__fd(skel->maps.events), forget, &records, NULL);
	if (!link || !ring)
		return die("attach");
	signal(SIGINT, on_signal);
	signal(SIGTERM, on_signal);
	while (!ended) {
		usleep(POLL_US);
		ring_buffer__consume(ring);
	}
	printf("records %lu\n", records);
	ring_buffer__free(ring);
	bpf_link__destroy(link);
	floor_bpf__destroy(skel);
	return 0;
}

// SPDX-License-Identifier: Apache-2.0
/* The governor's senses without the daemon: obeys one command a line on standard input, answers
 * with one JSON line. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/xattr.h>

#include "base/clock.h"
#include "base/macro.h"
#include "governor/cgroup.h"
#include "governor/usage.h"

static struct cgroup_place *place;
static struct usage *usage;
static int old_socket = -1;

static void enter(const char *name, bool manage)
{
	struct err err = {0};

	if (cgroup_enter(&place, name, manage) < 0 ||
	    usage_new(&usage, place, NULL, NULL, &err) < 0)
		exit(1);
	printf("{\"mode\": %d, \"describe\": \"%s\", \"lost\": \"%s\", \"net\": \"%s\", \"v2\": "
	       "%s, "
	       "\"v2_id\": %" PRIu64 "}\n",
	       cgroup_mode(place), cgroup_describe(place), cgroup_lost(place), usage_lost(usage),
	       cgroup_v2_fd(place) >= 0 ? "true" : "false", cgroup_v2_id(place));
}

static void limits(uint64_t cpu, uint64_t mem)
{
	struct err err = {0};
	int r = cgroup_set_backstops(place, cpu, mem, &err);

	printf("{\"result\": %d, \"error\": \"%s\"}\n", r, err.msg);
}

static void take(enum net_scope scope)
{
	struct cgroup_usage cg;
	struct governor_usage u;

	cgroup_read_usage(place, &cg);
	usage_take(usage, scope, clock_mono_ns(), &u);
	printf("{\"cpu_ns\": %" PRIu64 ", \"periods\": %" PRIu64 ", \"held\": %" PRIu64
	       ", \"mem\": %" PRIu64 ", \"mem_valid\": %d, \"mem_is_rss\": %d, \"cpu\": %" PRIu64
	       ", \"cpu_valid\": %d, \"throttled\": %f, \"rx\": %" PRIu64 ", \"tx\": %" PRIu64
	       ", \"net_valid\": %d, \"interface\": \"%s\", \"at\": %" PRIu64 "}\n",
	       cg.cpu_ns, cg.nr_periods, cg.nr_throttled, u.sample.value[RESOURCE_MEM],
	       u.sample.valid[RESOURCE_MEM], cg.mem_is_rss, u.sample.value[RESOURCE_CPU],
	       u.sample.valid[RESOURCE_CPU], u.sample.throttled, u.net_rx, u.net_tx,
	       u.sample.valid[RESOURCE_NET], u.net_interface, u.sample.now_ns);
}

static void send_udp(int fd, int port, int count, int size)
{
	struct sockaddr_in to = {.sin_family = AF_INET,
				 .sin_port = htons(port),
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	static char data[65000];
	int sent = 0;

	for (int i = 0; i < count; i++)
		sent += sendto(fd, data, size, 0, (struct sockaddr *)&to, sizeof(to)) == size;
	printf("{\"sent\": %d}\n", sent);
}

static uint64_t burn_until;

static void *burn_thread(void *arg)
{
	volatile uint64_t n = 0;

	(void)arg;
	while (clock_mono_ns() < burn_until)
		for (int i = 0; i < 10000; i++)
			n++;
	return NULL;
}

static void burn(int ms)
{
	pthread_t t[2];

	burn_until = clock_mono_ns() + ms * NSEC_PER_MSEC;
	for (int i = 0; i < 2; i++)
		pthread_create(&t[i], NULL, burn_thread, NULL);
	for (int i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	printf("{}\n");
}

/* Anonymous memory that stays. */
static void grow(size_t mib)
{
	char *p = mmap(NULL, mib << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		exit(1);
	memset(p, 1, mib << 20);
	printf("{}\n");
}

/* Page cache, which isn't to count. */
static void write_file(const char *path, int mib)
{
	_cleanup_free_ char *data = calloc(1, 1 << 20);
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	for (int i = 0; i < mib; i++)
		if (!data || write(fd, data, 1 << 20) != 1 << 20)
			exit(1);
	printf("{}\n");
}

static void obey(const char *line)
{
	char word[128] = "";
	int a = 0, b = 0, c = 0;
	uint64_t x, y;

	if (sscanf(line, "enter %127s", word) == 1)
		enter(word, true);
	else if (sscanf(line, "stay %127s", word) == 1)
		enter(word, false);
	else if (sscanf(line, "limits %" SCNu64 " %" SCNu64, &x, &y) == 2)
		limits(x, y);
	else if (sscanf(line, "take %d", &a) == 1)
		take(a);
	else if (sscanf(line, "old-udp %d %d %d", &a, &b, &c) == 3)
		send_udp(old_socket, a, b, c);
	else if (sscanf(line, "udp %d %d %d", &a, &b, &c) == 3)
		send_udp(socket(AF_INET, SOCK_DGRAM, 0), a, b, c);
	else if (sscanf(line, "burn %d", &a) == 1)
		burn(a);
	else if (sscanf(line, "grow %d", &a) == 1)
		grow(a);
	else if (sscanf(line, "file %d %127s", &a, word) == 2)
		write_file(word, a);
	else if (!strncmp(line, "socket", 6)) {
		old_socket = socket(AF_INET, SOCK_DGRAM, 0);
		printf("{}\n");
	} else if (sscanf(line, "delegate %127s", word) == 1) {
		/* As systemd marks a unit with Delegate=yes. */
		printf("{\"result\": %d}\n", setxattr(word, "trusted.delegate", "1", 1, 0));
	} else if (!strncmp(line, "leave", 5)) {
		usage_free(TAKE_PTR(usage));
		cgroup_leave(TAKE_PTR(place));
		printf("{}\n");
	} else {
		fprintf(stderr, "governor_probe: unknown command '%s'\n", line);
		exit(2);
	}
}

int main(void)
{
	char line[256];

	setvbuf(stdout, NULL, _IOLBF, 0);
	while (fgets(line, sizeof(line), stdin))
		obey(line);
	usage_free(usage);
	cgroup_leave(place);
	return 0;
}

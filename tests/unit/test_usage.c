// SPDX-License-Identifier: Apache-2.0
/* The governor's readers on texts of real kernels, the rates of interfaces, and last_exit.json. */
#include "governor/usage.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/clock.h"
#include "base/macro.h"
#include "governor/ceiling.h"
#include "governor/cgroup.h"
#include "governor/last_exit.h"
#include "governor/netdev.h"
#include "governor/parse.h"

static void test_u64(void **state)
{
	static const char *const bad[] = {
		"", "\n", "max\n", "-1\n", " 1\n", "+1", "1 2", "18446744073709551616", "0x10"};
	uint64_t v = 7;

	(void)state;
	assert_int_equal(parse_u64("0\n", &v), 0);
	assert_int_equal(v, 0);
	assert_int_equal(parse_u64("18446744073709551615\n", &v), 0);
	assert_true(v == UINT64_MAX);
	v = 7;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(parse_u64(bad[i], &v), -EINVAL);
	assert_int_equal(v, 7);
}

static void test_keyed(void **state)
{
	static const char cpu_stat[] = "usage_usec 1234567\nuser_usec 1000000\nsystem_usec 234567\n"
				       "nr_periods 31\nnr_throttled 29\nthrottled_usec 1450000\n";
	/* v1: "inactive_file" is this group's own, "total_inactive_file" its children's too. */
	static const char memory_stat[] = "cache 98566144\nrss 0\ninactive_file 1\nactive_file 2\n"
					  "total_cache 98566144\ntotal_inactive_file 98566143\n";
	uint64_t v = 7;

	(void)state;
	assert_int_equal(parse_keyed(cpu_stat, "usage_usec", &v), 0);
	assert_int_equal(v, 1234567);
	assert_int_equal(parse_keyed(cpu_stat, "nr_throttled", &v), 0);
	assert_int_equal(v, 29);
	assert_int_equal(parse_keyed(memory_stat, "total_inactive_file", &v), 0);
	assert_int_equal(v, 98566143);
	assert_int_equal(parse_keyed(memory_stat, "inactive_file", &v), 0);
	assert_int_equal(v, 1);
	assert_int_equal(parse_keyed(memory_stat, "inactive", &v), -ENOENT);
	assert_int_equal(parse_keyed("", "usage_usec", &v), -ENOENT);
	/* Cut by the buffer. */
	assert_int_equal(parse_keyed("usage_usec 12", "usage_usec", &v), 0);
	assert_int_equal(parse_keyed("usage_usec", "usage_usec", &v), -ENOENT);
	assert_int_equal(parse_keyed("usage_usec ", "usage_usec", &v), -EINVAL);
}

static void test_cgroup_path(void **state)
{
	static const char hybrid[] =
		"9:name=systemd:/\n4:memory:/vm/9aa3\n2:cpu,cpuacct:/a:b\n0::/unit.service\n";
	char p[64];

	(void)state;
	assert_int_equal(parse_cgroup_path(hybrid, "memory", p, sizeof(p)), 0);
	assert_string_equal(p, "/vm/9aa3");
	assert_int_equal(parse_cgroup_path(hybrid, "cpuacct", p, sizeof(p)), 0);
	assert_string_equal(p, "/a:b");
	assert_int_equal(parse_cgroup_path(hybrid, NULL, p, sizeof(p)), 0);
	assert_string_equal(p, "/unit.service");
	assert_int_equal(parse_cgroup_path(hybrid, "cpus", p, sizeof(p)), -ENOENT);
	assert_int_equal(parse_cgroup_path(hybrid, "pu", p, sizeof(p)), -ENOENT);
	assert_int_equal(parse_cgroup_path("0::/\n", NULL, p, sizeof(p)), 0);
	assert_string_equal(p, "/");
	assert_int_equal(parse_cgroup_path("0::/gone (deleted)\n", NULL, p, sizeof(p)), -ENOENT);
	assert_int_equal(parse_cgroup_path("10::/\n", NULL, p, sizeof(p)), -ENOENT);
	assert_int_equal(parse_cgroup_path("", NULL, p, sizeof(p)), -ENOENT);
	assert_int_equal(parse_cgroup_path("4:memory\n0:\n:::\n", "memory", p, sizeof(p)), -ENOENT);
	assert_int_equal(parse_cgroup_path("4:memory:/0123456789", "memory", p, 8), -ENAMETOOLONG);
}

static void test_cgroup_mount(void **state)
{
	static const char hybrid[] =
		"31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"
		"32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup "
		"rw,cpu,cpuacct\n"
		"35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:1 master:2 - cgroup cgroup "
		"rw,memory\n"
		"41 31 0:38 / /sys/fs/cgroup/uni\\040fied rw,relatime - cgroup2 cgroup2 "
		"rw,nsdelegate\n";
	/* A container without a cgroup namespace: the mount shows its own group as root. */
	static const char docker[] =
		"90 80 0:29 /docker/abc /sys/fs/cgroup/memory ro,nosuid - cgroup cgroup rw,memory\n"
		"91 80 0:38 /../.. /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
	char point[128], below[128];

	(void)state;
	assert_int_equal(parse_cgroup_mount(hybrid, "cpuacct", "/", point, sizeof(point), below,
					    sizeof(below)),
			 0);
	assert_string_equal(point, "/sys/fs/cgroup/cpu,cpuacct");
	assert_string_equal(below, "");
	assert_int_equal(parse_cgroup_mount(hybrid, "memory", "/vm/9aa3", point, sizeof(point),
					    below, sizeof(below)),
			 0);
	assert_string_equal(point, "/sys/fs/cgroup/memory");
	assert_string_equal(below, "/vm/9aa3");
	assert_int_equal(
		parse_cgroup_mount(hybrid, NULL, "/x", point, sizeof(point), below, sizeof(below)),
		0);
	assert_string_equal(point, "/sys/fs/cgroup/uni fied");
	assert_string_equal(below, "/x");
	assert_int_equal(
		parse_cgroup_mount(hybrid, "pids", "/", point, sizeof(point), below, sizeof(below)),
		-ENOENT);

	assert_int_equal(parse_cgroup_mount(docker, "memory", "/docker/abc/w", point, sizeof(point),
					    below, sizeof(below)),
			 0);
	assert_string_equal(below, "/w");
	assert_int_equal(parse_cgroup_mount(docker, "memory", "/docker/abcd", point, sizeof(point),
					    below, sizeof(below)),
			 -ENOENT);
	assert_int_equal(
		parse_cgroup_mount(docker, NULL, "/", point, sizeof(point), below, sizeof(below)),
		-ENOENT);
	assert_int_equal(parse_cgroup_mount(hybrid, "memory", "/../x", point, sizeof(point), below,
					    sizeof(below)),
			 -ENOENT);
	assert_int_equal(parse_cgroup_mount(hybrid, "memory", "/x", point, 8, below, sizeof(below)),
			 -ENAMETOOLONG);
	/* Cut anywhere it is still no mount that isn't there. */
	for (size_t len = 0; len < sizeof(docker) - 1; len++) {
		_cleanup_free_ char *cut = strndup(docker, len);
		int r = parse_cgroup_mount(cut, "memory", "/docker/abc", point, sizeof(point),
					   below, sizeof(below));

		assert_true(r == 0 || r == -ENOENT);
	}
}

static const char net_dev[] =
	"Inter-|   Receive                                                |  Transmit\n"
	" face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs "
	"drop fifo colls carrier "
	"compressed\n"
	"    lo: 1000 10 0 0 0 0 0 0 1000 10 0 0 0 0 0 0\n"
	"  eth0:18446744073709551615 2 0 0 0 0 0 0 77 4 0 0 0 0 0 0\n"
	"veth12345678901:5 2 0 0 0 0 0 0 6 4 0 0 0 0 0 0\n"
	"broken: 5 2\n"
	"verylongnamewhichcannotbe: 5 2 0 0 0 0 0 0 6 4 0 0 0 0 0 0\n";

struct seen {
	size_t n;
	struct net_device dev[8];
};

static void see(void *arg, const struct net_device *dev)
{
	struct seen *s = arg;

	assert_in_range(s->n, 0, 7);
	s->dev[s->n++] = *dev;
}

static void check_seen(const struct seen *s)
{
	assert_int_equal(s->n, 3);
	assert_string_equal(s->dev[0].name, "lo");
	assert_int_equal(s->dev[0].tx, 1000);
	assert_string_equal(s->dev[1].name, "eth0");
	assert_true(s->dev[1].rx == UINT64_MAX);
	assert_int_equal(s->dev[1].tx, 77);
	assert_string_equal(s->dev[2].name, "veth12345678901");
	assert_int_equal(s->dev[2].rx, 5);
}

static void test_net_dev(void **state)
{
	const size_t len = sizeof(net_dev) - 1;
	struct seen s = {0};

	(void)state;
	assert_int_equal(parse_net_dev(net_dev, len, see, &s), len);
	check_seen(&s);
	/* In two pieces, cut at every byte. */
	for (size_t cut = 0; cut <= len; cut++) {
		size_t used;

		s.n = 0;
		used = parse_net_dev(net_dev, cut, see, &s);
		assert_in_range(used, 0, cut);
		assert_int_equal(parse_net_dev(net_dev + used, len - used, see, &s), len - used);
		check_seen(&s);
	}
}

static void netdev_look(struct netdev_table *t, uint64_t now_ms, const struct net_device *dev,
			size_t n)
{
	netdev_begin(t, now_ms * NSEC_PER_MSEC);
	for (size_t i = 0; i < n; i++)
		netdev_add(t, &dev[i]);
	netdev_end(t);
}

static void test_netdev_rates(void **state)
{
	_cleanup_free_ struct netdev_table *t = calloc(1, sizeof(*t));
	struct net_device d[3] = {{"lo", 100, 100}, {"eth0", 1ull << 40, 5}, {"eth1", 7, 7}};

	(void)state;
	assert_non_null(t);
	netdev_look(t, 1000, d, 2);
	assert_int_equal(t->elapsed_ns, 0);
	assert_int_equal(t->busiest.rx, 0);
	/* 2 s later: eth0 rx +6000, lo +2000 both ways; eth1 is new, and what it has isn't of these
	 * 2 s. */
	d[0].rx += 2000, d[0].tx += 2000, d[1].rx += 6000, d[2].rx = 1ull << 50;
	netdev_look(t, 3000, d, 3);
	assert_string_equal(t->busiest.name, "eth0");
	assert_int_equal(t->busiest.rx, 3000);
	assert_int_equal(t->busiest.tx, 0);
	/* eth0's counters begin anew, lower than before: nothing is known of it, lo is the busiest.
	 */
	d[0].tx += 500, d[1].rx = 10;
	netdev_look(t, 4000, d, 3);
	assert_string_equal(t->busiest.name, "lo");
	assert_int_equal(t->busiest.tx, 500);
	/* From the new beginning it counts again. */
	d[1].rx += 900;
	netdev_look(t, 5000, d, 3);
	assert_string_equal(t->busiest.name, "eth0");
	assert_int_equal(t->busiest.rx, 900);
	/* Gone and back under the same name: a new device. */
	netdev_look(t, 6000, d, 1);
	assert_int_equal(t->n, 1);
	d[1].rx += 1 << 30;
	netdev_look(t, 7000, d, 3);
	assert_int_equal(t->busiest.rx, 0);
	/* Another order. */
	d[1].rx += 100;
	netdev_look(t, 8000, (struct net_device[]){d[2], d[1], d[0]}, 3);
	assert_string_equal(t->busiest.name, "eth0");
	assert_int_equal(t->busiest.rx, 100);
	assert_int_equal(t->skipped, 0);
}

static void test_netdev_full(void **state)
{
	_cleanup_free_ struct netdev_table *t = calloc(1, sizeof(*t));
	struct net_device d = {0};

	(void)state;
	assert_non_null(t);
	netdev_begin(t, NSEC_PER_SEC);
	for (int i = 0; i < NETDEV_MAX + 3; i++) {
		snprintf(d.name, sizeof(d.name), "veth%d", i);
		netdev_add(t, &d);
	}
	netdev_end(t);
	assert_int_equal(t->n, NETDEV_MAX);
	assert_int_equal(t->skipped, 3);
}

static void test_last_exit(void **state)
{
	static const struct last_exit_level history[] = {
		{.ts = 1700000000 * NSEC_PER_SEC,
		 .level = GOVERNOR_SAMPLE,
		 .text = "cpu nears \"it\""},
		{.ts = 1700000001 * NSEC_PER_SEC,
		 .level = GOVERNOR_EXIT,
		 .text = "mem 2MiB exceeds mem_limit 1MiB: exit 82"},
	};
	struct governor_usage usage = {.sample.value = {5, 2 << 20, 0},
				       .rss_bytes = 1 << 20,
				       .net_interface = "et\"\x01\xff"};
	struct last_exit e = {.ts = 1700000001 * NSEC_PER_SEC,
			      .exit_code = 82,
			      .metric = "mem",
			      .value = 2 << 20,
			      .limit = 1 << 20,
			      .unit = "bytes",
			      .text = history[1].text,
			      .usage = &usage,
			      .history = history,
			      .n_history = 2};
	char dir[] = "/tmp/rs-gov-XXXXXX", path[64], line[256];
	_cleanup_close_ int fd = -1;
	json_auto_t *root = NULL;

	(void)state;
	assert_non_null(mkdtemp(dir));
	assert_int_equal(last_exit_read(dir, line, sizeof(line)), -ENOENT);
	assert_string_equal(line, "");
	fd = open(dir, O_RDONLY | O_DIRECTORY);
	/* Twice: the second replaces the first. */
	assert_int_equal(last_exit_write(fd, &e), 0);
	assert_int_equal(last_exit_write(fd, &e), 0);
	assert_int_equal(last_exit_read(dir, line, sizeof(line)), 0);
	assert_non_null(strstr(line, " exit 82: mem 2MiB exceeds mem_limit 1MiB: exit 82"));
	snprintf(path, sizeof(path), "%s/" LAST_EXIT_FILE, dir);
	root = json_load_file(path, 0, NULL);
	assert_non_null(root);
	assert_int_equal(json_integer_value(json_object_get(root, "value")), 2 << 20);
	assert_int_equal(json_integer_value(json_object_get(root, "limit")), 1 << 20);
	assert_string_equal(json_string_value(json_object_get(root, "metric")), "mem");
	assert_int_equal(json_array_size(json_object_get(root, "levels")), 2);
	assert_string_equal(
		json_string_value(json_object_get(json_object_get(root, "usage"), "net_interface")),
		"et\"\x01?");
	/* Cut or foreign: said so, not half-believed. */
	assert_int_equal(truncate(path, 40), 0);
	assert_int_equal(last_exit_read(dir, line, sizeof(line)), -EINVAL);
	assert_non_null(strstr(line, "can't be read"));
	unlink(path);
	assert_int_equal(rmdir(dir), 0);
}

static void put(const char *dir, const char *file, const char *text)
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, file);
	f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

/* A tree of three groups: the least that any of them says holds, whoever says it. */
static void test_ceiling(void **state)
{
	static const char *const files[] = {"cgroup.procs",	     "cpu.max",
					    "memory.max",	     "cpu.cfs_quota_us",
					    "cpu.cfs_period_us", "memory.limit_in_bytes"};
	char top[] = "/tmp/rs-gov-XXXXXX", mid[64], low[80], path[128];
	struct ceiling c = {0};

	(void)state;
	assert_non_null(mkdtemp(top));
	snprintf(mid, sizeof(mid), "%s/mid", top);
	snprintf(low, sizeof(low), "%s/low", mid);
	assert_int_equal(mkdir(mid, 0700) | mkdir(low, 0700), 0);
	/* No groups there at all. */
	ceiling_read_v2(low, &c);
	assert_true(!c.cpu_millicores && !c.mem_bytes);
	for (int i = 0; i < 3; i++)
		put(i == 0 ? top : i == 1 ? mid : low, "cgroup.procs", "");
	put(top, "memory.max", "536870912\n");
	put(top, "cpu.max", "max 100000\n");
	put(mid, "memory.max", "268435456\n");
	put(mid, "cpu.max", "50000 100000\n");
	put(low, "memory.max", "max\n");
	put(low, "cpu.max", "150000 100000\n");
	ceiling_read_v2(low, &c);
	assert_int_equal(c.cpu_millicores, 500);
	assert_string_equal(c.cpu_at, mid);
	assert_int_equal(c.mem_bytes, 268435456);
	assert_string_equal(c.mem_at, mid);

	c = (struct ceiling){0};
	put(top, "memory.limit_in_bytes", "104857600\n");
	put(mid, "memory.limit_in_bytes", "9223372036854771712\n");
	put(low, "memory.limit_in_bytes", "not a number\n");
	put(low, "cpu.cfs_quota_us", "-1\n");
	put(mid, "cpu.cfs_quota_us", "200000\n");
	put(mid, "cpu.cfs_period_us", "50000\n");
	ceiling_read_v1_cpu(low, &c);
	ceiling_read_v1_memory(low, &c);
	assert_int_equal(c.cpu_millicores, 4000);
	assert_int_equal(c.mem_bytes, 104857600);
	assert_string_equal(c.mem_at, top);

	for (int i = 2; i >= 0; i--) {
		const char *dir = i == 0 ? top : i == 1 ? mid : low;

		for (size_t k = 0; k < ARRAY_SIZE(files); k++) {
			snprintf(path, sizeof(path), "%s/%s", dir, files[k]);
			(void)unlink(path);
		}
		assert_int_equal(rmdir(dir), 0);
	}
}

/* Without any right: our own process's figures. */
static void test_process_usage(void **state)
{
	struct cgroup_place *place = NULL;
	_cleanup_(usage_freep) struct usage *u = NULL;
	struct governor_usage a, b;
	volatile uint64_t spin = 0;
	uint64_t start;

	(void)state;
	assert_int_equal(cgroup_enter(&place, "ringside-test", false), 0);
	assert_non_null(cgroup_describe(place));
	assert_int_equal(usage_new(&u, place, NULL, NULL, NULL), 0);
	start = clock_mono_ns();
	usage_take(u, NET_SCOPE_SELF, start, &a);
	assert_false(a.sample.valid[RESOURCE_CPU]);
	assert_true(a.sample.valid[RESOURCE_MEM]);
	assert_true(a.rss_bytes > 100000);
	while (clock_mono_ns() - start < 300 * NSEC_PER_MSEC)
		spin++;
	usage_take(u, NET_SCOPE_SELF, clock_mono_ns(), &b);
	assert_true(b.sample.valid[RESOURCE_CPU]);
	/* We spun for the whole time, on a machine that may be busy with others. */
	assert_in_range(b.sample.value[RESOURCE_CPU], 50, 1500);
	cgroup_leave(place);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_u64),	      cmocka_unit_test(test_keyed),
		cmocka_unit_test(test_cgroup_path),   cmocka_unit_test(test_cgroup_mount),
		cmocka_unit_test(test_net_dev),	      cmocka_unit_test(test_netdev_rates),
		cmocka_unit_test(test_netdev_full),   cmocka_unit_test(test_last_exit),
		cmocka_unit_test(test_ceiling),
		cmocka_unit_test(test_process_usage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

// SPDX-License-Identifier: Apache-2.0
/* The plugin host with plugins of the test's own: choice of hooks, floods, failures, options,
 * durations, leaks. Needs root. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <bpf/bpf.h>
#include <dirent.h>
#include <errno.h>
#include <linux/types.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/macro.h"
#include "bpf/links.h"
#include "daemon/config.h"
#include "daemon/host.h"
#include "tests/kernel/host_fixture.h"
#include "tests/kernel/host_plugin.h"
#include "tests/kernel/host_scene.h"

static void fork_times(int n)
{
	for (int i = 0; i < n; i++) {
		pid_t pid = fork();

		if (pid == 0)
			_exit(0);
		assert_true(pid > 0);
		assert_int_equal(waitpid(pid, NULL, 0), pid);
	}
}

/* Runs the flood program in our own context. */
static void flood(struct fixture *f, uint64_t n)
{
	struct plugin_info info = info_of(f, &plugin_host_plugin);
	int fd = -1;

	for (unsigned int i = 0; i < info.nprograms; i++)
		if (strcmp(info.programs[i].name, "flood") == 0)
			fd = bpf_prog_get_fd_by_id(info.programs[i].id);
	assert_true(fd >= 0);
	while (n) {
		uint64_t args[1] = {n < HOST_PLUGIN_FLOOD_MAX ? n : HOST_PLUGIN_FLOOD_MAX};
		LIBBPF_OPTS(bpf_test_run_opts, run, .ctx_in = args, .ctx_size_in = sizeof(args));

		assert_int_equal(bpf_prog_test_run_opts(fd, &run), 0);
		n -= args[0];
	}
	close(fd);
}

static void best_hook_that_works(void **state)
{
	struct fixture *f = *state;
	struct plugin_info info;

	enable(f, NULL, 0);
	info = info_of(f, &plugin_host_plugin);
	assert_int_equal(info.state, PLUGIN_STATE_DEGRADED); /* the optional group has no hook */
	assert_non_null(strstr(info.reason, "without extra (fentry/no_such_function_either: "));
	assert_non_null(strstr(info.hook, "tp_btf/sched_process_fork"));
	assert_int_equal(info.nprograms, 3);
	assert_string_equal(info.programs[0].name, "see__works");
	assert_true(info.programs[0].attached);
	assert_true(info.programs[1].attached);
	assert_false(info.programs[2].attached);
	assert_int_equal(seen.setups, 2); /* the first attempt was refused by the verifier */
	assert_true(seen.serving);
	assert_string_equal(seen.last_event, "plugin_enabled");
	fork_times(53);
	turn(f, 250);
	assert_int_equal(seen.forks, 53);
	assert_int_equal(seen.selfs, 0);
	assert_int_equal(info_of(f, &plugin_host_plugin).events, 53);
	disable(f);
	assert_int_equal(seen.row_sum, 53); /* the last interval is published at the stop */
	assert_int_equal(seen.stops, 2);
	assert_int_equal(info_of(f, &plugin_host_plugin).state, PLUGIN_STATE_DISABLED);
	fork_times(3);
	assert_int_equal(seen.forks, 53);
}

static void ask_for_sessions(int n)
{
	for (int i = 0; i < n; i++)
		assert_true((getsid(0) >= 0) && (getsid(-1) < 0));
}

/* Tracepoints of system calls are found and attached whether or not tracefs is mounted. */
static void tracepoints_of_calls(void **state)
{
	struct fixture *f = *state;

	enable(f, NULL, 0);
	assert_non_null(strstr(info_of(f, &plugin_host_plugin).hook, "tp/syscalls/sys_exit_getsid"));
	ask_for_sessions(53);
	turn(f, 250);
	assert_int_equal(seen.calls, 106);
	assert_int_equal(seen.calls_ok, 53);
	disable(f);
	ask_for_sessions(3);
	assert_int_equal(seen.calls, 106);
}

static void with_tracefs_mounted(void **state)
{
	assert_int_equal(unshare(CLONE_NEWNS), 0);
	assert_int_equal(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
	assert_int_equal(mount("tracefs", "/sys/kernel/tracing", "tracefs", 0, NULL), 0);
	tracepoints_of_calls(state);
	assert_int_equal(umount("/sys/kernel/tracing"), 0);
}

static void no_hook_at_all(void **state)
{
	struct fixture *f = *state;
	struct plugin_info info;
	struct err err = {0};

	assert_int_equal(host_enable(f->host, "host_never", NULL, 0, false, 0, false, "rpc", &err),
			 -EOPNOTSUPP);
	assert_non_null(strstr(
		err.msg, "plugin host_never cannot start: no hook for never works here (fentry/"));
	info = info_of(f, &plugin_host_never);
	assert_int_equal(info.state, PLUGIN_STATE_UNSUPPORTED);
	assert_non_null(strstr(info.reason, "tp_btf/no_such_tracepoint"));
	assert_string_equal(seen.last_event, "plugin_failed");
	assert_false(seen.serving);
	enable(f, NULL, 0); /* the others are none the worse for it */
}

static void failures_on_the_way_up(void **state)
{
	static const struct keyval broken = {"mode", "broken"}, late = {"mode", "late"},
				   typo = {"moode", "x"}, picky = {"picky", "7"};
	struct fixture *f = *state;
	struct err err = {0};

	assert_int_equal(
		host_enable(f->host, "host_plugin", &broken, 1, false, 0, false, "rpc", &err),
		-EIO);
	assert_string_equal(err.msg, "plugin host_plugin cannot start: mode is broken");
	assert_int_equal(info_of(f, &plugin_host_plugin).state, PLUGIN_STATE_FAILED);
	assert_int_equal(seen.stops, 1);
	assert_int_equal(
		host_enable(f->host, "host_plugin", &late, 1, false, 0, false, "rpc", &err),
		-ENODEV);
	assert_int_equal(seen.stops, seen.setups);
	assert_int_equal(
		host_enable(f->host, "host_plugin", &typo, 1, false, 0, false, "rpc", &err),
		-EINVAL);
	assert_non_null(strstr(err.msg, "mode"));
	assert_int_equal(
		host_enable(f->host, "host_plugin", &picky, 1, false, 0, true, "rpc", &err),
		-EINVAL);
	assert_int_equal(host_enable(f->host, "host_plugn", NULL, 0, false, 0, false, "rpc", &err),
			 -ENOENT);
	assert_non_null(strstr(err.msg, "did you mean 'host_plugin'?"));
	/* What failed left nothing behind: the next start is as the first. */
	enable(f, NULL, 0);
	assert_string_equal(info_of(f, &plugin_host_plugin).options[0].value, "fine");
}

struct fairness {
	uint64_t floods_seen;
	bool ran;
};

static int on_turn(sd_event_source *source, void *arg)
{
	struct fairness *fair = arg;

	(void)source;
	fair->floods_seen = seen.floods;
	fair->ran = true;
	return 0;
}

/* 60,000 samples wait; somebody else's work is done before they are read. */
static void a_flood_starves_nobody(void **state)
{
	struct fixture *f = *state;
	struct fairness fair = {0};
	sd_event_source *source;

	enable(f, NULL, 0);
	turn(f, 150);
	flood(f, 60000);
	while (!seen.floods)
		assert_true(sd_event_run(f->loop, UINT64_MAX) >= 0);
	assert_true(seen.floods <= 8192);
	assert_true(sd_event_add_defer(f->loop, &source, on_turn, &fair) >= 0);
	turn(f, 400);
	sd_event_source_unref(source);
	assert_true(fair.ran);
	assert_true(fair.floods_seen <= 3 * 8192);
	assert_int_equal(seen.floods, 60000);
}

static void on_loss(void *arg, const char *table, const char *plugin, const char *stage,
		    uint64_t lost)
{
	(void)arg;
	assert_string_equal(table, "test");
	assert_string_equal(plugin, "host_plugin");
	if (strcmp(stage, "ring_full") == 0)
		seen.losses += lost;
	else
		assert_string_equal(stage, "decode");
}

/* A ring of 64 KiB takes 4095 samples of 16 bytes: the rest is lost and known, sample for sample.
 */
static void what_is_lost_is_counted(void **state)
{
	static const struct keyval options[] = {{"ring_size", "64KiB"}, {"picky", "true"}};
	struct fixture *f = *state;
	struct plugin_info info;

	enable(f, options, 2);
	turn(f, 150);
	flood(f, 9973);
	turn(f, 250);
	host_account(f->host, on_loss, f);
	info = info_of(f, &plugin_host_plugin);
	assert_int_equal(info.ring_bytes, 65536);
	assert_int_equal(info.events + info.kernel_drops, 9973);
	assert_int_equal(info.events, 4095);
	assert_int_equal(info.decode_errors, 4095);
	assert_int_equal(seen.losses, info.kernel_drops);
	host_account(f->host, on_loss, f); /* told once */
	assert_int_equal(seen.losses, info.kernel_drops);
	/* What the last moment lost isn't forgotten with the plugin. */
	flood(f, 5000);
	disable(f);
	host_account(f->host, on_loss, f);
	assert_int_equal(seen.losses, info.kernel_drops + 5000 - 4095);
	assert_in_range(info.map_bytes, 65536, 1 << 20);
}

static int wakes(int epoll, int timeout_ms)
{
	struct epoll_event event;
	int r = epoll_wait(epoll, &event, 1, timeout_ms);

	assert_true(r >= 0);
	return r;
}

/* Once when half of it is full, and again when that half was read and another is full. */
static void a_half_full_ring_wakes_us(void **state)
{
	static const struct keyval options[] = {{"ring_size", "64KiB"}};
	struct epoll_event edge = {.events = EPOLLIN | EPOLLET};
	struct fixture *f = *state;
	int epoll = epoll_create1(EPOLL_CLOEXEC);

	assert_true(epoll >= 0);
	enable(f, options, 1);
	assert_int_equal(epoll_ctl(epoll, EPOLL_CTL_ADD, seen.ring_fd, &edge), 0);
	for (unsigned int i = 1; i <= 3; i++) {
		flood(f, 2000);
		assert_int_equal(wakes(epoll, 100), 0);
		flood(f, 100);
		assert_int_equal(wakes(epoll, 10000), 1);
		flood(f, 1900);
		assert_int_equal(wakes(epoll, 100), 0);
		while (seen.floods < 4000 * i)
			turn(f, 10);
	}
	assert_int_equal(seen.floods, 12000);
	close(epoll);
	disable(f);
}

static void options_at_run_time(void **state)
{
	static const struct keyval picky = {"picky", "true"}, interval = {"interval", "1s"},
				   restart = {"ring_size", "128KiB"}, broken = {"mode", "broken"},
				   unset = {"picky", NULL};
	struct fixture *f = *state;
	struct err err = {0};
	bool restarted;

	enable(f, NULL, 0);
	assert_int_equal(
		host_update(f->host, "host_plugin", &picky, 1, false, false, "test", &restarted, &err), 0);
	assert_false(restarted);
	assert_int_equal(seen.updates, 1);
	assert_int_equal(seen.stops, 1); /* of the refused first attempt */
	assert_int_equal(
		host_update(f->host, "host_plugin", &interval, 1, false, false, "test", &restarted, &err),
		0);
	assert_false(restarted);
	turn(f, 2200);
	assert_in_range(seen.ticks, 2, 3);
	assert_int_equal(
		host_update(f->host, "host_plugin", &restart, 1, false, false, "test", &restarted, &err),
		0);
	assert_true(restarted);
	assert_int_equal(info_of(f, &plugin_host_plugin).ring_bytes, 128 * 1024);
	/* A change that can't be: what ran before runs again. */
	assert_int_equal(
		host_update(f->host, "host_plugin", &broken, 1, false, false, "test", &restarted, &err),
		-EIO);
	assert_int_equal(info_of(f, &plugin_host_plugin).state, PLUGIN_STATE_DEGRADED);
	assert_string_equal(info_of(f, &plugin_host_plugin).options[0].value, "fine");
	assert_int_equal(
		host_update(f->host, "host_plugin", &unset, 1, false, false, "test", &restarted, &err), 0);
	assert_string_equal(info_of(f, &plugin_host_plugin).options[1].origin, "default");
	assert_true(seen.order_ok);
	/* Given for this run: gone with it. */
	disable(f);
	assert_int_equal(info_of(f, &plugin_host_plugin).ring_bytes, 0);
	enable(f, NULL, 0);
	assert_int_equal(info_of(f, &plugin_host_plugin).ring_bytes, 1 << 20);
}

static void for_a_while(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(host_enable(f->host, "host_plugin", NULL, 0, false, 300 * NSEC_PER_MSEC,
				     false, "rpc", NULL),
			 0);
	assert_true(info_of(f, &plugin_host_plugin).disable_at_ns > clock_real_ns());
	turn(f, 600);
	assert_int_equal(info_of(f, &plugin_host_plugin).state, PLUGIN_STATE_DISABLED);
	assert_string_equal(seen.last_actor, "timer");
}

static void kept_over_a_restart(void **state)
{
	static const struct keyval options = {"interval", "3s"};
	struct fixture *f = *state;

	assert_int_equal(
		host_enable(f->host, "host_plugin", &options, 1, true, 0, false, "rpc", NULL), 0);
	assert_true(info_of(f, &plugin_host_plugin).persisted);
	drop_host(f);
	make_host(f);
	host_enable_configured(f->host);
	assert_int_equal(info_of(f, &plugin_host_plugin).state, PLUGIN_STATE_DEGRADED);
	for (unsigned int i = 0; i < 4; i++) {
		struct plugin_option_info o = info_of(f, &plugin_host_plugin).options[i];

		if (strcmp(o.key, "interval") == 0) {
			assert_string_equal(o.value, "3s");
			assert_string_equal(o.origin, "state");
		}
	}
	assert_int_equal(host_disable(f->host, "host_plugin", true, "rpc", NULL), 0);
	drop_host(f);
	make_host(f);
	host_enable_configured(f->host);
	assert_int_equal(info_of(f, &plugin_host_plugin).state, PLUGIN_STATE_DISABLED);
}

static void live_rows(void **state)
{
	struct fixture *f = *state;
	struct batch *b = batch_new(&live_table, 8);

	assert_int_equal(host_snapshot(f->host, &live_table, b), 0);
	assert_int_equal(b->nrows, 0); /* doesn't run */
	enable(f, NULL, 0);
	fork_times(5);
	turn(f, 250);
	assert_int_equal(host_snapshot(f->host, &live_table, b), 0);
	assert_int_equal(b->nrows, 1);
	assert_int_equal(((const struct test_row *)batch_row(b, 0))->n, 5);
	batch_unref(b);
}

static int count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	assert_non_null(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

/* Memory is the sanitizer's to watch. */
static void cycles_leave_nothing(void **state)
{
	struct fixture *f = *state;
	int before = 0;

	for (int i = 0; i < 101; i++) {
		enable(f, NULL, 0);
		fork_times(1);
		disable(f);
		assert_int_equal(links_wait(10 * NSEC_PER_SEC), 0);
		if (i == 0)
			before = count_fds();
	}
	assert_int_equal(count_fds(), before);
	assert_int_equal(seen.row_sum, 101);
	assert_true(seen.order_ok);
	assert_int_equal(seen.stops, seen.setups);
}

#define test(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		test(best_hook_that_works),
		test(tracepoints_of_calls),
		test(no_hook_at_all),
		test(failures_on_the_way_up),
		test(a_flood_starves_nobody),
		test(what_is_lost_is_counted),
		test(a_half_full_ring_wakes_us),
		test(options_at_run_time),
		test(for_a_while),
		test(kept_over_a_restart),
		test(live_rows),
		test(cycles_leave_nothing),
		test(with_tracefs_mounted), /* last: in a mount namespace of our own from here on */
	};

	if (geteuid() != 0) {
		puts("needs root");
		return 77;
	}
	log_init(LOG_LEVEL_ERR); /* what is refused on purpose is checked, not read */
	return cmocka_run_group_tests(tests, NULL, NULL);
}

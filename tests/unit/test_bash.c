// SPDX-License-Identifier: Apache-2.0
/* The user half of the bash plugin without a kernel: which events make which rows, in which order, and bad samples. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/clock.h"
#include "bpf/bash/bash.h"
#include "bpf/plugin.h"

struct fixture {
	const struct plugin *plugin;
	struct instance in;
	struct opt_set *opts;
	struct buf out; /* "cmd=status," a row */
	struct bash_line line;
};

static void take(void *arg, struct batch *b)
{
	struct fixture *f = arg;

	for (uint32_t i = 0; i < b->nrows; i++) {
		struct value cmd, status;

		batch_get(b, i, table_find(b->table, "cmd"), &cmd);
		batch_get(b, i, table_find(b->table, "exit_status"), &status);
		buf_add(&f->out, cmd.text, cmd.len);
		if (status.kind == VALUE_NULL)
			buf_puts(&f->out, "=?,");
		else
			buf_printf(&f->out, "=%d,", (int)status.i);
	}
	batch_unref(b);
}

static const char *no_container(void *ctx, const struct cgroup_ids *ids)
{
	(void)ctx;
	(void)ids;
	return "";
}

static const char *no_user(void *ctx, uint32_t pid, uint32_t uid)
{
	(void)ctx;
	(void)pid;
	(void)uid;
	return "";
}

static const struct enrich_ops enrich = {.container_by = no_container, .user_name = no_user};

static int start(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct bpf_object_skeleton *s;

	if (!f)
		return -1;
	f->plugin = plugin_find("bash");
	if (!f->plugin || opt_set_new(&f->opts, f->plugin->options))
		return -1;
	f->in = (struct instance){.plugin = f->plugin, .opts = f->opts, .enrich = &enrich, .publish = take, .publish_arg = f};
	f->in.state = calloc(1, f->plugin->state_size);
	f->in.skel = f->plugin->skel->open(&s); /* never loaded */
	buf_puts(&f->out, "");
	*state = f;
	return !f->in.state || !f->in.skel || instance_out_new(&f->in) || f->plugin->setup(&f->in, NULL);
}

static int stop(void **state)
{
	struct fixture *f = *state;

	f->plugin->stop(&f->in);
	f->plugin->skel->destroy(f->in.skel);
	instance_out_free(&f->in);
	free(f->in.state);
	opt_set_free(f->opts);
	buf_free(&f->out);
	free(f);
	return 0;
}

static int type(struct fixture *f, uint32_t pid, const char *text)
{
	struct bash_line *e = &f->line;

	*e = (struct bash_line){.kind = BASH_EVENT_LINE, .p = {.pid = pid, .boot_ns = clock_boot_ns(), .uid = 1234},
				.len = strlen(text), .cwd_len = 4, .cwd = "/tmp", .tty = "pts3"};
	memcpy(e->text, text, strlen(text));
	return f->plugin->event(&f->in, e, sizeof(*e));
}

static int prompt(struct fixture *f, uint32_t pid, int status, bool continuation)
{
	struct bash_prompt e = {.kind = BASH_EVENT_PROMPT, .pid = pid, .boot_ns = clock_boot_ns(), .status = status,
				.continuation = continuation};

	return f->plugin->event(&f->in, &e, sizeof(e));
}

static void check(struct fixture *f, const char *want)
{
	instance_flush(&f->in);
	assert_string_equal(f->out.data, want);
	buf_reset(&f->out);
}

static void outcomes(void **state)
{
	struct fixture *f = *state;

	prompt(f, 1, 0, false);
	check(f, "");
	type(f, 1, "false");
	check(f, "");
	prompt(f, 1, 1, false);
	prompt(f, 1, 0, false);
	check(f, "false=1,");
	type(f, 1, "for");
	prompt(f, 1, 9, true);
	type(f, 1, "done");
	prompt(f, 1, 0x100 + 7, false);
	check(f, "for=?,done=7,");
	type(f, 1, "a");
	prompt(f, 1, BASH_NO_STATUS, false);
	check(f, "a=?,");
	assert_int_equal(type(f, 1, " \t "), 0);
	check(f, "");
	/* A prompt that was lost. */
	type(f, 1, "x");
	type(f, 1, "y");
	prompt(f, 1, 3, false);
	check(f, "x=?,y=3,");
}

static void metafied(void **state)
{
	struct fixture *f = *state;

	type(f, 1, "x");
	check(f, "");
	f->line.metafied = 1;
	f->line.p.boot_ns = clock_boot_ns();
	/* "caf\xc3\xa9 \xe2\x82\xac" and a newline: bytes 0x83 to 0xa2 are written as two. */
	strcpy(f->line.text, "caf\xc3\xa9 \xe2\x83\xa2\xac\x83\xa3\n");
	f->line.len = strlen(f->line.text);
	assert_int_equal(f->plugin->event(&f->in, &f->line, sizeof(f->line)), 0);
	strcpy(f->line.text, "\n");
	f->line.len = 1;
	assert_int_equal(f->plugin->event(&f->in, &f->line, sizeof(f->line)), 0);
	/* Cut in the middle of two. */
	strcpy(f->line.text, "z\x83");
	f->line.len = 2;
	assert_int_equal(f->plugin->event(&f->in, &f->line, sizeof(f->line)), 0);
	f->plugin->stop(&f->in);
	check(f, "x=?,caf\xc3\xa9 \xe2\x82\xac\xef\xbf\xbd=?,z\xef\xbf\xbd=?,");
}

/* Nobody overtakes; half a second is the most that anybody waits. */
static void order(void **state)
{
	struct fixture *f = *state;

	type(f, 1, "slow");
	type(f, 2, "quick");
	prompt(f, 2, 0, false);
	f->plugin->tick(&f->in, clock_real_ns());
	check(f, "");
	usleep(510000);
	f->plugin->tick(&f->in, clock_real_ns());
	check(f, "slow=?,quick=0,");
	prompt(f, 1, 4, false);
	check(f, "");
}

static void told_at_stop(void **state)
{
	struct fixture *f = *state;

	type(f, 1, "one");
	type(f, 2, "two");
	f->plugin->stop(&f->in);
	check(f, "one=?,two=?,");
}

static void flood(void **state)
{
	struct fixture *f = *state;
	size_t rows = 0;

	for (uint32_t pid = 1; pid <= 1301; pid++)
		assert_int_equal(type(f, pid, "z"), 0);
	f->plugin->stop(&f->in);
	instance_flush(&f->in);
	for (const char *p = f->out.data; (p = strchr(p, ',')); p++)
		rows++;
	assert_int_equal(rows, 1301);
	assert_int_equal(f->in.count.rows, 1301);
	assert_int_equal(f->in.count.rows_lost, 0);
}

static void bad_samples(void **state)
{
	struct fixture *f = *state;
	struct bash_line *e = &f->line;
	struct bash_prompt p = {.kind = BASH_EVENT_PROMPT};

	assert_int_equal(type(f, 1, ""), -EBADMSG);
	type(f, 1, "ok");
	for (size_t len = 0; len < sizeof(*e); len += 7)
		assert_int_equal(f->plugin->event(&f->in, e, len), -EBADMSG);
	e->len = sizeof(e->text);
	assert_int_equal(f->plugin->event(&f->in, e, sizeof(*e)), -EBADMSG);
	e->len = UINT32_MAX;
	assert_int_equal(f->plugin->event(&f->in, e, sizeof(*e)), -EBADMSG);
	e->len = 1;
	e->cwd_len = sizeof(e->cwd);
	assert_int_equal(f->plugin->event(&f->in, e, sizeof(*e)), -EBADMSG);
	e->cwd_len = 0;
	e->kind = 77;
	assert_int_equal(f->plugin->event(&f->in, e, sizeof(*e)), -EBADMSG);
	e->kind = BASH_EVENT_PROMPT;
	assert_int_equal(f->plugin->event(&f->in, e, sizeof(*e)), -EBADMSG);
	p.kind = BASH_EVENT_LINE;
	assert_int_equal(f->plugin->event(&f->in, &p, sizeof(p)), -EBADMSG);
	/* No NUL anywhere, and the longest length that is possible. */
	memset(e, 0xff, sizeof(*e));
	e->kind = BASH_EVENT_LINE;
	e->p.pid = 1;
	e->p.boot_ns = clock_boot_ns();
	e->len = BASH_LINE_MAX + 1;
	e->cwd_len = sizeof(e->cwd) - 1;
	assert_int_equal(f->plugin->event(&f->in, e, sizeof(*e)), 0);
	f->plugin->stop(&f->in);
	instance_flush(&f->in);
	assert_int_equal(f->in.count.rows, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(outcomes, start, stop),
		cmocka_unit_test_setup_teardown(metafied, start, stop),
		cmocka_unit_test_setup_teardown(order, start, stop),
		cmocka_unit_test_setup_teardown(told_at_stop, start, stop),
		cmocka_unit_test_setup_teardown(flood, start, stop),
		cmocka_unit_test_setup_teardown(bad_samples, start, stop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

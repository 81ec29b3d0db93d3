// SPDX-License-Identifier: Apache-2.0
/* What all verbs share: messages, the terminal, interrupts, the output writer. */
#include "clients/ringside/cli.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/buf.h"
#include "clients/ringside/text.h"

static volatile sig_atomic_t caught;
static atomic_bool caught_flag; /* the same for other threads and libraries */
static pthread_t main_thread;

/* Texts of the daemon hold names that others chose: nothing in them may act on a terminal. */
static _printf_(2, 0) void print_safe(const char *prefix, const char *fmt, va_list ap)
{
	_cleanup_buf_ struct buf safe = {0};
	_cleanup_free_ char *text = NULL;

	if (vasprintf(&text, fmt, ap) < 0) {
		text = NULL;
		fputs("ringside: out of memory\n", stderr);
		return;
	}
	text_add_safe(&safe, text, strlen(text));
	fprintf(stderr, "%s%s\n", prefix, safe.data ? safe.data : "");
}

int cli_fail(int code, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	print_safe("ringside: ", fmt, ap);
	va_end(ap);
	return code;
}

void cli_note(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	print_safe("", fmt, ap);
	va_end(ap);
}

static struct winsize terminal_size(const struct cli *cli)
{
	struct winsize ws = {0};

	if (cli->tty_out && ioctl(STDOUT_FILENO, TIOCGWINSZ, &ws) < 0)
		return (struct winsize){0};
	return ws;
}

size_t cli_width(const struct cli *cli)
{
	return terminal_size(cli).ws_col;
}

size_t cli_height(const struct cli *cli)
{
	return terminal_size(cli).ws_row;
}

int cli_out_new(struct cli *cli, struct out **ret)
{
	struct out_options options = {
		.format = cli->format,
		.file = stdout,
		.color = cli->color,
		.utf8 = cli->utf8,
		.tty = cli->tty_out,
		.width = cli_width(cli),
		.services = cli->services,
	};

	if (out_new(ret, &options) < 0)
		return cli_fail(CLI_REFUSED, "out of memory");
	return 0;
}

int cli_out_done(struct out *o, int code)
{
	int r = out_end(o);

	if (r == -EPIPE) {
		/* The reader went away ("| head"): end as a program without a handler does. */
		signal(SIGPIPE, SIG_DFL);
		raise(SIGPIPE);
	}
	if (r < 0)
		return cli_fail(CLI_REFUSED, "cannot write to standard output: %s", strerror(-r));
	return code;
}

/* The kernel picks any thread, gRPC's too; the read that has to come back is in the main one. */
static void on_signal(int sig)
{
	caught = sig;
	atomic_store_explicit(&caught_flag, true, memory_order_relaxed);
	if (!pthread_equal(pthread_self(), main_thread))
		pthread_kill(main_thread, sig);
}

bool cli_interrupted(void)
{
	return caught != 0;
}

const atomic_bool *cli_interrupt_flag(void)
{
	return &caught_flag;
}

void cli_clear_interrupt(void)
{
	caught = 0;
	atomic_store(&caught_flag, false);
}

void cli_catch_interrupts(void)
{
	/* No SA_RESTART: a read of the terminal must come back. */
	struct sigaction sa = {.sa_handler = on_signal}, old;

	main_thread = pthread_self();
	sigemptyset(&sa.sa_mask);
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	/* The terminal went away; nohup has it ignored and is obeyed. */
	if (sigaction(SIGHUP, NULL, &old) == 0 && old.sa_handler != SIG_IGN)
		sigaction(SIGHUP, &sa, NULL);
}

void cli_die_of_interrupt(void)
{
	int sig = caught ? caught : SIGINT;

	fflush(stdout);
	signal(sig, SIG_DFL);
	raise(sig);
	_exit(128 + sig);
}

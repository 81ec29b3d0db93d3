// SPDX-License-Identifier: Apache-2.0
/* ringsided: from the command line to the loop and back to an exit code. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/macro.h"
#include "base/thread.h"
#include "daemon/args.h"
#include "daemon/daemon.h"
#include "daemon/notify.h"
#include "daemon/options.h"
#include "daemon/stages.h"
#include "daemon/tables.h"
#include "store/query.h"

#define LOG_MODULE "daemon"
#include "base/log.h"

/* Blocked before the first thread exists, so that every thread inherits it and the loop alone takes
 * them. */
static int block_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -errno;
	/* A client that goes away is an error of a write, not the end of the daemon. */
	return signal(SIGPIPE, SIG_IGN) == SIG_ERR ? -errno : 0;
}

static int run(struct daemon *d)
{
	int status = EXIT_STATUS_FAILURE, r;
	struct err err = {0};

	r = stages_up(d, &status, &err);
	if (r < 0) {
		log_error("%s", err.msg[0] ? err.msg : strerror(-r));
		notify_send("STOPPING=1\nSTATUS=%s", err.msg);
		return status;
	}
	selftables_event(d->self, "start", "", d->last_exit, "daemon");
	d->ready = true;
	log_notice("ringsided %s is ready, state in %s", RINGSIDE_VERSION, d->state_dir);
	notify_send("READY=1");
	daemon_notify_status(d);
	r = thread_bulk(); /* after the threads that answer were started */
	if (r < 0)
		log_info("no long slices (%s): reading events may hold up other programs for "
			 "a moment",
			 strerror(-r));
	r = sd_event_loop(d->loop);
	d->ready = false;
	notify_send("STOPPING=1\nSTATUS=Publishing what is left");
	selftables_event(d->self, "stop", "", "", "daemon");
	if (r < 0)
		log_warn_errno(r, "the event loop ended by itself");
	stages_down(d);
	status = atomic_load(&d->exit_status);
	log_notice("ringsided stopped, exit code %d",
		   r < 0 && !status ? EXIT_STATUS_FAILURE : status);
	return r < 0 && !status ? EXIT_STATUS_FAILURE : status;
}

static int serve(struct daemon *d)
{
	const struct opt_set *v = config_daemon(d->config);
	int r, status;

	log_set_level((enum log_level)opt_i64(v, "log_level"));
	umask(027);
	r = block_signals();
	if (r < 0) {
		log_err(r, "cannot block signals");
		return EXIT_STATUS_FAILURE;
	}
	r = opt_set_copy(&d->boot, v);
	if (r < 0) {
		log_err(r, "cannot keep the configuration");
		return EXIT_STATUS_FAILURE;
	}
	d->state_dir = opt_str(d->boot, "state_dir");
	status = run(d);
	opt_set_free(d->boot);
	return status;
}

static int check_config(const struct config *c)
{
	printf("configuration is fine: %s\n", config_source(c)->file);
	return EXIT_STATUS_OK;
}

static int run_args(struct args *a)
{
	struct daemon d = {
		.lock_fd = -1,
		.decision_lock = PTHREAD_MUTEX_INITIALIZER,
		.started_at = clock_real_ns(),
		.source =
			{
				.file = a->config_file ? a->config_file : CONFIG_FILE_DEFAULT,
				.file_required = a->config_file != NULL,
				.flags = (const char *const *)a->assignments,
				.nflags = a->nassignments,
				.environ = environ,
			},
	};
	struct err err = {0};
	int status;

	switch (a->mode) {
	case ARGS_HELP:
		args_print_help();
		return EXIT_STATUS_OK;
	case ARGS_VERSION:
		printf("ringsided %s\n", RINGSIDE_VERSION);
		return EXIT_STATUS_OK;
	case ARGS_DUMP_MARKDOWN:
		options_dump_markdown(stdout);
		return EXIT_STATUS_OK;
	case ARGS_DUMP_TOML:
		options_dump_toml(stdout);
		return EXIT_STATUS_OK;
	case ARGS_DUMP_TABLES:
		tables_dump_markdown(stdout);
		return EXIT_STATUS_OK;
	case ARGS_CHECK_CONFIG:
	case ARGS_RUN:
		break;
	}
	if (config_load(&d.config, &d.source, &err) < 0) {
		log_error("%s", err.msg);
		return EXIT_STATUS_USAGE;
	}
	status = a->mode == ARGS_CHECK_CONFIG ? check_config(d.config) : serve(&d);
	config_free(d.config);
	return status;
}

int main(int argc, char **argv)
{
	struct args args;
	struct err err = {0};
	int status;

	if (argc > 0 &&
	    strcmp(basename(argv[0]), QUERY_WORKER_NAME) == 0) /* GNU's: leaves argv as it is */
		query_worker_main(argc, argv);
	log_init(LOG_LEVEL_INFO);
	if (args_parse(&args, argc, argv, &err) < 0) {
		log_error("%s", err.msg);
		status = EXIT_STATUS_USAGE;
	} else {
		status = run_args(&args);
	}
	args_free(&args);
	return status;
}

// SPDX-License-Identifier: Apache-2.0
/* ringside config: values with their origins, and checks. */
#include <errno.h>
#include <limits.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "clients/ringside/cli.h"
#include "ringside/v1/daemon.pb-c.h"

extern char **environ;

static bool wanted(const struct args *args, const char *key)
{
	for (size_t i = 0; i < args->npos; i++)
		if (strncmp(key, args->pos[i], strlen(args->pos[i])) == 0)
			return true;
	return args->npos == 0;
}

int verb_config_show(struct cli *cli, const struct args *args)
{
	static const struct out_column columns[] = {
		{"key", OUT_TEXT, NULL},     {"value", OUT_TEXT, NULL}, {"origin", OUT_TEXT, NULL},
		{"detail", OUT_TEXT, NULL},  {"type", OUT_TEXT, NULL},	{"default", OUT_TEXT, NULL},
		{"restart", OUT_BOOL, NULL}, {"help", OUT_TEXT, NULL},
	};
	Ringside__V1__GetConfigRequest request = RINGSIDE__V1__GET_CONFIG_REQUEST__INIT;
	_cleanup_message_ Ringside__V1__GetConfigResponse *answer = NULL;
	_cleanup_(out_freep) struct out *o = NULL;
	int r = cli_call(cli, "/ringside.v1.DaemonService/GetConfig", &request,
			 &ringside__v1__get_config_response__descriptor,
			 "reading the configuration", &answer);

	r = r ? r : cli_out_new(cli, &o);
	if (r)
		return r;
	out_columns(o, columns, ARRAY_SIZE(columns));
	for (size_t i = 0; i < answer->n_values; i++) {
		const Ringside__V1__ConfigValue *v = answer->values[i];

		if (wanted(args, v->key))
			out_row(o, (struct cell[]){cell_text(v->key), cell_text(v->value),
						   cell_text(v->origin), cell_text(v->detail),
						   cell_text(v->type), cell_text(v->default_),
						   cell_int(v->restart), cell_text(v->help)});
	}
	if (args->npos && !out_rows(o))
		return cli_fail(CLI_REFUSED,
				"no option begins with '%s'; 'ringside config show' lists all",
				args->pos[0]);
	return cli_out_done(o, CLI_OK);
}

static int reload(struct cli *cli, bool validate_only)
{
	Ringside__V1__ReloadConfigRequest request = RINGSIDE__V1__RELOAD_CONFIG_REQUEST__INIT;
	_cleanup_message_ Ringside__V1__ReloadConfigResponse *answer = NULL;
	int r;

	request.validate_only = validate_only;
	r = cli_call(cli, "/ringside.v1.DaemonService/ReloadConfig", &request,
		     &ringside__v1__reload_config_response__descriptor, "reading the configuration",
		     &answer);
	if (r)
		return r;
	if (!answer->n_changed_keys)
		puts(validate_only ? "ok, nothing would change" : "nothing changed");
	for (size_t i = 0; i < answer->n_changed_keys; i++)
		printf("%s %s\n", validate_only ? "would change" : "changed",
		       answer->changed_keys[i]);
	return CLI_OK;
}

int verb_config_reload(struct cli *cli, const struct args *args _unused_)
{
	return reload(cli, false);
}

/* The daemon that was installed or built with us: beside us, or in ../sbin of the same prefix. */
static int find_daemon(char *path, size_t cap)
{
	static const char *const places[] = {"ringsided", "../sbin/ringsided"};
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	if (n < 0)
		return -errno;
	self[n] = '\0';
	slash = strrchr(self, '/');
	if (!slash)
		return -ENOENT;
	*slash = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		if ((size_t)snprintf(path, cap, "%s/%s", self, places[i]) < cap &&
		    access(path, X_OK) == 0)
			return 0;
	}
	return -ENOENT;
}

/*
 * The option table lives in the daemon, so that only it can tell a right file from a wrong one. No
 * shell is involved: our own sibling is run with arguments of ours.
 */
static int check_file(const char *file)
{
	char path[PATH_MAX];
	char *argv[] = {path, (char *)"--check-config", (char *)"--config", (char *)file, NULL};
	int status, r = find_daemon(path, sizeof(path));
	pid_t pid;

	if (r < 0)
		return cli_fail(CLI_REFUSED,
				"cannot find ringsided beside this program, which checks files: %s",
				strerror(-r));
	r = posix_spawn(&pid, path, NULL, NULL, argv, environ);
	if (r)
		return cli_fail(CLI_REFUSED, "cannot run '%s': %s", path, strerror(r));
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return cli_fail(CLI_REFUSED, "cannot wait for '%s': %s", path,
					strerror(errno));
	if (WIFSIGNALED(status))
		return cli_fail(CLI_REFUSED, "'%s' was ended by signal %d", path, WTERMSIG(status));
	return WEXITSTATUS(status) == 0 ? CLI_OK : CLI_REFUSED;
}

int verb_config_check(struct cli *cli, const struct args *args)
{
	return args->npos ? check_file(args->pos[0]) : reload(cli, true);
}

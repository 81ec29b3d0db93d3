// SPDX-License-Identifier: Apache-2.0
/* ringside doctor: what this kernel and host offer and lack, one sentence each. */
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "clients/ringside/plugin.h"
#include "clients/ringside/text.h"
#include "ringside/v1/daemon.pb-c.h"

struct doctor {
	struct cli *cli;
	struct out *out; /* NULL: sentences for people */
	unsigned int missing;
};

/* subject: "host" or a plugin's name. */
static void finding(struct doctor *d, const char *subject, const char *name, bool met,
		    bool required, const char *detail)
{
	_cleanup_buf_ struct buf safe = {0};
	const char *mark;

	d->missing += required && !met;
	if (d->out) {
		out_row(d->out, (struct cell[]){cell_text(subject), cell_text(name), cell_int(met),
						cell_int(required), cell_text(detail)});
		return;
	}
	if (d->cli->utf8 && d->cli->tty_out)
		mark = met ? "✓ " : required ? "✗ " : "- ";
	else
		mark = met ? "ok  " : required ? "--  " : "..  ";
	if (d->cli->color)
		fputs(met ? "\033[32m" : required ? "\033[31m" : "\033[33m", stdout);
	fputs(mark, stdout);
	if (d->cli->color)
		fputs("\033[0m", stdout);
	text_add_safe(&safe, name, strlen(name));
	if (detail && *detail) {
		buf_puts(&safe, ": ");
		text_add_safe(&safe, detail, strlen(detail));
	}
	printf("%s\n", safe.data ? safe.data : "");
}

static void heading(struct doctor *d, const char *text)
{
	static bool behind_another;

	if (d->out)
		return;
	printf("%s%s%s%s\n", behind_another ? "\n" : "", d->cli->color ? "\033[1m" : "", text,
	       d->cli->color ? "\033[0m" : "");
	behind_another = true;
}

static int examine_host(struct doctor *d)
{
	Ringside__V1__GetDaemonRequest request = RINGSIDE__V1__GET_DAEMON_REQUEST__INIT;
	_cleanup_message_ Ringside__V1__GetDaemonResponse *answer = NULL;
	int r = cli_call(d->cli, "/ringside.v1.DaemonService/GetDaemon", &request,
			 &ringside__v1__get_daemon_response__descriptor, "asking the daemon",
			 &answer);

	if (r)
		return r;
	heading(d, "host");
	for (size_t i = 0; i < answer->n_capabilities; i++) {
		const Ringside__V1__Capability *c = answer->capabilities[i];

		/* What a plugin cannot do without is said again, as required, under the plugin. */
		finding(d, "host", c->name, c->available, false, c->detail);
	}
	return 0;
}

static int examine_plugin(struct doctor *d, const char *name)
{
	Ringside__V1__CheckPluginRequest request = RINGSIDE__V1__CHECK_PLUGIN_REQUEST__INIT;
	_cleanup_message_ Ringside__V1__CheckPluginResponse *answer = NULL;
	_cleanup_buf_ struct buf title = {0};
	int r;

	request.name = (char *)name;
	r = cli_call(d->cli, "/ringside.v1.PluginService/CheckPlugin", &request,
		     &ringside__v1__check_plugin_response__descriptor, "checking the kernel",
		     &answer);
	if (r)
		return r;
	buf_printf(&title, "plugin %s: %s", name,
		   answer->supported ? "can run" : "cannot run here");
	heading(d, title.data ? title.data : name);
	for (size_t i = 0; i < answer->n_requirements; i++) {
		const Ringside__V1__Requirement *q = answer->requirements[i];

		finding(d, name, q->name, q->met, q->required, q->detail);
	}
	return 0;
}

static int examine_all(struct doctor *d)
{
	_cleanup_message_ Ringside__V1__ListPluginsResponse *list = NULL;
	int r = plugin_list(d->cli, &list);

	for (size_t i = 0; !r && i < list->n_plugins; i++)
		r = examine_plugin(d, list->plugins[i]->name);
	return r;
}

int verb_doctor(struct cli *cli, const struct args *args)
{
	static const struct out_column columns[] = {
		{"subject", OUT_TEXT, NULL},  {"name", OUT_TEXT, NULL},	  {"met", OUT_BOOL, NULL},
		{"required", OUT_BOOL, NULL}, {"detail", OUT_TEXT, NULL},
	};
	_cleanup_(out_freep) struct out *o = NULL;
	struct doctor d = {.cli = cli};
	int r = cli_connect(cli);

	if (!r && cli->format != OUT_TABLE) {
		r = cli_out_new(cli, &o);
		if (!r)
			out_columns(o, columns, ARRAY_SIZE(columns));
		d.out = o;
	}
	r = r ? r : examine_host(&d);
	for (size_t i = 0; !r && i < args->npos; i++)
		r = examine_plugin(&d, args->pos[i]);
	if (!r && !args->npos)
		r = examine_all(&d);
	if (o)
		r = cli_out_done(o, r);
	if (!r && d.missing)
		return cli_fail(CLI_REFUSED, "%u required %s missing", d.missing,
				d.missing == 1 ? "thing is" : "things are");
	return r;
}

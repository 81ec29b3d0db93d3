// SPDX-License-Identifier: Apache-2.0
/* ringside tables and ringside schema. */
#include <string.h>

#include "base/opt.h"
#include "clients/ringside/cli.h"
#include "ringside/v1/table.pb-c.h"

static const char *class_text(Ringside__V1__TableClass class)
{
	static const char *const names[] = {NULL, "flow", "audit", "live", "metric"};

	return (unsigned int)class < ARRAY_SIZE(names) ? names[class] : NULL;
}

static const char *type_text(Ringside__V1__ColumnType type)
{
	static const char *const names[] = {NULL,    "INT64", "DOUBLE", "TEXT",
					    "BYTES", "BOOL",  "TIME",	"IP"};

	return (unsigned int)type < ARRAY_SIZE(names) ? names[type] : NULL;
}

static const char *kind_text(Ringside__V1__ColumnKind kind)
{
	static const char *const names[] = {NULL, "tag", "gauge", "counter", "delta"};

	return (unsigned int)kind < ARRAY_SIZE(names) ? names[kind] : NULL;
}

static const char *sensitivity_text(Ringside__V1__ColumnSensitivity sensitivity)
{
	static const char *const names[] = {NULL, "meta", "content", "secret"};

	return (unsigned int)sensitivity < ARRAY_SIZE(names) ? names[sensitivity] : NULL;
}

static int list_tables(struct cli *cli, Ringside__V1__ListTablesResponse **ret)
{
	Ringside__V1__ListTablesRequest request = RINGSIDE__V1__LIST_TABLES_REQUEST__INIT;

	return cli_call(cli, "/ringside.v1.TableService/ListTables", &request,
			&ringside__v1__list_tables_response__descriptor, "listing tables", ret);
}

int verb_tables(struct cli *cli, const struct args *args _unused_)
{
	static const struct out_column columns[] = {
		{"name", OUT_TEXT, NULL},   {"class", OUT_TEXT, NULL},	 {"columns", OUT_INT, NULL},
		{"plugin", OUT_TEXT, NULL}, {"summary", OUT_TEXT, NULL},
	};
	_cleanup_message_ Ringside__V1__ListTablesResponse *answer = NULL;
	_cleanup_(out_freep) struct out *o = NULL;
	int r = list_tables(cli, &answer);

	r = r ? r : cli_out_new(cli, &o);
	if (r)
		return r;
	out_columns(o, columns, ARRAY_SIZE(columns));
	for (size_t i = 0; i < answer->n_tables; i++) {
		const Ringside__V1__Table *t = answer->tables[i];

		out_row(o, (struct cell[]){cell_text(t->name), cell_text(class_text(t->class_)),
					   cell_uint(t->n_columns), cell_text(t->plugin),
					   cell_text(t->summary)});
	}
	return cli_out_done(o, CLI_OK);
}

static int unknown_table(const Ringside__V1__ListTablesResponse *list, const char *name)
{
	_cleanup_free_ const char **names = calloc(list->n_tables + 1, sizeof(*names));
	const char *near = NULL;

	if (names) {
		for (size_t i = 0; i < list->n_tables; i++)
			names[i] = list->tables[i]->name;
		near = opt_nearest(name, names, list->n_tables);
	}
	if (near)
		return cli_fail(CLI_REFUSED, "no table '%s', did you mean '%s'?", name, near);
	return cli_fail(CLI_REFUSED, "no table '%s'; 'ringside tables' lists them", name);
}

int verb_schema(struct cli *cli, const struct args *args)
{
	static const struct out_column columns[] = {
		{"column", OUT_TEXT, NULL},	 {"type", OUT_TEXT, NULL},
		{"unit", OUT_TEXT, NULL},	 {"kind", OUT_TEXT, NULL},
		{"sensitivity", OUT_TEXT, NULL}, {"help", OUT_TEXT, NULL},
	};
	_cleanup_message_ Ringside__V1__ListTablesResponse *answer = NULL;
	_cleanup_(out_freep) struct out *o = NULL;
	const Ringside__V1__Table *t = NULL;
	int r = list_tables(cli, &answer);

	if (r)
		return r;
	for (size_t i = 0; i < answer->n_tables && !t; i++)
		if (strcmp(answer->tables[i]->name, args->pos[0]) == 0)
			t = answer->tables[i];
	if (!t)
		return unknown_table(answer, args->pos[0]);
	r = cli_out_new(cli, &o);
	if (r)
		return r;
	out_columns(o, columns, ARRAY_SIZE(columns));
	for (size_t i = 0; i < t->n_columns; i++) {
		const Ringside__V1__Column *c = t->columns[i];

		out_row(o, (struct cell[]){cell_text(c->name), cell_text(type_text(c->type)),
					   cell_text(c->unit), cell_text(kind_text(c->kind)),
					   cell_text(sensitivity_text(c->sensitivity)),
					   cell_text(c->help)});
	}
	return cli_out_done(o, CLI_OK);
}

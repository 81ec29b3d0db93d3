// SPDX-License-Identifier: Apache-2.0
/* service(port, transport): names of ports in SQL, from files that are read before the sandbox. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/services.h"
#include "store/query_worker.h"

static void fn_service(sqlite3_context *ctx, int argc, sqlite3_value **argv)
{
	const struct services *s = sqlite3_user_data(ctx);
	const char *transport = argc > 1 ? (const char *)sqlite3_value_text(argv[1]) : NULL, *name;
	int64_t port = sqlite3_value_int64(argv[0]);

	if (!s || sqlite3_value_type(argv[0]) == SQLITE_NULL || port < 1 || port > 65535)
		return; /* NULL */
	name = services_name(s, (uint16_t)port, transport);
	if (name)
		sqlite3_result_text(ctx, name, -1,
				    SQLITE_STATIC); /* lives as long as the process */
}

/* Ours first, so that it overrides the distribution's; what can't be read is left out. */
static int load(struct services **ret, const char *own)
{
	_cleanup_(services_freep) struct services *s = NULL;
	int r = services_new(&s);

	if (r == 0 && own && *own && services_add_file(s, own) == -ENOMEM)
		r = -ENOMEM;
	if (r == 0 && services_add_file(s, SERVICES_FILE) == -ENOMEM)
		r = -ENOMEM;
	if (r == 0)
		*ret = TAKE_PTR(s);
	return r;
}

int query_service_register(struct query_session *q)
{
	/* For the life of the process; most statements don't ask. */
	static struct services *services;
	sqlite3 *const dbs[] = {q->db, q->shape};
	int r;

	if (strcasestr(q->req.sql, "service")) {
		r = load(&services, q->req.services_file);
		if (r < 0)
			return r;
	}
	for (size_t i = 0; i < ARRAY_SIZE(dbs); i++)
		for (int argc = 1; argc <= 2; argc++)
			if (sqlite3_create_function_v2(
				    dbs[i], "service", argc,
				    SQLITE_UTF8 | SQLITE_DETERMINISTIC | SQLITE_INNOCUOUS, services,
				    fn_service, NULL, NULL, NULL) != SQLITE_OK)
				return -ENOMEM;
	return 0;
}

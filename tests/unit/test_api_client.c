// SPDX-License-Identifier: Apache-2.0
/* The client against a server in the same process: calls, streams, errors, cancellation, a peer that isn't there. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "api/client.h"
#include "base/clock.h"
#include "base/log.h"
#include "ringside/v1/daemon.pb-c.h"
#include "ringside/v1/plugin.pb-c.h"
#include "ringside/v1/query.pb-c.h"
#include "ringside/v1/table.pb-c.h"
#include "tests/lib/api_fake.h"

#define GET_PLUGIN "/ringside.v1.PluginService/GetPlugin"
#define QUERY "/ringside.v1.QueryService/Query"
#define WATCH "/ringside.v1.TableService/WatchRows"

static struct fake fake = {.text_len = 8};
static char path[64];

/* The unit test makes no rows of live tables. */
static const struct field none_fields[] = {{.name = "n", .type = COLUMN_INT64, .repr = REPR_I64, .size = 8, .kind = KIND_TAG,
					    .sensitivity = SENSITIVITY_META, .unit = "", .help = ""}};
static const struct table events = {.name = "events", .summary = "", .class = TABLE_LIVE, .row_size = 8, .nfields = 1,
				    .fields = none_fields};
const struct table *const fake_tables[] = {&events, NULL};

int fake_snapshot(void *ctx, const struct table *table, struct batch **ret, struct err *err)
{
	struct batch *b = batch_new(table, 1);

	(void)ctx;
	if (!b || !batch_add(b))
		return err_set(err, -ENOMEM, "no memory");
	batch_seal(b, NULL);
	*ret = b;
	return 0;
}

static int setup(void **state)
{
	struct api_server_options o = {.ops = &fake_ops, .ctx = &fake, .socket_path = path};
	struct err err = {};

	(void)state;
	log_init(LOG_LEVEL_ERR);
	snprintf(path, sizeof(path), "/tmp/rs-api-unit.%d.sock", (int)getpid());
	fake_plugins_init(&fake);
	if (fake_store_open(&fake) < 0 || api_server_new(&fake.server, &o, &err) < 0 ||
	    api_server_start(fake.server, &err) < 0) {
		print_error("%s\n", err.msg);
		return -1;
	}
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	api_server_free(fake.server);
	fake_store_close(&fake);
	return access(path, F_OK) == 0 ? -1 : 0;
}

static struct client *connect_client(void)
{
	struct client_options o = {.socket_path = path};
	struct client *c = NULL;
	struct err err = {};

	assert_int_equal(client_new(&c, &o, &err), 0);
	return c;
}

static void a_call_is_answered(void **state)
{
	struct client *c = connect_client();
	Ringside__V1__GetPluginRequest q = RINGSIDE__V1__GET_PLUGIN_REQUEST__INIT;
	ProtobufCMessage *m = NULL;
	struct err err = {};

	(void)state;
	q.name = "alpha";
	assert_int_equal(client_call(c, GET_PLUGIN, &q.base, &ringside__v1__get_plugin_response__descriptor, 0, &m, &err), 0);
	assert_string_equal(((Ringside__V1__GetPluginResponse *)m)->plugin->name, "alpha");
	protobuf_c_message_free_unpacked(m, NULL);
	q.name = "omega";
	assert_int_equal(client_call(c, GET_PLUGIN, &q.base, &ringside__v1__get_plugin_response__descriptor, 0, &m, &err),
			 -ENOENT);
	assert_string_equal(err.msg, "no plugin 'omega'");
	assert_int_equal(client_call(c, "/no/Method", &q.base, &ringside__v1__get_plugin_response__descriptor, 0, &m, &err),
			 -ENOSYS);
	client_free(c);
}

static void a_query_streams_to_its_end(void **state)
{
	struct client *c = connect_client();
	Ringside__V1__QueryRequest q = RINGSIDE__V1__QUERY_REQUEST__INIT;
	struct client_stream *s = NULL;
	ProtobufCMessage *m = NULL;
	uint32_t rows = 0, stats = 0;
	struct err err = {};
	int r;

	(void)state;
	q.sql = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c WHERE x<10007) SELECT x FROM c";
	assert_int_equal(client_stream_open(c, QUERY, &q.base, &ringside__v1__query_response__descriptor, 0, &s, &err), 0);
	while ((r = client_stream_next(s, 0, &m, &err)) == 1) {
		Ringside__V1__QueryResponse *p = (void *)m;

		if (p->part_case == RINGSIDE__V1__QUERY_RESPONSE__PART_ROWS)
			rows += p->rows->row_count;
		else if (p->part_case == RINGSIDE__V1__QUERY_RESPONSE__PART_STATS)
			stats = (uint32_t)p->stats->rows;
		protobuf_c_message_free_unpacked(m, NULL);
	}
	assert_int_equal(r, 0);
	assert_int_equal(rows, 10007);
	assert_int_equal(stats, 10007);
	client_stream_free(s);
	q.sql = "SELEKT";
	assert_int_equal(client_stream_open(c, QUERY, &q.base, &ringside__v1__query_response__descriptor, 0, &s, &err), 0);
	assert_int_equal(client_stream_next(s, 0, &m, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "SELEKT"));
	client_stream_free(s);
	client_free(c);
}

static void streams_wait_cancel_and_time_out(void **state)
{
	struct client *c = connect_client();
	Ringside__V1__WatchRowsRequest q = RINGSIDE__V1__WATCH_ROWS_REQUEST__INIT;
	char *tables[] = {"events"};
	struct client_stream *s = NULL;
	ProtobufCMessage *m = NULL;
	struct err err = {};
	uint64_t t0;
	int r;

	(void)state;
	q.n_tables = 1;
	q.tables = tables;
	q.interval = 3600 * (int64_t)NSEC_PER_SEC;
	assert_int_equal(client_stream_open(c, WATCH, &q.base, &ringside__v1__watch_rows_response__descriptor, 0, &s, &err), 0);
	t0 = clock_mono_ns();
	while ((r = client_stream_next(s, 300 * NSEC_PER_MSEC, &m, &err)) == 1)
		protobuf_c_message_free_unpacked(m, NULL);
	assert_int_equal(r, -EAGAIN);
	assert_true(clock_mono_ns() - t0 < 3 * NSEC_PER_SEC);
	client_stream_cancel(s);
	assert_int_equal(client_stream_next(s, 0, &m, &err), -ECANCELED);
	client_stream_free(s);
	assert_int_equal(client_stream_open(c, WATCH, &q.base, &ringside__v1__watch_rows_response__descriptor,
					    400 * NSEC_PER_MSEC, &s, &err), 0);
	while ((r = client_stream_next(s, 0, &m, &err)) == 1)
		protobuf_c_message_free_unpacked(m, NULL);
	assert_int_equal(r, -ETIMEDOUT);
	client_stream_free(s);
	/* Left in the middle. */
	assert_int_equal(client_stream_open(c, WATCH, &q.base, &ringside__v1__watch_rows_response__descriptor, 0, &s, &err), 0);
	client_stream_free(s);
	client_free(c);
}

static void who_isnt_there_is_named(void **state)
{
	struct client_options o = {.socket_path = "/nonexistent/ringside.sock"};
	struct client *c = NULL;
	struct err err = {};

	(void)state;
	assert_int_equal(client_new(&c, &o, &err), -ECONNREFUSED);
	assert_non_null(strstr(err.msg, "/nonexistent/ringside.sock"));
	o = (struct client_options){};
	assert_int_equal(client_new(&c, &o, &err), -EINVAL);
	o = (struct client_options){.address = "localhost:1", .tls_ca = "/nonexistent/ca", .tls_cert = "x", .tls_key = "y"};
	assert_int_equal(client_new(&c, &o, &err), -ENOENT);
	assert_non_null(strstr(err.msg, "/nonexistent/ca"));
	assert_null(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_call_is_answered),
		cmocka_unit_test(a_query_streams_to_its_end),
		cmocka_unit_test(streams_wait_cancel_and_time_out),
		cmocka_unit_test(who_isnt_there_is_named),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}

// SPDX-License-Identifier: Apache-2.0
/* The bus: every sink gets every batch, refusals are counted by sink and by table, no reference is
 * lost. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/macro.h"
#include "base/thread.h"
#include "daemon/bus.h"

struct row {
	uint64_t ts, n;
};
static const struct field fields[] = {
	FIELD(row, ts, U64, TIME, TAG, "ns", "when"),
	FIELD(row, n, U64, INT64, DELTA, "", "number"),
};
static const struct table a = TABLE(row, FLOW, "a", "first", fields);
static const struct table b = TABLE(row, FLOW, "b", "second", fields);

struct sink {
	_Atomic uint64_t rows;
	bool keeps, refuses;
	struct batch *kept;
};

static int push(void *ctx, struct batch *batch)
{
	struct sink *s = ctx;

	if (s->refuses)
		return -1;
	s->rows += batch->nrows;
	if (s->keeps && !s->kept)
		s->kept = batch_ref(batch);
	return 0;
}

static struct batch *rows_of(const struct table *table, unsigned int n)
{
	struct batch *batch = batch_new(table, n ? n : 1);

	for (unsigned int i = 0; i < n; i++)
		((struct row *)batch_add(batch))->n = i;
	batch_seal(batch, NULL);
	return batch;
}

static void fan_out(void **state)
{
	struct sink keeps = {.keeps = true}, refuses = {.refuses = true};
	const struct bus_sink sinks[] = {{"keeps", push, &keeps}, {"refuses", push, &refuses}};
	struct bus_sink_stats stats[2];
	struct bus *bus;

	(void)state;
	assert_int_equal(bus_new(&bus), 0);
	for (size_t i = 0; i < ARRAY_SIZE(sinks); i++)
		assert_int_equal(bus_add_sink(bus, &sinks[i]), 0);
	bus_publish(bus, rows_of(&a, 7));
	bus_publish(bus, rows_of(&a, 4));
	bus_publish(bus, rows_of(&b, 2));
	bus_publish(bus, rows_of(&b, 0)); /* nothing to tell */
	assert_int_equal(keeps.rows, 13);
	assert_int_equal(keeps.kept->nrows, 7);
	assert_int_equal(keeps.kept->refs, 1);
	assert_int_equal(bus_stats(bus, stats, 2), 2);
	assert_int_equal(stats[0].rows, 13);
	assert_int_equal(stats[0].batches, 3);
	assert_int_equal(stats[0].rows_dropped, 0);
	assert_int_equal(stats[1].rows, 0);
	assert_int_equal(stats[1].rows_dropped, 13);
	assert_int_equal(bus_dropped(bus, &a), 11);
	assert_int_equal(bus_dropped(bus, &b), 2);
	assert_int_equal(bus_dropped_by(bus, stats[0].name, &a), 0);
	assert_int_equal(bus_dropped_by(bus, stats[1].name, &a), 11);
	batch_unref(keeps.kept);
	bus_free(bus);
}

static void full_of_sinks(void **state)
{
	struct sink s = {0};
	struct bus *bus;
	int n = 0;

	(void)state;
	assert_int_equal(bus_new(&bus), 0);
	while (bus_add_sink(bus, &(struct bus_sink){"s", push, &s}) == 0)
		n++;
	assert_int_equal(n, 16);
	bus_free(bus);
}

static void *publish_many(void *arg)
{
	for (unsigned int i = 0; i < 997; i++)
		bus_publish(arg, rows_of(i % 2 ? &a : &b, 3));
	return NULL;
}

static void from_many_threads(void **state)
{
	struct sink takes = {0}, refuses = {.refuses = true};
	pthread_t threads[4];
	struct bus *bus;

	(void)state;
	assert_int_equal(bus_new(&bus), 0);
	assert_int_equal(bus_add_sink(bus, &(struct bus_sink){"takes", push, &takes}), 0);
	assert_int_equal(bus_add_sink(bus, &(struct bus_sink){"refuses", push, &refuses}), 0);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		assert_int_equal(thread_start(&threads[i], "publish", publish_many, bus), 0);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(takes.rows, 4 * 997 * 3);
	assert_int_equal(bus_dropped(bus, &a) + bus_dropped(bus, &b), 4 * 997 * 3);
	bus_free(bus);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fan_out),
		cmocka_unit_test(full_of_sinks),
		cmocka_unit_test(from_many_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

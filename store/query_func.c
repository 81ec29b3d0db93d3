// SPDX-License-Identifier: Apache-2.0
/* SQL functions that questions about hosts and networks need: addresses, times, percentiles. */
#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/macro.h"
#include "base/units.h"
#include "store/query_worker.h"

struct cidr {
	int family; /* AF_INET, AF_INET6 */
	unsigned int bits;
	uint8_t addr[16];
};

static bool parse_ip(const char *text, int *family, uint8_t addr[16])
{
	*family = strchr(text, ':') ? AF_INET6 : AF_INET;
	return inet_pton(*family, text, addr) == 1;
}

static bool parse_cidr(const char *text, struct cidr *ret)
{
	char ip[INET6_ADDRSTRLEN];
	const char *slash = strchr(text, '/');
	size_t len = slash ? (size_t)(slash - text) : strlen(text);
	char *end;

	if (len >= sizeof(ip))
		return false;
	memcpy(ip, text, len);
	ip[len] = '\0';
	if (!parse_ip(ip, &ret->family, ret->addr))
		return false;
	ret->bits = ret->family == AF_INET ? 32 : 128;
	if (slash) {
		unsigned long bits = strtoul(slash + 1, &end, 10);

		if (slash[1] < '0' || slash[1] > '9' || *end || bits > ret->bits)
			return false;
		ret->bits = bits;
	}
	return true;
}

static bool cidr_has(const struct cidr *c, const uint8_t addr[16])
{
	unsigned int bytes = c->bits / 8, rest = c->bits % 8;

	if (memcmp(c->addr, addr, bytes))
		return false;
	return !rest || !((c->addr[bytes] ^ addr[bytes]) >> (8 - rest));
}

/* in_cidr(ip, '10.0.0.0/8') */
static void fn_in_cidr(sqlite3_context *ctx, int argc, sqlite3_value **argv)
{
	const char *ip = (const char *)sqlite3_value_text(argv[0]);
	struct cidr *c = sqlite3_get_auxdata(ctx, 1), parsed;
	uint8_t addr[16];
	int family;

	(void)argc;
	if (!c) {
		const char *text = (const char *)sqlite3_value_text(argv[1]);
		char msg[160];

		if (!text || !parse_cidr(text, &parsed)) {
			snprintf(msg, sizeof(msg),
				 "in_cidr: '%.64s' is no network, write it as 10.0.0.0/8 or "
				 "fd00::/8",
				 text ? text : "NULL");
			sqlite3_result_error(ctx, msg, -1);
			return;
		}
		c = sqlite3_malloc(sizeof(*c));
		if (c) { /* a constant network is parsed once; without memory once a row */
			*c = parsed;
			sqlite3_set_auxdata(ctx, 1, c, sqlite3_free);
		}
		c = &parsed;
	}
	if (!ip || !parse_ip(ip, &family, addr))
		return; /* NULL */
	sqlite3_result_int(ctx, family == c->family && cidr_has(c, addr));
}

static void fn_ip_family(sqlite3_context *ctx, int argc, sqlite3_value **argv)
{
	const char *ip = (const char *)sqlite3_value_text(argv[0]);
	uint8_t addr[16];
	int family;

	(void)argc;
	if (ip && parse_ip(ip, &family, addr))
		sqlite3_result_int(ctx, family == AF_INET ? 4 : 6);
}

static uint64_t statement_now(sqlite3_context *ctx)
{
	return *(const uint64_t *)sqlite3_user_data(ctx);
}

/* ago('5m'): for comparisons with ts. */
static void fn_ago(sqlite3_context *ctx, int argc, sqlite3_value **argv)
{
	const char *text = (const char *)sqlite3_value_text(argv[0]);
	uint64_t ns, now = statement_now(ctx);
	struct err err = {0};

	(void)argc;
	if (!text)
		return;
	if (units_parse_duration(text, &ns, &err) < 0) {
		char msg[300];

		snprintf(msg, sizeof(msg), "ago: %s", err.msg);
		sqlite3_result_error(ctx, msg, -1);
		return;
	}
	sqlite3_result_int64(ctx, ns < now ? now - ns : 0);
}

static void fn_now_ns(sqlite3_context *ctx, int argc, sqlite3_value **argv)
{
	(void)argc;
	(void)argv;
	sqlite3_result_int64(ctx, statement_now(ctx));
}

static void fn_rfc3339(sqlite3_context *ctx, int argc, sqlite3_value **argv)
{
	char text[40];
	int64_t ts;

	(void)argc;
	if (sqlite3_value_type(argv[0]) == SQLITE_NULL)
		return;
	ts = sqlite3_value_int64(argv[0]);
	if (ts < 0) {
		sqlite3_result_error(ctx, "rfc3339: a time before 1970", -1);
		return;
	}
	sqlite3_result_text(ctx, clock_format_rfc3339(text, ts), -1, SQLITE_TRANSIENT);
}

/* All values of the group: exact, and as large as the worker's memory allows. */
struct samples {
	double *v;
	uint64_t n, cap;
	double percent;
	bool failed;
};

static bool samples_add(struct samples *s, double v)
{
	if (s->n == s->cap) {
		uint64_t cap = s->cap ? s->cap * 2 : 64;
		double *more = sqlite3_realloc64(s->v, cap * sizeof(*more));

		if (!more)
			return false;
		s->v = more;
		s->cap = cap;
	}
	s->v[s->n++] = v;
	return true;
}

static void step(sqlite3_context *ctx, sqlite3_value *value, double percent)
{
	struct samples *s = sqlite3_aggregate_context(ctx, sizeof(*s));
	int type = sqlite3_value_numeric_type(value);

	if (!s) {
		sqlite3_result_error_nomem(ctx);
		return;
	}
	s->percent = percent;
	if (type != SQLITE_INTEGER && type != SQLITE_FLOAT)
		return; /* as sum() and avg() do with NULL */
	if (!samples_add(s, sqlite3_value_double(value))) {
		s->failed = true;
		sqlite3_result_error_nomem(ctx);
	}
}

static void fn_percentile_step(sqlite3_context *ctx, int argc, sqlite3_value **argv)
{
	double percent = sqlite3_value_double(argv[1]);

	(void)argc;
	if (sqlite3_value_type(argv[1]) == SQLITE_NULL || !(percent >= 0 && percent <= 100)) {
		sqlite3_result_error(
			ctx, "percentile: the second argument is a number from 0 to 100", -1);
		return;
	}
	step(ctx, argv[0], percent);
}

static void fn_median_step(sqlite3_context *ctx, int argc, sqlite3_value **argv)
{
	(void)argc;
	step(ctx, argv[0], 50);
}

static void swap(double *a, double *b)
{
	double t = *a;

	*a = *b;
	*b = t;
}

/*
 * Puts the k-th smallest at v[k], none larger before it, none smaller behind (Hoare's quickselect).
 * Not qsort(): that may ask the kernel for the size of memory, which the sandbox answers with
 * death.
 */
static void select_kth(double *v, uint64_t n, uint64_t k)
{
	int64_t lo = 0, hi = (int64_t)n - 1;

	while (lo < hi) {
		int64_t mid = lo + (hi - lo) / 2, i = lo, j = hi;
		double pivot;

		if (v[mid] < v[lo])
			swap(&v[mid], &v[lo]);
		if (v[hi] < v[lo])
			swap(&v[hi], &v[lo]);
		if (v[hi] < v[mid])
			swap(&v[hi], &v[mid]);
		pivot = v[mid];
		while (i <= j) {
			while (v[i] < pivot)
				i++;
			while (v[j] > pivot)
				j--;
			if (i <= j)
				swap(&v[i++], &v[j--]);
		}
		if ((int64_t)k <= j)
			hi = j;
		else if ((int64_t)k >= i)
			lo = i;
		else
			return;
	}
}

static double smallest(const double *v, uint64_t n)
{
	double min = v[0];

	for (uint64_t i = 1; i < n; i++)
		if (v[i] < min)
			min = v[i];
	return min;
}

/* Linear between the two nearest ranks, as numpy and spreadsheets do. */
static void fn_percentile_final(sqlite3_context *ctx)
{
	struct samples *s = sqlite3_aggregate_context(ctx, 0);
	double at, low;
	uint64_t k;

	if (!s)
		return;
	if (s->n && !s->failed) {
		at = (double)(s->n - 1) * s->percent / 100;
		k = (uint64_t)floor(at);
		select_kth(s->v, s->n, k);
		low = s->v[k];
		if (k + 1 < s->n)
			low += (at - (double)k) * (smallest(s->v + k + 1, s->n - k - 1) - low);
		sqlite3_result_double(ctx, low);
	}
	sqlite3_free(s->v);
	s->v = NULL;
}

int query_func_register(sqlite3 *db, const uint64_t *now_ns)
{
	static const struct {
		const char *name;
		int argc;
		void (*scalar)(sqlite3_context *, int, sqlite3_value **);
		void (*step)(sqlite3_context *, int, sqlite3_value **);
		void (*final)(sqlite3_context *);
	} functions[] = {
		{.name = "in_cidr", .argc = 2, .scalar = fn_in_cidr},
		{.name = "ip_family", .argc = 1, .scalar = fn_ip_family},
		{.name = "ago", .argc = 1, .scalar = fn_ago},
		{.name = "now_ns", .argc = 0, .scalar = fn_now_ns},
		{.name = "rfc3339", .argc = 1, .scalar = fn_rfc3339},
		{.name = "percentile",
		 .argc = 2,
		 .step = fn_percentile_step,
		 .final = fn_percentile_final},
		{.name = "median", .argc = 1, .step = fn_median_step, .final = fn_percentile_final},
	};

	/* Deterministic: "now" stands still within a statement, so ts > ago('5m') becomes a range
	 * of rowids. */
	for (size_t i = 0; i < ARRAY_SIZE(functions); i++)
		if (sqlite3_create_function_v2(
			    db, functions[i].name, functions[i].argc,
			    SQLITE_UTF8 | SQLITE_DETERMINISTIC | SQLITE_INNOCUOUS, (void *)now_ns,
			    functions[i].scalar, functions[i].step, functions[i].final,
			    NULL) != SQLITE_OK)
			return -ENOMEM;
	return 0;
}

// SPDX-License-Identifier: Apache-2.0
/* Who read what. A read of access_log is a read like any other: one row when it ends (a watch: and
 * one when it begins), never one a row. */
#include "daemon/access.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "daemon/bus.h"
#include "daemon/daemon.h"
#include "daemon/selftables.h"
#include "store/store.h"

#define LOG_MODULE "daemon"
#include "base/log.h"

/* A second of more reads than the query workers can answer; more is counted and said. */
#define KEPT_MAX 4096

struct kept {
	struct kept *next;
	uint64_t ts;
	struct api_access a; /* texts in the bytes behind */
	char text[];
};

struct access_log {
	struct daemon *d;
	pthread_mutex_t mu;
	struct kept *head, **tail;
	unsigned int n;
	uint64_t lost;	  /* not yet told */
	uint64_t last_ts; /* loop thread */
	_Atomic bool off;
};

int access_new(struct access_log **ret, struct daemon *d)
{
	struct access_log *a = calloc(1, sizeof(*a));

	if (!a)
		return -ENOMEM;
	a->d = d;
	a->tail = &a->head;
	pthread_mutex_init(&a->mu, NULL);
	*ret = a;
	return 0;
}

void access_free(struct access_log *a)
{
	if (!a)
		return;
	for (struct kept *k = a->head, *next; k; k = next) {
		next = k->next;
		free(k);
	}
	pthread_mutex_destroy(&a->mu);
	free(a);
}

static void switch_log(struct access_log *a)
{
	atomic_store(&a->off, !opt_bool(config_daemon(a->d->config), "access_log"));
}

void access_seed(struct access_log *a)
{
	switch_log(a);
	a->last_ts = store_last_ts(a->d->store, &access_log_table);
}

/* The read with its texts in one piece. */
static struct kept *keep(const struct api_access *from)
{
	const char *texts[] = {from->method,  from->transport, from->exe,   from->subject,
			       from->address, from->sql,       from->status};
	const char **copies[ARRAY_SIZE(texts)];
	size_t len = 0;
	struct kept *k;
	char *p;

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		len += strlen(texts[i]) + 1;
	k = malloc(sizeof(*k) + len);
	if (!k)
		return NULL;
	k->next = NULL;
	k->ts = clock_real_ns();
	k->a = *from;
	copies[0] = &k->a.method;
	copies[1] = &k->a.transport;
	copies[2] = &k->a.exe;
	copies[3] = &k->a.subject;
	copies[4] = &k->a.address;
	copies[5] = &k->a.sql;
	copies[6] = &k->a.status;
	p = k->text;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		*copies[i] = p;
		p = stpcpy(p, texts[i]) + 1;
	}
	return k;
}

void control_access(void *ctx, const struct api_access *access)
{
	struct access_log *a = ((struct daemon *)ctx)->access;
	struct kept *k = atomic_load(&a->off) ? NULL : keep(access);

	if (atomic_load(&a->off))
		return;
	pthread_mutex_lock(&a->mu);
	if (!k || a->n == KEPT_MAX) {
		a->lost++;
	} else {
		*a->tail = k;
		a->tail = &k->next;
		a->n++;
		k = NULL;
	}
	pthread_mutex_unlock(&a->mu);
	free(k);
}

static struct str text(struct batch *b, const char *s)
{
	return *s ? batch_str(b, s, strlen(s)) : (struct str){0};
}

static bool add(struct batch *b, const struct kept *k)
{
	struct access_row *row = batch_add(b);
	bool local = !strcmp(k->a.transport, "unix");

	if (!row)
		return false;
	row->ts = k->ts;
	row->method = text(b, k->a.method);
	row->transport = text(b, k->a.transport);
	row->uid = local ? k->a.uid : UINT32_MAX;
	row->pid = k->a.pid > 0 ? (uint32_t)k->a.pid : 0;
	row->exe = text(b, k->a.exe);
	row->subject = text(b, k->a.subject);
	row->address = text(b, k->a.address);
	row->sql = text(b, k->a.sql);
	row->truncated = k->a.truncated;
	row->rows = k->a.rows;
	row->bytes = k->a.bytes;
	row->duration = k->a.duration_ns;
	row->status = text(b, k->a.status);
	return true;
}

static struct kept *take(struct access_log *a, unsigned int *ret_n, uint64_t *ret_lost)
{
	struct kept *head;

	pthread_mutex_lock(&a->mu);
	head = a->head;
	*ret_n = a->n;
	*ret_lost = a->lost;
	a->head = NULL;
	a->tail = &a->head;
	a->n = 0;
	a->lost = 0;
	pthread_mutex_unlock(&a->mu);
	return head;
}

void access_flush(struct access_log *a)
{
	struct batch *b = NULL;
	struct kept *head;
	unsigned int n;
	uint64_t lost;

	if (!a)
		return;
	switch_log(a);
	head = take(a, &n, &lost);
	if (head)
		b = batch_new(&access_log_table, n);
	for (struct kept *k = head, *next; k; k = next) {
		next = k->next;
		lost += !b || !add(b, k);
		free(k);
	}
	if (b) {
		batch_seal(b, &a->last_ts);
		bus_publish(a->d->bus, b);
	}
	if (lost && log_ratelimit("access_log", 3))
		log_warn("%llu reads aren't in access_log: too many in one second, or no memory",
			 (unsigned long long)lost);
	if (lost && a->d->self)
		ledger_lost(a->d->self, access_log_table.name, "", "no_memory", lost);
}

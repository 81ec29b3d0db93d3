// SPDX-License-Identifier: Apache-2.0
/* The loss ledger: what became of all that plugins saw, balanced to the row. Loop thread. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "daemon/bus.h"
#include "daemon/daemon.h"
#include "daemon/host.h"
#include "daemon/selftables.h"
#include "store/store.h"

#define LOG_MODULE "daemon"
#include "base/log.h"

/* While nothing is lost, one row for that many seconds says as much as one for each. */
#define CALM_SECONDS 10
/* A turn's rows of a table are one batch, which is stored or lost as a whole. */
#define TURN_ROWS SELF_BATCH_ROWS

/*
 * The ledger survives what it tells of: rows about a full disk can't be stored while it is full.
 * All that is kept are totals; a row says by how much one grew since the last row that was stored.
 * While rows are on their way no new ones are made.
 */
struct teller {
	const struct table *table;
	uint64_t sent; /* rows, ever */
	uint64_t lost; /* of them */
	bool in_flight;
};

struct loss_key {
	const char *table, *plugin, *stage; /* static texts */
	uint64_t total, told, sent;
};

/* Six stages a plugin and three a table are far less. */
#define KEYS_MAX 1024

struct told_table {
	struct store_table_stats store;
	uint64_t watchers;
};

struct totals {
	struct plugin_ledger host;
	struct store_table_stats store; /* of all its history tables */
};

struct told_plugin {
	struct totals told, sent;
	uint32_t seconds, sent_seconds; /* since told; of the row on its way */
	bool in_flight;
};

struct ledger {
	struct teller loss, ledger;
	struct loss_key keys[KEYS_MAX];
	unsigned int nkeys, next;    /* next: where the turn begins, so that all get theirs */
	uint64_t keyless;	     /* lost, and no room to say where */
	struct told_table *tables;   /* by index of d->tables */
	struct told_plugin *plugins; /* as host_ledgers() numbers them */
};

void ledger_free(struct ledger *l)
{
	if (!l)
		return;
	free(l->tables);
	free(l->plugins);
	free(l);
}

struct ledger *ledger_new(const struct daemon *d)
{
	struct ledger *l = calloc(1, sizeof(*l));
	size_t ntables = 0, nplugins = 0;

	while (d->tables[ntables])
		ntables++;
	while (plugins[nplugins])
		nplugins++;
	if (!l)
		return NULL;
	l->loss.table = &loss_table;
	l->ledger.table = &ledger_table;
	l->tables = calloc(ntables + 1, sizeof(*l->tables));
	l->plugins = calloc(nplugins + 1, sizeof(*l->plugins));
	if (l->tables && l->plugins)
		return l;
	ledger_free(l);
	return NULL;
}

/* Whether new rows may be made; *stored: what became of those that were on their way. */
static bool teller_settled(struct teller *w, const struct daemon *d, bool *stored)
{
	struct store_table_stats st;

	*stored = true;
	if (!w->in_flight)
		return true;
	/* The last words: nobody is there to repeat them. */
	if (!d->store || atomic_load(&d->stopping)) {
		w->in_flight = false;
		return true;
	}
	store_table_stats(d->store, w->table, &st);
	if (st.stored + st.refused + st.given_up < w->sent)
		return false;
	*stored = st.refused + st.given_up == w->lost;
	w->lost = st.refused + st.given_up;
	w->in_flight = false;
	return true;
}

static void teller_sent(struct teller *w, unsigned int rows)
{
	w->sent += rows;
	w->in_flight = rows > 0;
}

static struct str text(struct batch *b, const char *s)
{
	return s && *s ? batch_str(b, s, strlen(s)) : (struct str){0};
}

void ledger_lost(void *arg, const char *table, const char *plugin, const char *stage, uint64_t lost)
{
	struct ledger *l = ((struct selftables *)arg)->ledger;
	struct loss_key *k = l->keys, *end = l->keys + l->nkeys;

	while (k < end &&
	       (strcmp(k->table, table) || strcmp(k->stage, stage) || strcmp(k->plugin, plugin)))
		k++;
	if (k == end && l->nkeys == KEYS_MAX) {
		l->keyless += lost;
		return;
	}
	if (k == end) {
		*k = (struct loss_key){.table = table, .plugin = plugin, .stage = stage};
		l->nkeys++;
	}
	k->total += lost;
}

static bool put_loss(struct selftables *t, struct loss_key *k)
{
	struct batch *b;
	struct loss_row *row = selftables_row(t, SELF_LOSS, &b);

	if (!row)
		return false;
	row->ts = clock_real_ns();
	row->table_name = text(b, k->table);
	row->plugin = text(b, k->plugin);
	row->stage = text(b, k->stage);
	row->lost = k->total - k->told;
	k->sent = k->total;
	return true;
}

static void tell_losses(struct selftables *t, struct ledger *l)
{
	unsigned int rows = 0;
	bool stored;

	if (!teller_settled(&l->loss, t->d, &stored))
		return;
	for (unsigned int i = 0; i < l->nkeys; i++) {
		struct loss_key *k = &l->keys[i];

		if (stored && k->sent)
			k->told = k->sent;
		k->sent = 0;
	}
	for (unsigned int i = 0; i < l->nkeys && rows < TURN_ROWS; i++) {
		struct loss_key *k = &l->keys[(l->next + i) % l->nkeys];

		if (k->total > k->told)
			rows += put_loss(t, k);
	}
	l->next += TURN_ROWS;
	teller_sent(&l->loss, rows);
}

/* "" for one of our own. */
static const char *plugin_of(const struct table *table)
{
	for (unsigned int i = 0; plugins[i]; i++)
		for (unsigned int k = 0; plugins[i]->tables && plugins[i]->tables[k]; k++)
			if (plugins[i]->tables[k] == table)
				return plugins[i]->name;
	return "";
}

static void tell(struct selftables *t, const struct table *table, const char *stage, uint64_t now,
		 uint64_t told)
{
	if (now > told)
		ledger_lost(t, table->name, plugin_of(table), stage, now - told);
}

/* A loss of loss rows would feed itself: it stays a number of the table "sinks". */
static void sink_losses(struct selftables *t, struct ledger *l)
{
	struct daemon *d = t->d;

	for (size_t i = 0; d->tables[i]; i++) {
		const struct table *table = d->tables[i];
		struct told_table *was = &l->tables[i], now = {0};

		if (!table_is_history(table) || table == &loss_table)
			continue;
		if (d->store)
			store_table_stats(d->store, table, &now.store);
		now.watchers = bus_dropped_by(d->bus, "watchers", table);
		tell(t, table, "queue_full", now.store.refused, was->store.refused);
		tell(t, table, "disk", now.store.given_up, was->store.given_up);
		tell(t, table, "watchers", now.watchers, was->watchers);
		*was = now;
	}
}

static struct store_table_stats stored_of(const struct daemon *d, const struct plugin *plugin)
{
	struct store_table_stats sum = {0}, one;

	for (unsigned int i = 0; d->store && plugin->tables && plugin->tables[i]; i++) {
		store_table_stats(d->store, plugin->tables[i], &one);
		sum.stored += one.stored;
		sum.refused += one.refused;
		sum.given_up += one.given_up;
	}
	return sum;
}

static bool put_ledger(struct selftables *t, const struct plugin *plugin, uint32_t seconds,
		       const struct totals *now, const struct totals *was)
{
	const struct plugin_ledger *h = &now->host, *o = &was->host;
	uint64_t settled = now->store.stored + now->store.refused + now->store.given_up;
	struct batch *b;
	struct ledger_row *row = selftables_row(t, SELF_LEDGER, &b);

	if (!row)
		return false;
	row->ts = clock_real_ns();
	row->plugin = text(b, plugin->name);
	row->seconds = seconds;
	row->submitted = h->submitted - o->submitted;
	row->ring_full = h->ring_full - o->ring_full;
	row->map_full = h->map_full - o->map_full;
	row->kernel_error = h->kernel_error - o->kernel_error;
	row->filtered = h->filtered - o->filtered;
	row->sampled = h->sampled - o->sampled;
	row->seen = row->submitted + row->ring_full + row->map_full + row->kernel_error +
		    row->filtered + row->sampled;
	row->received = h->received - o->received;
	row->decode_errors = h->decode_errors - o->decode_errors;
	row->left_out = h->left_out - o->left_out;
	row->no_memory = h->no_memory - o->no_memory;
	row->rows = h->rows - o->rows;
	row->stored = now->store.stored - was->store.stored;
	row->queue_full = now->store.refused - was->store.refused;
	row->disk = now->store.given_up - was->store.given_up;
	row->waiting = h->rows > settled ? h->rows - settled : 0;
	return true;
}

static uint64_t losses(const struct totals *p)
{
	return p->host.ring_full + p->host.map_full + p->host.kernel_error + p->host.sampled +
	       p->host.decode_errors + p->host.no_memory + p->store.refused + p->store.given_up;
}

struct turn {
	struct selftables *t;
	unsigned int rows;
	bool settled, stored;
};

static void on_ledger(void *arg, unsigned int i, const struct plugin *plugin,
		      const struct plugin_ledger *ledger)
{
	struct turn *turn = arg;
	struct told_plugin *p = &turn->t->ledger->plugins[i];
	const struct totals now = {.host = *ledger, .store = stored_of(turn->t->d, plugin)};

	p->seconds++;
	if (!turn->settled)
		return;
	if (p->in_flight && turn->stored) {
		p->told = p->sent;
		p->seconds -= p->sent_seconds;
	}
	p->in_flight = false;
	/* A second that lost nothing waits for those that follow. */
	if (losses(&now) == losses(&p->told) && p->seconds < CALM_SECONDS &&
	    !atomic_load(&turn->t->d->stopping))
		return;
	if (!memcmp(&now, &p->told, sizeof(now))) {
		p->seconds = 0;
		return;
	}
	if (turn->rows == TURN_ROWS || !put_ledger(turn->t, plugin, p->seconds, &now, &p->told))
		return; /* the next one says it */
	turn->rows++;
	p->sent = now;
	p->sent_seconds = p->seconds;
	p->in_flight = true;
}

void ledger_second(struct selftables *t)
{
	struct ledger *l = t->ledger;
	struct turn turn = {.t = t};

	sink_losses(t, l);
	if (l->keyless && log_ratelimit("ledger", 1))
		log_warn("%llu losses have no room in the ledger, they stay numbers of the table "
			 "'sinks'",
			 (unsigned long long)l->keyless);
	tell_losses(t, l);
	turn.settled = teller_settled(&l->ledger, t->d, &turn.stored);
	host_ledgers(t->d->host, on_ledger, &turn);
	if (turn.settled)
		teller_sent(&l->ledger, turn.rows);
}

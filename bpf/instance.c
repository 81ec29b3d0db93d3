// SPDX-License-Identifier: Apache-2.0
/* What a running plugin calls to emit rows, and what all plugins have in common. */
#include <assert.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <string.h>

#include "base/hash.h"
#include "bpf/plugin.h"
#include "bpf/process.h"

/* Rows a batch: one transaction of the store, one hand-over per sink. */
#define BATCH_ROWS 512
/* 80 s for the usual 10: later is still worth more than never. */
#define INTERVAL_STEPS	3
#define INTERVAL_MAX_NS (3600 * 1000000000ull)
/* With this much text a batch goes out early, so that the rows to come always find room in the
 * arena. */
#define BATCH_TEXT (256 * 1024)

/* Texts of a batch that rows may share: the last one of each hash; a power of two. */
#define RECENT 64u

struct instance_out {
	struct batch *batch;
	uint64_t last_ts;
	struct str recent[RECENT];
};

const char *const domain_origin_names[] = {"", "dns", "sni", "host", NULL};

static_assert(sizeof(domain_origin_names) / sizeof(domain_origin_names[0]) == DOMAIN_X_MAX + 1,
	      "a name for each");

const struct opt plugin_common_options[] = {
	{.key = "interval",
	 .type = OPT_DURATION,
	 .def = "10s",
	 .min = "1s",
	 .max = "1h",
	 .help = "time between two rows of the same thing in interval tables"},
	{.key = "ring_size",
	 .type = OPT_BYTES,
	 .def = "1MiB",
	 .min = "64KiB",
	 .max = "64MiB",
	 .restart = true,
	 .help = "memory for events on their way out of the kernel, in bytes; rounded up to a "
		 "power of two"},
	{.key = "priority",
	 .type = OPT_INT,
	 .def = "50",
	 .min = "0",
	 .max = "100",
	 .help = "at a limit plugins with a low priority are disabled before those with a high "
		 "one"},
	{},
};

const struct plugin *plugin_find(const char *name)
{
	for (const struct plugin *const *p = plugins; *p; p++)
		if (!strcmp((*p)->name, name))
			return *p;
	return NULL;
}

static unsigned int ntables(const struct instance *in)
{
	unsigned int n = 0;

	while (in->plugin->tables && in->plugin->tables[n])
		n++;
	return n;
}

int instance_out_new(struct instance *in)
{
	in->out = calloc(ntables(in) + 1, sizeof(*in->out));
	return in->out ? 0 : -ENOMEM;
}

void instance_out_free(struct instance *in)
{
	unsigned int n = ntables(in);

	for (unsigned int i = 0; in->out && i < n; i++) {
		if (in->out[i].batch)
			in->count.rows_lost += in->out[i].batch->nrows;
		batch_unref(in->out[i].batch);
	}
	free(in->out);
	in->out = NULL;
	process_filter_free(in);
}

void instance_seed_ts(struct instance *in, unsigned int table, uint64_t last_ts)
{
	if (in->out[table].last_ts < last_ts)
		in->out[table].last_ts = last_ts;
}

static void out_publish(struct instance *in, struct instance_out *out)
{
	if (!out->batch || !out->batch->nrows)
		return;
	batch_seal(out->batch, &out->last_ts);
	memset(out->recent, 0, sizeof(out->recent));
	in->publish(in->publish_arg, TAKE_PTR(out->batch));
}

const char *instance_container(struct instance *in, uint64_t cgroup_id, uint32_t pid)
{
	const struct cgroup_ids ids = {.cgroup_id = cgroup_id, .pid = pid};

	return cgroup_id && in->enrich ? in->enrich->container_by(in->enrich_ctx, &ids) : "";
}

void *instance_row(struct instance *in, unsigned int table)
{
	struct instance_out *out = &in->out[table];
	void *row = NULL;

	if (out->batch && (out->batch->nrows == BATCH_ROWS || out->batch->arena_len >= BATCH_TEXT))
		out_publish(in, out);
	if (!out->batch)
		out->batch = batch_new(in->plugin->tables[table], BATCH_ROWS);
	if (out->batch)
		row = batch_add(out->batch);
	if (row)
		in->count.rows++;
	else
		in->count.rows_lost++;
	return row;
}

/* By both ends: names and paths of one process differ there. */
static unsigned int recent_slot(const char *text, size_t len)
{
	uint64_t first = 0, last = 0;
	size_t n = len < sizeof(first) ? len : sizeof(first);

	memcpy(&first, text, n);
	memcpy(&last, text + len - n, n);
	return hash_u64(hash_u64(len, first), last) & (RECENT - 1);
}

/* Users, paths and parents are mostly those of the row before: one copy a batch. */
struct str instance_str(struct instance *in, unsigned int table, const char *text, size_t len)
{
	struct instance_out *out = &in->out[table];
	struct str *recent;

	if (!len)
		return (struct str){0};
	recent = &out->recent[recent_slot(text, len)];
	if (recent->len == len && !memcmp(out->batch->arena + recent->off, text, len))
		return *recent;
	*recent = batch_str(out->batch, text, len);
	if (!recent->len)
		in->count.rows_lost++;
	return *recent;
}

static int sampling_write(struct instance *in)
{
	const struct sampling_step *step = sampling_now(&in->sampling);
	uint64_t words[PLUGIN_SAMPLING_X_MAX] = {
		[PLUGIN_SAMPLING_CGROUP] = step->cgroup,
		[PLUGIN_SAMPLING_SHIFTS] = (uint64_t)step->cgroup_shift << 32 | step->shift,
		[PLUGIN_SAMPLING_OFF] = in->off,
	};
	uint32_t key = 0;
	int fd = in->obj ? bpf_object__find_map_fd_by_name(in->obj, ".data.shed") : -ENOENT;

	if (fd < 0)
		return fd;
	return bpf_map_update_elem(fd, &key, words, BPF_ANY) < 0 ? -errno : 0;
}

int instance_off(struct instance *in)
{
	in->off = true;
	return sampling_write(in);
}

int instance_shed_sampling(struct instance *in, unsigned int step)
{
	int steps = (int)sampling_to(&in->sampling, step), r = sampling_write(in);

	return r < 0 ? r : steps;
}

int instance_sampling_second(struct instance *in, uint64_t now_ns)
{
	int r;

	if (!sampling_second(&in->sampling, now_ns))
		return 0;
	r = sampling_write(in);
	return r < 0 ? r : 1;
}

int instance_shed_interval(struct instance *in, unsigned int step)
{
	uint64_t interval = in->base_interval_ns << (step < INTERVAL_STEPS ? step : INTERVAL_STEPS);

	in->interval_ns = interval < INTERVAL_MAX_NS ? interval : INTERVAL_MAX_NS;
	return INTERVAL_STEPS;
}

void instance_flush(struct instance *in)
{
	unsigned int n = ntables(in);

	for (unsigned int i = 0; in->out && i < n; i++)
		out_publish(in, &in->out[i]);
}

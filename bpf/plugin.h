// SPDX-License-Identifier: Apache-2.0
/* User half of the plugin contract: everything a plugin may use is here. */
#pragma once

#include <bpf/libbpf.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/opt.h"
#include "bpf/batch.h"
#include "bpf/plugin_stats.h"
#include "bpf/sampling.h"
#include "bpf/table.h"

struct instance;
struct nat_table;

/* Made by PLUGIN() from the bpftool skeleton of the plugin's object. */
struct bpf_skel_ops {
	void *(*open)(struct bpf_object_skeleton **ret); /* NULL and errno on failure */
	void (*destroy)(void *skel);
};

struct plugin {
	const char *name;  /* config section, RPC and CLI name */
	const char *help;  /* one line */
	const char *needs; /* what the kernel must have, one sentence, for doctor and CheckPlugin */
	const struct table *const *tables; /* the rows it produces; NULL-terminated */
	const struct opt *options; /* {}-terminated; NULL: none. Common options are the host's
				      (plugin_common_options) */
	const struct bpf_skel_ops
		*skel;		      /* NULL: no BPF programs; it watches files (PLUGIN_PLAIN) */
	size_t state_size;	      /* of in->state */
	uint32_t default_ring_bytes;  /* of the ring buffer; 0: as plugin_common_options says */
	uint64_t default_interval_ns; /* of tick; 0: every second */
	/*
	 * Where nobody set the option; 0: 50, as plugin_common_options says. From the first to go to
	 * the last: what is dear and about one program's inside (malloc 20, openssl 25); what many
	 * events tell little each (sni, sched, vfs 30); calls that netflow shows as flows (bind, tcp
	 * 50); names and translations that other rows are completed by (conntrack, dnsflow 60); few
	 * rows that explain an end (signal 70); what the daemon is run for (netflow 80, exec 85,
	 * bash 90).
	 */
	uint8_t default_priority;

	/* All optional; called on the loop thread only, in this order. 0 or negative errno; err
	 * says why in one sentence. */
	int (*setup)(struct instance *in,
		     struct err *err); /* opened, not loaded: rodata, map sizes, autoload */
	int (*start)(
		struct instance *in,
		struct err *err); /* loaded: attach what auto-attach cannot, load initial state */
	int (*event)(struct instance *in, const void *ev,
		     size_t len); /* one ring-buffer sample; <0 counts as a decode error */
	int (*tick)(
		struct instance *in,
		uint64_t now_ns); /* each interval; now_ns since the epoch: ts of interval rows */
	int (*update)(struct instance *in, const char *key,
		      struct err *err); /* a live option changed (already in in->opts) */
	/* Adds the rows of one of its live tables as they are now. -ENOBUFS when the batch is full:
	 * the host retries larger. */
	int (*snapshot)(struct instance *in, const struct table *table, struct batch *batch);
	/*
	 * Cost less than one could, by `step` steps; 0: nothing is left out. Steps beyond the last are
	 * the last. Returns how many there are, or negative errno. Called after start and whenever the
	 * governor asks. instance_shed_sampling() and instance_shed_interval() are ready to be used.
	 */
	int (*shed)(struct instance *in, unsigned int step);
	void (*stop)(struct instance *in); /* half-started instances too; links are gone after it */
};

/* How a name for an address is known. */
enum domain_origin {
	DOMAIN_NONE,
	DOMAIN_DNS,  /* an answer to a query */
	DOMAIN_SNI,  /* the server name in a TLS handshake */
	DOMAIN_HOST, /* the Host of an HTTP request */
	DOMAIN_X_MAX,
};

/* For REPR_ENUM fields: "", "dns", "sni", "host". */
extern const char *const domain_origin_names[];

/* Where a process is, for its container. */
struct cgroup_ids {
	uint64_t cgroup_id;	     /* in the unified hierarchy */
	uint64_t cgroup1_id;	     /* 0: unknown; else in that of cgroup1_controller */
	uint32_t cgroup1_controller; /* enum process_controller of bpf/lib/process.h */
	uint32_t pid;		     /* 0: unknown; asked where nothing else tells, while it lives */
};

/* Lookups that the daemon does for plugins; loop thread only. Results are valid until the next call
 * of the same function. */
struct enrich_ops {
	/* 12 or 64 hex digits of the container in the cgroup's path, or "". */
	const char *(*container_id)(void *ctx, uint64_t cgroup_id);
	/* The same, also on hosts whose containers have their cgroups in hierarchies of version 1: by
	 * the group there, else by the process, if it still lives. */
	const char *(*container_by)(void *ctx, const struct cgroup_ids *ids);
	/* The cgroup's path from the root of the unified hierarchy; "" when it is gone. */
	const char *(*cgroup_path)(void *ctx, uint64_t cgroup_id);
	/* comm of the thread-group leader, or "". */
	const char *(*process_name)(void *ctx, uint32_t pid);
	/* Name from the passwd of the process's own root; "" if unknown there. */
	const char *(*user_name)(void *ctx, uint32_t pid, uint32_t uid);
	/* In that network namespace the name led to the address, and may for ttl_ns. Bounded; no
	 * reverse names. */
	void (*domain_learn)(void *ctx, uint32_t netns, const struct ip_addr *ip, const char *name,
			     enum domain_origin origin, uint64_t ttl_ns);
	/* The name that led there last, or ""; *origin (never NULL) says how it is known. */
	const char *(*domain)(void *ctx, uint32_t netns, const struct ip_addr *ip,
			      enum domain_origin *origin);
};

/* One running plugin. The host owns it; plugins read the first part and call the functions below.
 */
struct instance {
	const struct plugin *plugin;
	void *skel; /* struct <name>_bpf * */
	struct bpf_object *obj;
	void *state; /* zeroed, plugin->state_size bytes, the plugin's own */
	const struct opt_set *opts;
	uint64_t interval_ns;
	uint64_t base_interval_ns; /* before anything was shed */
	const struct enrich_ops *enrich;
	void *enrich_ctx;
	struct nat_table *nat; /* bpf/nat.h: the host's; may be NULL */
	char degraded[256]; /* set by setup/start when it runs with less: one sentence; "" otherwise
			     */

	/*
	 * Calls ready on the loop thread while fd can be read, from now until stop is called. ready
	 * reads a bounded amount and never blocks; a failure is logged. fd stays the plugin's. Once
	 * an instance: gather several in an epoll. NULL: no loop.
	 */
	int (*watch_fd)(struct instance *in, int fd, int (*ready)(struct instance *in));

	/* Host side. */
	void *host;
	void (*publish)(void *arg, struct batch *batch); /* takes the reference */
	void *publish_arg;
	struct instance_out *out; /* one per table */
	struct instance_counters {
		uint64_t events;	/* ring samples handed to event() */
		uint64_t rows;		/* rows emitted */
		uint64_t decode_errors; /* samples refused */
		uint64_t filtered;	/* left out as its options say, once read */
		uint64_t rows_lost;	/* no memory for a row */
		uint64_t early_flushes; /* interval rows written before their time because a table
					   of the plugin was full */
		uint64_t kernel[PLUGIN_STAT_X_MAX];
	} count;
	struct sampling sampling; /* of instance_shed_sampling() */
	bool off; /* instance_off() */
	struct process_containers *containers; /* of the filters of bpf/process.c */
	uint64_t self_cgroup_id;
	uint32_t self_tgid;
};

/*
 * The next row of in->plugin->tables[table], zeroed: fill it at once. NULL when out of memory
 * (counted: skip the row). A history row's ts must be set. Batches with 512 rows or much text are
 * published by the call.
 */
void *instance_row(struct instance *in, unsigned int table);
/* The container of a socket's owner or "", valid until the next call; 0: not known. */
const char *instance_container(struct instance *in, uint64_t cgroup_id, uint32_t pid);
/* Text for a REPR_STR field of the row that instance_row() gave last for that table; no room counts
 * in rows_lost. */
struct str instance_str(struct instance *in, unsigned int table, const char *text, size_t len);
/*
 * For plugin.shed: events, half of them a step, down to 1 in 64: those of the noisiest cgroup first
 * (bpf/sampling.h). The kernel half asks sampled_out(); each row is told by instance_sampled(), which
 * process_fill() calls.
 */
int instance_shed_sampling(struct instance *in, unsigned int step);
static inline void instance_sampled(struct instance *in, uint64_t cgroup_id, uint32_t sample_rate)
{
	sampling_count(&in->sampling, cgroup_id, sample_rate);
}
/* Host, each second: > 0 when what is left out has changed (sampling_second()). */
int instance_sampling_second(struct instance *in, uint64_t now_ns);
/* For plugin.shed: rows, by an interval twice as long a step, up to 8 times; nothing is lost but time. */
int instance_shed_interval(struct instance *in, unsigned int step);
/* Host: publishes what is gathered (100 ms timer, end of tick, stop). */
void instance_flush(struct instance *in);
int instance_out_new(struct instance *in);
void instance_out_free(struct instance *in);
/* Host, before it detaches: programs that ask plugin_is_off() send nothing from now on. 0 or negative
 * errno; -ENOENT: none asks. */
int instance_off(struct instance *in);
/* Host, once after instance_out_new(): rows of this history table come after last_ts (what the
 * store holds). */
void instance_seed_ts(struct instance *in, unsigned int table, uint64_t last_ts);

/* Options that every plugin has: interval (1s..1h), ring_size (bytes, restart), priority. */
extern const struct opt plugin_common_options[];

/* All plugins of this build; NULL-terminated; generated from bpf/CMakeLists.txt. */
extern const struct plugin *const plugins[];
const struct plugin *plugin_find(const char *name);

#define TABLES(...)                             \
	.tables = (const struct table *const[]) \
	{                                       \
		__VA_ARGS__, NULL               \
	}

/*
 * Last line of a plugin: PLUGIN(netflow, .help = "...", TABLES(&netflow_table), ...);
 * Include "<name>.skel.h" before. Defines plugin_<name>.
 */
#define PLUGIN(id, ...)                                                                  \
	static void *id##_skel_open(struct bpf_object_skeleton **ret)                    \
	{                                                                                \
		struct id##_bpf *s = id##_bpf__open();                                   \
		if (s)                                                                   \
			*ret = s->skeleton;                                              \
		return s;                                                                \
	}                                                                                \
	static void id##_skel_destroy(void *s)                                           \
	{                                                                                \
		id##_bpf__destroy(s);                                                    \
	}                                                                                \
	static const struct bpf_skel_ops id##_skel_ops = {.open = id##_skel_open,        \
							  .destroy = id##_skel_destroy}; \
	PLUGIN_PLAIN(id, .skel = &id##_skel_ops, __VA_ARGS__)

/* The same for a plugin without BPF programs. */
#define PLUGIN_PLAIN(id, ...)                   \
	extern const struct plugin plugin_##id; \
	const struct plugin plugin_##id = {.name = #id, __VA_ARGS__}

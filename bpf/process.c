// SPDX-License-Identifier: Apache-2.0
/* Columns of the process and filters by it, the same for all event plugins. */
#include "bpf/process.h"

#include <assert.h>
#include <bpf/bpf.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/macro.h"
#include "bpf/cgroup2.h"
#include "bpf/containers.h"

static_assert(sizeof(struct process_filter_config) == sizeof(uint64_t), "it changes at once");

const char *process_container(struct instance *in, const struct process_context *c)
{
	const struct cgroup_ids ids = {c->cgroup_id, c->cgroup1_id, c->cgroup1_controller, 0};

	return in->enrich->container_by(in->enrich_ctx, &ids);
}

const char *process_columns(struct instance *in, void *row, const struct process_context *c)
{
	struct process_row *r = row;

	r->ts = clock_boot_to_real(c->boot_ns);
	r->pid = c->pid;
	r->tid = c->tid;
	r->ppid = c->ppid;
	r->uid = c->uid;
	r->gid = c->gid;
	r->loginuid = c->loginuid;
	r->session_id = c->session_id;
	r->mntns_id = c->mntns_id;
	r->pidns_id = c->pidns_id;
	r->sample_rate = c->sample_rate;
	r->cgroup_id = c->cgroup_id;
	/* The kernel doesn't clear what a longer name left behind. */
	memcpy(r->comm, c->comm, strnlen(c->comm, sizeof(c->comm) - 1));
	return process_container(in, c);
}

void process_fill(struct instance *in, unsigned int table, void *row,
		  const struct process_context *c)
{
	const char *container = process_columns(in, row, c);
	struct process_row *r = row;

	r->container_id = instance_str(in, table, container, strlen(container));
	instance_sampled(in, c->cgroup_id, c->sample_rate);
}

static const struct filter_list {
	const char *key;
	enum process_filter_kind kind;
	enum process_filter_verdict verdict;
} lists[] = {
	{"pids", PROCESS_FILTER_PID, PROCESS_FILTER_INCLUDE},
	{"exclude_pids", PROCESS_FILTER_PID, PROCESS_FILTER_EXCLUDE},
	{"comms", PROCESS_FILTER_COMM, PROCESS_FILTER_INCLUDE},
	{"exclude_comms", PROCESS_FILTER_COMM, PROCESS_FILTER_EXCLUDE},
	{"uids", PROCESS_FILTER_UID, PROCESS_FILTER_INCLUDE},
	{"exclude_uids", PROCESS_FILTER_UID, PROCESS_FILTER_EXCLUDE},
	{"cgroups", PROCESS_FILTER_CGROUP, PROCESS_FILTER_INCLUDE},
	{"exclude_cgroups", PROCESS_FILTER_CGROUP, PROCESS_FILTER_EXCLUDE},
	{"containers", PROCESS_FILTER_CONTAINER, PROCESS_FILTER_INCLUDE},
	{"exclude_containers", PROCESS_FILTER_CONTAINER, PROCESS_FILTER_EXCLUDE},
};

bool process_filter_has(const char *key)
{
	for (size_t i = 0; i < ARRAY_SIZE(lists); i++)
		if (strcmp(lists[i].key, key) == 0)
			return true;
	return false;
}

static int parse_number(const struct filter_list *l, const char *text, uint64_t max, uint64_t *ret,
			struct err *err)
{
	unsigned long long v;
	char *end;

	errno = 0;
	v = strtoull(text, &end, 10);
	if (!isdigit((unsigned char)*text) || *end || errno || v > max)
		return err_set(err, -EINVAL, "option %s: '%.64s' isn't a number up to %llu", l->key,
			       text, (unsigned long long)max);
	*ret = v;
	return 0;
}

/* The id of a cgroup is the number of its directory's node. */
static int cgroup_id(const struct filter_list *l, const char *path, uint64_t *ret, struct err *err)
{
	_cleanup_close_ int root = -1, fd = -1;
	struct stat st;
	char why[200];

	if (*path != '/')
		return parse_number(l, path, UINT64_MAX, ret, err);
	root = cgroup2_open_root(why, sizeof(why));
	if (root < 0)
		return err_set(err, root, "option %s: %s", l->key, why);
	while (*path == '/')
		path++;
	fd = openat(root, *path ? path : ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_set(err, -errno, "option %s: no cgroup '/%.128s': %s", l->key, path,
			       strerror(errno));
	*ret = st.st_ino;
	return 0;
}

static int make_key(const struct filter_list *l, const char *text, struct process_filter_key *key,
		    struct err *err)
{
	uint64_t number = 0;
	int r = 0;

	if (l->kind == PROCESS_FILTER_COMM) {
		if (!*text)
			return err_set(err, -EINVAL, "option %s: a name is empty", l->key);
		memcpy(key->comm, text, strnlen(text, sizeof(key->comm) - 1));
		return 0;
	}
	if (l->kind == PROCESS_FILTER_CGROUP)
		r = cgroup_id(l, text, &number, err);
	else
		r = parse_number(l, text,
				 l->kind == PROCESS_FILTER_PID ? INT_MAX : UINT32_MAX, &number,
				 err);
	key->number = number;
	return r;
}

/* Takes away the entries of that generation, or with but of all others. */
static void forget(int map, uint32_t generation, bool but)
{
	struct process_filter_key key, next;
	bool more = !bpf_map_get_next_key(map, NULL, &next);

	while (more) {
		key = next;
		more = !bpf_map_get_next_key(map, &key, &next);
		if ((key.generation == generation) != but)
			bpf_map_delete_elem(map, &key);
	}
}

/* One that is in both lists of a kind is left out by the programs. */
static int add_item(int map, const struct filter_list *l, const struct process_filter_key *key,
		    struct err *err)
{
	uint8_t verdict = 0;

	(void)bpf_map_lookup_elem(map, key, &verdict); /* not there: 0 */
	verdict |= l->verdict;
	if (bpf_map_update_elem(map, key, &verdict, BPF_ANY) < 0)
		return err_set(err, -errno, "option %s: the kernel didn't take it: %s", l->key,
			       strerror(errno));
	return 0;
}

static int add_list(struct instance *in, int map, const struct filter_list *l,
		    struct process_filter_config *config, unsigned int *n, struct err *err)
{
	const char *text;
	int r;

	for (size_t i = 0; (text = opt_item(in->opts, l->key, i)); i++) {
		struct process_filter_key key;

		if (l->verdict == PROCESS_FILTER_INCLUDE)
			config->include |= 1u << l->kind;
		else
			config->exclude |= 1u << l->kind;
		if (l->kind == PROCESS_FILTER_CONTAINER)
			continue; /* their cgroups are: add_containers() */
		memset(&key, 0, sizeof(key));
		key.kind = l->kind;
		key.generation = config->generation;
		r = make_key(l, text, &key, err);
		if (r < 0)
			return r;
		if (++*n > PROCESS_FILTER_ITEMS)
			return err_set(err, -E2BIG, "the filters have more than %d items in all",
				       PROCESS_FILTER_ITEMS);
		r = add_item(map, l, &key, err);
		if (r < 0)
			return r;
	}
	return 0;
}

/* What lists of containers need while the plugin runs. */
struct process_containers {
	struct instance *in;
	struct containers *view;
	int map;
	uint32_t generation;
};

static void container_key(const struct process_containers *pc, const struct container *c,
			  struct process_filter_key *key)
{
	memset(key, 0, sizeof(*key));
	key->kind = PROCESS_FILTER_CONTAINER;
	key->generation = pc->generation;
	key->number = c->cgroup_id;
	key->controller = c->controller;
}

static void container_added(void *arg, const struct container *c)
{
	struct process_containers *pc = arg;
	struct process_filter_key key;
	struct err err = {};
	const char *text;

	container_key(pc, c, &key);
	for (size_t k = 0; k < ARRAY_SIZE(lists); k++) {
		if (lists[k].kind != PROCESS_FILTER_CONTAINER)
			continue;
		for (size_t i = 0; (text = opt_item(pc->in->opts, lists[k].key, i)); i++)
			if (container_is(c, text) && add_item(pc->map, &lists[k], &key, &err) < 0)
				snprintf(pc->in->degraded, sizeof(pc->in->degraded),
					 "a container is missing in a filter: %.160s", err.msg);
	}
}

static void container_removed(void *arg, const struct container *c)
{
	struct process_containers *pc = arg;
	struct process_filter_key key;

	container_key(pc, c, &key);
	(void)bpf_map_delete_elem(pc->map, &key); /* mostly of no interest, so not there */
}

static const struct containers_ops container_ops = {container_added, container_removed};

static int containers_ready(struct instance *in)
{
	return containers_read(in->containers->view);
}

/* Once: the view stays for as long as the plugin runs. */
static int watch_containers(struct instance *in, int map, struct err *err)
{
	struct process_containers *pc = calloc(1, sizeof(*pc));
	int r;

	if (!pc)
		return err_set(err, -ENOMEM, "no memory to filter by container");
	pc->in = in;
	pc->map = map;
	r = containers_new(&pc->view, &container_ops, pc, err);
	if (r == 0 && in->watch_fd) {
		r = in->watch_fd(in, containers_fd(pc->view), containers_ready);
		if (r < 0)
			err_set(err, r, "cannot watch cgroups: %s", strerror(-r));
	}
	if (r < 0) {
		containers_free(pc->view);
		free(pc);
		return r;
	}
	if (containers_missed(pc->view))
		snprintf(in->degraded, sizeof(in->degraded),
			 "%llu cgroups aren't known to the filter by container: there are too many",
			 (unsigned long long)containers_missed(pc->view));
	in->containers = pc;
	return 0;
}

/* The cgroups of containers that the lists mean and that are there now; others come live. */
static int add_containers(struct instance *in, int map, const struct process_filter_config *config,
			  struct err *err)
{
	int r = 0;

	if (!((config->include | config->exclude) & 1 << PROCESS_FILTER_CONTAINER))
		return 0;
	if (!in->containers)
		r = watch_containers(in, map, err);
	if (r < 0)
		return r;
	in->containers->generation = config->generation;
	containers_each(in->containers->view, container_added, in->containers);
	return 0;
}

void process_filter_free(struct instance *in)
{
	if (in->containers)
		containers_free(in->containers->view);
	free(in->containers);
	in->containers = NULL;
}

int process_filter_apply(struct instance *in, struct err *err)
{
	int map = bpf_object__find_map_fd_by_name(in->obj, "process_filter");
	int config_map = bpf_object__find_map_fd_by_name(in->obj, "filter_config");
	struct process_filter_config config;
	unsigned int n = 0;
	uint32_t zero = 0;
	int r;

	if (map < 0 || config_map < 0)
		return err_set(err, -EINVAL, "its BPF object has no filters");
	if (bpf_map_lookup_elem(config_map, &zero, &config) < 0)
		return err_set(err, -errno, "cannot read its filters: %s", strerror(errno));
	config = (struct process_filter_config){.generation = config.generation + 1};
	for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
		r = add_list(in, map, &lists[i], &config, &n, err);
		if (r < 0) {
			forget(map, config.generation, false);
			return r;
		}
	}
	r = add_containers(in, map, &config, err);
	if (r < 0) {
		forget(map, config.generation, false);
		return r;
	}
	if (bpf_map_update_elem(config_map, &zero, &config, BPF_ANY) < 0) {
		r = -errno;
		if (in->containers)
			in->containers->generation = config.generation - 1;
		forget(map, config.generation, false);
		return err_set(err, r, "cannot change its filters: %s", strerror(-r));
	}
	forget(map, config.generation, true);
	return 0;
}

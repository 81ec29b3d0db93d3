// SPDX-License-Identifier: Apache-2.0
/* The file of a snapshot: made beside its name, checked against what the daemon says, renamed at
 * the end. */
#include "clients/ringside/snapfile.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/macro.h"
#include "clients/ringside/rows.h"
#include "store/snapshot.h"

/* More columns than that are no table of ours. */
#define MAX_COLUMNS 256

struct snapfile {
	char *path, *temp; /* temp: NULL once it is renamed */
	bool force, started, in_table, ended;
	struct snapshot_writer *out;
	struct table table;
	struct field *fields;
	struct value *values; /* one row */
	uint64_t table_rows;
	struct snapfile_totals totals;
};

static int taken(const char *path, struct err *err)
{
	return err_set(err, -EEXIST, "'%s' is there already; --force replaces it", path);
}

int snapfile_new(struct snapfile **ret, const char *path, bool force, struct err *err)
{
	struct snapfile *f = calloc(1, sizeof(*f));
	struct stat st;
	int fd, r;

	if (!f || !(f->path = strdup(path)) || asprintf(&f->temp, "%s.XXXXXX", path) < 0) {
		if (f)
			f->temp = NULL;
		snapfile_free(f);
		return err_set(err, -ENOMEM, "out of memory");
	}
	f->force = force;
	if (lstat(path, &st) == 0 && (!force || !S_ISREG(st.st_mode))) {
		r = S_ISREG(st.st_mode)
			    ? taken(path, err)
			    : err_set(err, -EEXIST, "'%s' is there and not a file", path);
		free(TAKE_PTR(f->temp));
		snapfile_free(f);
		return r;
	}
	/* 0600: what people typed is in it. */
	fd = mkstemp(f->temp);
	if (fd < 0) {
		r = err_set(err, -errno, "cannot make a file beside '%s': %s", path,
			    strerror(errno));
		free(TAKE_PTR(f->temp));
		snapfile_free(f);
		return r;
	}
	close(fd);
	r = snapshot_create(&f->out, f->temp, err);
	if (r < 0) {
		snapfile_free(f);
		return r;
	}
	*ret = f;
	return 0;
}

void snapfile_free(struct snapfile *f)
{
	if (!f)
		return;
	snapshot_free(f->out);
	if (f->temp)
		unlink(f->temp);
	free(f->temp);
	free(f->path);
	free(f->fields);
	free(f->values);
	free(f);
}

static int confused(struct err *err)
{
	return err_set(err, -EPROTO, "the daemon's answer isn't a snapshot");
}

int snapfile_start(struct snapfile *f, const Ringside__V1__SnapshotStart *m, struct err *err)
{
	int r = f->started ? confused(err) : 0;

	f->started = true;
	f->totals.since = m->since > 0 ? (uint64_t)m->since : 0;
	f->totals.until = m->until > 0 ? (uint64_t)m->until : 0;
	if (r == 0)
		r = snapshot_info_text(f->out, "host", m->host, err);
	if (r == 0)
		r = snapshot_info_text(f->out, "version", m->version, err);
	if (r == 0)
		r = snapshot_info_text(f->out, "kernel", m->kernel, err);
	if (r == 0)
		r = snapshot_info_int(f->out, "since", m->since, err);
	if (r == 0)
		r = snapshot_info_int(f->out, "until", m->until, err);
	if (r == 0)
		r = snapshot_info_int(f->out, "taken_at", m->taken_at, err);
	return r;
}

int snapfile_table(struct snapfile *f, const Ringside__V1__Table *m, struct err *err)
{
	size_t n = m->n_columns;

	if (!f->started || f->in_table || f->ended || !n || n > MAX_COLUMNS)
		return confused(err);
	free(f->fields);
	free(f->values);
	f->fields = calloc(n, sizeof(*f->fields));
	f->values = calloc(n, sizeof(*f->values));
	if (!f->fields || !f->values)
		return err_set(err, -ENOMEM, "out of memory");
	/* Texts are the message's: the writer keeps none of them. */
	for (size_t i = 0; i < n; i++) {
		const Ringside__V1__Column *c = m->columns[i];

		f->fields[i] =
			(struct field){.name = c->name,
				       .type = (enum column_type)c->type,
				       .unit = c->unit,
				       .kind = (enum column_kind)c->kind,
				       .sensitivity = (enum column_sensitivity)c->sensitivity,
				       .help = c->help};
	}
	f->table = (struct table){.name = m->name,
				  .summary = m->summary,
				  .class = (enum table_class)m->class_,
				  .nfields = (uint32_t)n,
				  .fields = f->fields};
	f->in_table = true;
	f->table_rows = 0;
	f->totals.tables++;
	return snapshot_table(f->out, &f->table, err);
}

int snapfile_rows(struct snapfile *f, const Ringside__V1__RowBatch *m, struct err *err)
{
	size_t n = f->table.nfields;

	if (!f->in_table || m->n_values != (size_t)m->row_count * n)
		return confused(err);
	for (size_t row = 0; row < m->row_count; row++) {
		int r;

		for (size_t col = 0; col < n; col++)
			f->values[col] = value_of_message(m->values[row * n + col]);
		r = snapshot_row(f->out, f->values, n, err);
		if (r < 0)
			return r;
	}
	f->table_rows += m->row_count;
	f->totals.rows += m->row_count;
	return 0;
}

int snapfile_table_end(struct snapfile *f, const Ringside__V1__SnapshotTableEnd *m, struct err *err)
{
	const Ringside__V1__Completeness *c = m->completeness;
	struct snapshot_table_end end = {.since = c ? f->totals.since : 0, .missing = m->missing};

	if (!f->in_table || m->rows != f->table_rows)
		return confused(err);
	f->in_table = false;
	if (c && c->since > 0) {
		end.ring_since = (uint64_t)c->since;
		if (!f->totals.ring_since || end.ring_since < f->totals.ring_since)
			f->totals.ring_since = end.ring_since;
	}
	end.ring_rows_lost = c ? c->rows_lost : 0;
	return snapshot_table_end(f->out, &end, err);
}

int snapfile_end(struct snapfile *f, const Ringside__V1__SnapshotEnd *m, struct err *err)
{
	if (!f->started || f->in_table || f->ended || m->rows != f->totals.rows ||
	    m->tables != f->totals.tables)
		return confused(err);
	f->ended = true;
	return snapshot_info_int(f->out, "rows", (int64_t)m->rows, err);
}

const struct snapfile_totals *snapfile_totals(const struct snapfile *f)
{
	return &f->totals;
}

/* So that the name is there after a crash as well; a file system that can't is none to wait for. */
static void sync_directory(const char *path)
{
	_cleanup_free_ char *copy = strdup(path);
	_cleanup_close_ int fd =
		copy ? open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

	if (fd >= 0 && fsync(fd) < 0)
		errno = 0;
}

/* Never over a file that came meanwhile; by a second name where the kernel or file system knows no
 * such rename. */
static int give_name(const struct snapfile *f)
{
	if (f->force)
		return rename(f->temp, f->path) < 0 ? -errno : 0;
	if (renameat2(AT_FDCWD, f->temp, AT_FDCWD, f->path, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno != EINVAL && errno != ENOSYS)
		return -errno;
	if (link(f->temp, f->path) < 0)
		return -errno;
	unlink(f->temp);
	return 0;
}

int snapfile_commit(struct snapfile *f, struct err *err)
{
	int r;

	if (!f->ended)
		return err_set(err, -EPROTO, "the daemon's answer ends in the middle");
	r = snapshot_finish(f->out, &f->totals.lost, err);
	if (r < 0)
		return r;
	r = give_name(f);
	if (r == -EEXIST)
		return taken(f->path, err);
	if (r < 0)
		return err_set(err, r, "cannot name the file '%s': %s", f->path, strerror(-r));
	free(TAKE_PTR(f->temp));
	sync_directory(f->path);
	return 0;
}

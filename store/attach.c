// SPDX-License-Identifier: Apache-2.0
/* attach.sql: the whole ring in a stock shell, "sqlite3 -init <dir>/attach.sql :memory:". */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "store/ring.h"

/* Another reader that opens or closes a file in WAL at the same moment. */
#define BUSY_TIMEOUT_MS 1000

struct attached {
	struct segment_file files[SCHEMA_MAX_SEGMENTS];
	unsigned int n;
	sqlite3 *db;
};

/* 'text' with its quotes doubled. */
static void put_quoted(struct buf *b, const char *s)
{
	buf_putc(b, '\'');
	for (; *s; s++) {
		if (*s == '\'')
			buf_putc(b, '\'');
		buf_putc(b, *s);
	}
	buf_putc(b, '\'');
}

static void put_attach(struct buf *sql, const struct segment_file *f)
{
	_cleanup_buf_ struct buf uri = {};

	schema_uri(&uri, f->path);
	if (buf_status(&uri) < 0) {
		sql->failed = true;
		return;
	}
	buf_puts(sql, "ATTACH ");
	put_quoted(sql, uri.data);
	buf_printf(sql, " AS \"%s\";\n", f->schema);
}

/* The view of one table over the sealed segments, or over all. */
static int put_view(struct buf *sql, const struct attached *a, const struct table *t, bool live,
		    struct err *err)
{
	struct schema_arm arms[SCHEMA_MAX_SEGMENTS];
	size_t n = 0;

	for (unsigned int i = 0; i < a->n; i++) {
		struct segment_table info;
		int r;

		if ((!a->files[i].sealed && !live) || a->files[i].ring != schema_ring(t))
			continue;
		r = schema_read_table(a->db, a->files[i].schema, t, &info, err);
		if (r < 0)
			return r;
		arms[n++] =
			(struct schema_arm){.schema = a->files[i].schema, .columns = info.columns};
	}
	schema_view_sql(sql, t, arms, n, NULL);
	buf_puts(sql, ";\n");
	return 0;
}

/* By a file of its own and rename: a shell that starts now sees the old or the new one. */
static int replace_file(const char *dir, const char *name, const struct buf *text, mode_t mode,
			gid_t gid, struct err *err)
{
	_cleanup_close_ int fd = -1;
	char path[256], tmp[264];
	size_t done = 0;
	int r;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	snprintf(tmp, sizeof(tmp), "%s.new", path);
	unlink(tmp);
	fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return err_set(err, -errno, "cannot create '%s': %m", tmp);
	while (done < text->len) {
		ssize_t n = write(fd, text->data + done, text->len - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			r = err_set(err, n < 0 ? -errno : -EIO, "cannot write '%s': %m", tmp);
			unlink(tmp);
			return r;
		}
		done += (size_t)n;
	}
	if ((fchown(fd, (uid_t)-1, gid) < 0 && errno != EPERM) || fchmod(fd, mode) < 0 ||
	    rename(tmp, path) < 0) {
		r = err_set(err, -errno, "cannot put '%s' in place: %m", path);
		unlink(tmp);
		return r;
	}
	return 0;
}

static void attach_all(struct attached *a)
{
	unsigned int kept = 0;

	for (unsigned int i = 0; i < a->n; i++) {
		/* Evicted a moment ago, or of a newer version: the others are worth reading all the
		 * same. */
		if (schema_attach(a->db, &a->files[i], NULL) < 0)
			continue;
		a->files[kept++] = a->files[i];
	}
	a->n = kept;
}

static int write_both(const struct attached *a, const char *dir, gid_t gid,
		      const struct table *const *tables, unsigned int ntables, struct err *err)
{
	_cleanup_buf_ struct buf sealed = {}, live = {};
	int r;

	buf_printf(&sealed,
		   "-- Made by ringsided at each change of the ring; for: sqlite3 -init "
		   "'%s/attach.sql' :memory:\n",
		   dir);
	buf_puts(&live, "-- The segment that is being written: root only. Read by attach.sql.\n");
	for (unsigned int i = 0; i < a->n; i++)
		put_attach(a->files[i].sealed ? &sealed : &live, &a->files[i]);
	for (unsigned int i = 0; i < ntables; i++) {
		r = put_view(&sealed, a, tables[i], false, err);
		if (r < 0)
			return r;
		buf_printf(&live, "DROP VIEW temp.\"%s\";\n", tables[i]->name);
		r = put_view(&live, a, tables[i], true, err);
		if (r < 0)
			return r;
	}
	buf_puts(&sealed, "-- Not readable for you: then the views end with the newest sealed "
			  "segment.\n.read ");
	put_quoted(&sealed, dir);
	sealed.len--; /* the quote that closes comes behind the name */
	buf_puts(&sealed, "/attach-live.sql'\n");
	if (buf_status(&sealed) < 0 || buf_status(&live) < 0)
		return err_set(err, -ENOMEM, "out of memory for attach.sql");
	r = replace_file(dir, "attach-live.sql", &live, 0600, gid, err);
	return r < 0 ? r : replace_file(dir, "attach.sql", &sealed, 0440, gid, err);
}

int attach_write(const char *dir, gid_t gid, const struct table *const *tables,
		 unsigned int ntables, struct err *err)
{
	struct attached a = {};
	int r = schema_list(dir, a.files, SCHEMA_MAX_SEGMENTS, err);

	if (r < 0)
		return r;
	a.n = (unsigned int)r;
	if (sqlite3_open_v2(":memory:", &a.db,
			    SQLITE_OPEN_READWRITE | SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX |
				    SQLITE_OPEN_MEMORY,
			    NULL) != SQLITE_OK) {
		sqlite3_close(a.db);
		return err_set(err, -ENOMEM, "cannot open SQLite in memory for attach.sql");
	}
	sqlite3_busy_timeout(a.db, BUSY_TIMEOUT_MS);
	attach_all(&a);
	r = write_both(&a, dir, gid, tables, ntables, err);
	sqlite3_close(a.db);
	return r;
}

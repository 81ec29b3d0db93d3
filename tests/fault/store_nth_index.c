// SPDX-License-Identifier: Apache-2.0
/* A segment is given its indexes and sealed while something fails: sound afterwards, and the next
 * attempt makes what is missing. */
#include "fault/store_nth.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/macro.h"
#include "lib/flow_rows.h"
#include "store/schema.h"
#include "store/segment.h"

/* The segment that is sealed: as the store left it, and the copy that is worked on. */

static struct store_table index_table = {.table = &flow_rows_table};
static struct store_table *const index_list[] = {&index_table};
static const struct segment_tables index_tables = {index_list, 1};
static char index_from[160], index_path[160];
static int index_rc, seal_rc;

static void copy_file(const char *from, const char *to)
{
	char data[65536];
	FILE *in = fopen(from, "re"), *out = fopen(to, "we");
	size_t n;

	while (in && out && (n = fread(data, 1, sizeof(data), in)))
		fwrite(data, 1, n, out);
	if (!in || !out || ferror(in) || fclose(out))
		nth_die("cannot copy", from);
	fclose(in);
}

void nth_index_begin(const char *ring)
{
	snprintf(index_from, sizeof(index_from), "%s/%s-%08u.db", ring, ring_name(RING_FLOW), 1u);
	snprintf(index_path, sizeof(index_path), "%s/segment.db", ring);
}

void nth_index_restore(void)
{
	segment_unlink(index_path);
	copy_file(index_from, index_path);
}

static int index_and_seal(char *why, size_t cap)
{
	static const atomic_bool never;
	sqlite3 *db = NULL;
	bool made;

	index_rc = segment_index(&db, index_path, &index_tables, &never, &made, why, cap);
	return seal_rc = segment_seal(db, index_path, getegid(), why, cap);
}

void nth_index_seal(void)
{
	char why[200] = "";

	if (index_and_seal(why, sizeof(why)) != SQLITE_OK && !why[0])
		nth_die("sealing", "no reason was given");
}

static void check_segment(int64_t least, int64_t most)
{
	sqlite3 *db = NULL;
	int64_t n;

	if (sqlite3_open_v2(index_path, &db, SQLITE_OPEN_READWRITE, NULL) != SQLITE_OK)
		nth_die(index_path, "cannot open it");
	if (nth_ask(db, "SELECT integrity_check = 'ok' FROM pragma_integrity_check") != 1)
		nth_die(index_path, "is damaged");
	if (nth_ask(db, "SELECT count(*) FROM netflow_data NOT INDEXED") != NTH_INDEX_ROWS)
		nth_die(index_path, "lacks rows");
	n = nth_ask(db,
		    "SELECT count(*) FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL");
	if (n < least || n > most)
		nth_die(index_path, "has other indexes than it was said");
	sqlite3_close(db);
}

/* Sound, whatever failed; and the next attempt makes what is missing. */
void nth_index_check(void)
{
	char why[200];

	check_segment(index_rc == SQLITE_OK ? 3 : 0, 3);
	if (seal_rc == SQLITE_OK && index_rc == SQLITE_OK)
		return;
	chmod(index_path, 0600);
	if (index_and_seal(why, sizeof(why)) != SQLITE_OK || index_rc != SQLITE_OK)
		nth_die("cannot seal after the fault is over", why);
	check_segment(3, 3);
}

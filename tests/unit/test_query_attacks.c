// SPDX-License-Identifier: Apache-2.0
/* Hostile SQL, hostile workers, and the walls of the sandbox between them and the daemon. */
#include "query_fixture.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/macro.h"
#include "store/query_sandbox.h"
#include "store/query_wire.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

#define DEADLINE_MS 800
/* How long after its deadline a query may take to be dead, on a busy machine with sanitizers. */
#define SLACK_MS 3000
/* Freed memory waits in the address sanitizer's quarantine. */
#define RSS_GROWTH (SANITIZED ? 96 << 20 : 6 << 20)

static struct result res;

/* A text of n copies. */
static char *repeat(const char *before, const char *open, unsigned int n, const char *mid, const char *close,
		    const char *after)
{
	struct buf b = {};

	buf_puts(&b, before);
	for (unsigned int i = 0; i < n; i++)
		buf_puts(&b, open);
	buf_puts(&b, mid);
	for (unsigned int i = 0; i < n; i++)
		buf_puts(&b, close);
	buf_puts(&b, after);
	return b.data;
}

/* x0 is one row, x(i) is x(i-1) cross itself: 2^n tables after expansion. */
static char *exponential_cte(unsigned int n)
{
	struct buf b = {};

	buf_puts(&b, "WITH x0 AS (SELECT 1 AS a)");
	for (unsigned int i = 1; i <= n; i++)
		buf_printf(&b, ", x%u AS (SELECT l.a FROM x%u l, x%u r)", i, i - 1, i - 1);
	buf_printf(&b, " SELECT count(*) FROM x%u", n);
	return b.data;
}

static char *wide_join(unsigned int n)
{
	struct buf b = {};

	buf_puts(&b, "SELECT count(*) FROM netflow t0");
	for (unsigned int i = 1; i < n; i++)
		buf_printf(&b, ", netflow t%u", i);
	return b.data;
}

static long rss_bytes(void)
{
	long size, resident = 0;
	FILE *f = fopen("/proc/self/statm", "re");

	assert_int_equal(fscanf(f, "%ld %ld", &size, &resident), 2);
	fclose(f);
	return resident * sysconf(_SC_PAGESIZE);
}

#define OK 1

struct attack {
	const char *sql;
	int codes[4]; /* any of them; OK: success */
};

#define ENDLESS "WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r) "
/* A text of 2^n letters made without a function that is refused. */
#define BIG(n, letter) \
	"(WITH RECURSIVE g(s, k) AS (SELECT '" letter "', 0 UNION ALL SELECT s || s, k + 1 FROM g WHERE k < " #n ")" \
	" SELECT s FROM g ORDER BY k DESC LIMIT 1)"

static const struct attack attacks[] = {
	/* Big values out of nothing. */
	{"SELECT length(printf('%.*c', 900000000, 'x'))", {-EPERM}},
	{"SELECT length(format('%.*c', 900000000, 'x'))", {-EPERM}},
	{"SELECT length(PrintF('%900000000d', 1))", {-EPERM}},
	{"SELECT \"printf\"('%d', 1)", {-EPERM}},
	{"SELECT hex(zeroblob(400000000))", {-EPERM}},
	{"SELECT length(randomblob(1000000000))", {-EPERM}},
	{"SELECT length(group_concat(cmd, " BIG(19, "x") ")) FROM bash, netflow", {-E2BIG}},
	{"SELECT length(replace(" BIG(18, "a") ", 'a', " BIG(18, "b") "))", {-E2BIG}},
	{"SELECT length(s || s || s) FROM (SELECT " BIG(19, "x") " AS s)", {-E2BIG}},
	{ENDLESS "SELECT length(json_group_array(i)) FROM r", {-E2BIG, -ETIMEDOUT}},
	{"WITH RECURSIVE g(s) AS (SELECT 'x' UNION ALL SELECT s || s FROM g) SELECT length(s) FROM g", {-E2BIG}},
	{"SELECT quote(" BIG(19, "''") ")", {-E2BIG}},
	/* Time. */
	{ENDLESS "SELECT count(*) FROM r", {-ETIMEDOUT}},
	{ENDLESS "SELECT i FROM r ORDER BY i DESC", {-ETIMEDOUT, -E2BIG}},
	{ENDLESS "SELECT DISTINCT i * 7 FROM r", {-ETIMEDOUT, -E2BIG, OK}},
	{ENDLESS "SELECT median(i) FROM r", {-ETIMEDOUT, -E2BIG}},
	{"SELECT count(*) FROM netflow a, netflow b, netflow c, netflow d", {-ETIMEDOUT}},
	{"SELECT count(*) FROM connections a, connections b, connections c, connections d, connections e, connections f,"
	 " connections g, connections h, connections i, connections j, connections k, connections l", {-ETIMEDOUT}},
	{"SELECT sum(instr(x, y)) FROM (SELECT " BIG(19, "a") " AS x, " BIG(18, "a") " || 'b' AS y), netflow", {-ETIMEDOUT}},
	{"SELECT count(*) FROM netflow, (SELECT " BIG(19, "ab") " AS x) WHERE x LIKE"
	 " '%a%b%a%b%a%b%a%b%a%b%a%b%a%b%a%b%a%b%a%b%a%b%a%b%a%b%a%b%a%b%c%a%b%d%e'", {-ETIMEDOUT, -E2BIG}},
	{"SELECT count(*) FROM netflow, (SELECT " BIG(18, "a") " AS x) WHERE x GLOB '*a*a*a*a*a*a*a*a*a*b'",
	 {-ETIMEDOUT, OK}},
	{"SELECT sum(bytes_read) OVER (ORDER BY a.ts ROWS BETWEEN UNBOUNDED PRECEDING AND 1 FOLLOWING EXCLUDE TIES),"
	 " percentile(a.bytes_read, 50) OVER (ORDER BY b.ts) FROM netflow a, netflow b", {-EINVAL}},
	{"SELECT max(x) FROM (SELECT total(a.bytes_read) OVER (PARTITION BY b.pid ORDER BY a.ts ROWS BETWEEN UNBOUNDED"
	 " PRECEDING AND CURRENT ROW EXCLUDE TIES) AS x FROM netflow a, netflow b)", {-ETIMEDOUT, -E2BIG}},
	{"SELECT a.process_name || b.process_name || random() AS k FROM netflow a, netflow b, netflow c ORDER BY k",
	 {-ETIMEDOUT, -E2BIG}},
	/* Files and extensions. */
	{"ATTACH '/etc/passwd' AS p", {-EPERM}},
	{"ATTACH ':memory:' AS p", {-EPERM}},
	{"DETACH flow41", {-EPERM}},
	{"VACUUM", {-EPERM}},
	{"VACUUM INTO '/tmp/test-query-evil.db'", {-EPERM}},
	{"VACUUM flow43 INTO '/tmp/test-query-evil.db'", {-EPERM}},
	{"SELECT load_extension('/tmp/x.so')", {-EPERM}},
	{"SELECT readfile('/etc/shadow')", {-EINVAL, -EPERM}},
	{"SELECT writefile('/tmp/test-query-evil', 'x')", {-EINVAL, -EPERM}},
	{"SELECT edit('x', 'vi')", {-EINVAL, -EPERM}},
	{"SELECT * FROM fsdir('/')", {-EINVAL, -EPERM}},
	/* Writes. */
	{"CREATE TABLE t(a)", {-EPERM}},
	{"CREATE TEMP TABLE t AS SELECT * FROM netflow", {-EPERM}},
	{"CREATE TEMP VIEW v AS SELECT 1", {-EPERM}},
	{"CREATE VIRTUAL TABLE t USING fts5(x)", {-EPERM}},
	{"INSERT INTO netflow(ts) VALUES (1)", {-EPERM}},
	{"REPLACE INTO flow43.netflow_data(ts) VALUES (1)", {-EPERM}},
	{"UPDATE netflow SET pid = 1", {-EPERM}},
	{"DELETE FROM flow43.netflow_data", {-EPERM}},
	{"WITH x AS (SELECT 1) DELETE FROM flow43.netflow_data", {-EPERM, -EINVAL}},
	{"WITH x AS (SELECT 1) INSERT INTO connections(pid) SELECT * FROM x", {-EPERM, -EINVAL}},
	{"EXPLAIN DELETE FROM netflow", {-EPERM}},
	{"DROP VIEW netflow", {-EPERM}},
	{"BEGIN IMMEDIATE", {-EPERM}},
	{"COMMIT", {-EPERM}},
	{"SAVEPOINT a", {-EPERM}},
	{"REINDEX", {-EPERM}},
	{"ANALYZE", {-EPERM}},
	{"ALTER TABLE flow43.netflow_data RENAME TO x", {-EPERM}},
	{"PRAGMA writable_schema = 1", {-EPERM}},
	{"PRAGMA flow43.journal_mode = DELETE", {-EPERM}},
	{"PRAGMA hard_heap_limit = 0", {-EPERM}},
	{"SELECT * FROM pragma_database_list", {-EPERM, -EINVAL}},
	{"SELECT count(*) FROM pragma_database_list", {-EPERM, -EINVAL}},
	{"SELECT * FROM pragma_table_info('netflow')", {-EPERM, -EINVAL}},
	{"SELECT * FROM pragma_journal_mode", {-EPERM, -EINVAL}},
	/* What lies below and beside. */
	{"SELECT * FROM sqlite_master", {-EPERM, -EINVAL}},
	{"SELECT count(*) FROM sqlite_schema", {-EPERM, -EINVAL}},
	{"SELECT sql FROM flow43.sqlite_master", {-EPERM, -EINVAL}},
	{"SELECT * FROM sqlite_temp_schema", {-EPERM, -EINVAL}},
	{"SELECT * FROM flow43.netflow_data", {-EPERM, -EINVAL}},
	{"SELECT * FROM strings, netflow", {-EPERM, -EINVAL}},
	{"SELECT count(*) FROM segment_tables, netflow", {-EPERM, -EINVAL}},
	{"SELECT * FROM netflow_data", {-EPERM, -EINVAL}},
	{"SELECT * FROM sqlite_stmt", {-EPERM, -EINVAL}},
	{"SELECT * FROM dbstat", {-EPERM, -EINVAL}},
	{"SELECT count(*) FROM dbstat", {-EPERM, -EINVAL}},
	{"SELECT * FROM bytecode('SELECT 1')", {-EPERM, -EINVAL}},
	{"SELECT fts3_tokenizer('simple')", {-EPERM}},
	{"SELECT fts3_tokenizer('x', x'4141414141414141')", {-EPERM}},
	{"SELECT sqlite_compileoption_get(1)", {-EPERM}},
	/* More than one statement, and things that hide in comments. */
	{"SELECT 1; ATTACH '/etc/passwd' AS p", {-EINVAL}},
	{"SELECT 1; /* */ ; SELECT 2", {-EINVAL}},
	{"/* SELECT */ PRAGMA user_version", {-EPERM}},
	{"-- SELECT\nVACUUM", {-EPERM}},
	{"; ; /**/ DETACH flow41", {-EPERM}},
	{"/* no end SELECT 1", {-EINVAL}},
	{"SELECT 1 /* no end", {OK}},
	{"SELECT/**/1--", {OK}},
	{"EXPLAIN EXPLAIN SELECT 1", {-EPERM, -EINVAL}},
	{"EXPLAIN QUERY PLAN VACUUM", {-EPERM}},
	{"SELECTED", {-EPERM}},
	{"\xef\xbb\xbfSELECT 1", {-EINVAL, OK}},
	/* Numbers at their edges. */
	{"SELECT substr('x', -9223372036854775808, 9223372036854775807)", {OK}},
	{"SELECT round(1e308, 2147483647), abs(-1e309), 1e999, -1e999, 9223372036854775807 + 1", {OK}},
	{"SELECT json_extract('[1]', '$[99999999999999999999]')", {OK, -EINVAL}},
	{"SELECT rfc3339(9223372036854775807)", {OK}},
	{"SELECT ago('9999999999w')", {OK, -EINVAL}},
	{"SELECT char(1114112, 55296, 0, 65534), cast(x'edbfbf' AS text)", {OK}},
};

static bool expected(const int codes[4], int r)
{
	for (int i = 0; i < 4; i++)
		if (codes[i] && codes[i] == (r ? r : OK))
			return true;
		else if (codes[i] == -E2BIG && r == -ETIMEDOUT)
			return true; /* a slow machine gets to the deadline first */
	return false;
}

static void attack(struct fixture *f, const char *sql, const int codes[4])
{
	result_run(f, &res, sql, &(struct how){.timeout_ms = DEADLINE_MS, .max_rows = 1000000});
	if (!expected(codes, res.r))
		fail_msg("%.100s: %d (%s) after %d rows", sql, res.r, res.err.msg, (int)res.nrows);
	if (res.ms > DEADLINE_MS + SLACK_MS)
		fail_msg("%.100s: took %d ms", sql, (int)res.ms);
	result_free(&res);
	assert_no_children();
}

static void test_attacks(void **state)
{
	struct fixture *f = *state;
	long before;

	assert_query(f, "SELECT count(*) FROM netflow", "1211");
	before = rss_bytes();
	for (size_t i = 0; i < ARRAY_SIZE(attacks); i++) {
		attack(f, attacks[i].sql, attacks[i].codes);
		if (i % 8 == 0)
			assert_query(f, "SELECT 1", "1");
	}
	assert_query(f, "SELECT count(*) FROM netflow", "1211");
	assert_in_range(rss_bytes(), 0, before + RSS_GROWTH);
	assert_int_equal(access("/tmp/test-query-evil.db", F_OK), -1);
	assert_int_equal(access("/tmp/test-query-evil", F_OK), -1);
}

static void test_made_attacks(void **state)
{
	struct fixture *f = *state;
	long before = rss_bytes();
	struct {
		char *sql;
		int codes[4];
	} made[] = {
		{repeat("SELECT ", "(", 20000, "1", ")", ""), {-EINVAL, -E2BIG}},
		{repeat("SELECT ", "(SELECT ", 6000, "1", ")", ""), {-EINVAL, -E2BIG}},
		{repeat("SELECT 1", " + 1", 12000, "", "", ""), {-EINVAL}},
		{repeat("SELECT 1", " UNION ALL SELECT 1", 3000, "", "", ""), {-EINVAL}},
		{repeat("SELECT 1", ", 1", 20000, "", "", ""), {-EINVAL}},
		{repeat("SELECT coalesce(1", ", 1", 20000, "", "", ")"), {-EINVAL}},
		{repeat("SELECT 1 WHERE 1 IN (1", ", 2", 20000, "", "", ")"), {OK, -EINVAL}},
		{repeat("SELECT ", "NOT ", 15000, "1", "", ""), {-EINVAL}},
		{repeat("SELECT ", "- ", 30000, "1", "", ""), {-EINVAL}},
		{repeat("SELECT * FROM json_each('", "[", 30000, "", "]", "')"), {OK, -EINVAL}},
		{repeat("SELECT 1 FROM (SELECT 1)", " JOIN (SELECT 1)", 3000, "", "", ""), {-EINVAL}},
		{repeat("SELECT ?", ", ?", 5000, "", "", ""), {-EINVAL}},
		{exponential_cte(21), {-E2BIG, -ETIMEDOUT, -EINVAL}},
		{exponential_cte(40), {-E2BIG, -ETIMEDOUT, -EINVAL}},
		{wide_join(60), {-ETIMEDOUT, -E2BIG, -EINVAL}},
		{wide_join(65), {-EINVAL, -ETIMEDOUT, -E2BIG}},
	};

	for (size_t i = 0; i < ARRAY_SIZE(made); i++) {
		attack(f, made[i].sql, made[i].codes);
		free(made[i].sql);
		assert_query(f, "SELECT 1", "1");
	}
	assert_in_range(rss_bytes(), 0, before + RSS_GROWTH);
}

static void test_texts(void **state)
{
	struct fixture *f = *state;

	assert_refused(f, "SELECT printf('%d', 1)", -EPERM, "function 'printf' is not offered");
	assert_refused(f, "DELETE FROM netflow", -EPERM, "not with DELETE");
	assert_refused(f, "WITH x AS (SELECT 1) DELETE FROM netflow", -EPERM, "DELETE is refused");
	assert_refused(f, "SELECT * FROM sqlite_master", -EPERM, "ringside tables");
	assert_refused(f, "SELECT length(replace(" BIG(18, "a") ", 'a', 'bbbbbbbb'))", -E2BIG, "larger than 1024 KiB");
}

/* Results far larger than the daemon may hold: a client that reads slowly costs it nothing. */
static void test_big_result_flat(void **state)
{
	struct fixture *f = *state;
	long before;

	result_run(f, &res, "SELECT * FROM netflow a, netflow b LIMIT 20000", NULL);
	result_free(&res);
	before = rss_bytes();
	result_run(f, &res, "SELECT a.*, b.* FROM netflow a, netflow b LIMIT 400000", NULL);
	assert_int_equal(res.r, 0);
	assert_int_equal(res.nrows, 400000);
	result_free(&res);
	assert_in_range(rss_bytes(), 0, before + RSS_GROWTH);
}

/* The walls -------------------------------------------------------------------------------------------------- */

/* The first child of any thread of a process; 0: none. */
static pid_t child_of(pid_t parent)
{
	char path[320];
	struct dirent *de;
	int pid = 0;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)parent);
	d = opendir(path);
	while (d && !pid && (de = readdir(d))) {
		FILE *f;

		snprintf(path, sizeof(path), "/proc/%d/task/%s/children", (int)parent, de->d_name);
		f = fopen(path, "re");
		if (!f)
			continue;
		if (fscanf(f, "%d", &pid) != 1)
			pid = 0;
		fclose(f);
	}
	if (d)
		closedir(d);
	return pid;
}

static pid_t wait_child_of(pid_t parent)
{
	for (int i = 0; i < 300; i++) {
		pid_t pid = child_of(parent);

		if (pid)
			return pid;
		usleep(10000);
	}
	fail_msg("no query worker appeared");
	return 0;
}

static char *proc_read(pid_t pid, const char *file, char *dst, size_t cap)
{
	char path[64];
	size_t n;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, file);
	f = fopen(path, "re");
	assert_non_null(f);
	n = fread(dst, 1, cap - 1, f);
	dst[n] = '\0';
	fclose(f);
	return dst;
}

static void assert_line(const char *text, const char *line)
{
	if (!strstr(text, line))
		fail_msg("'%s' is not in:\n%s", line, text);
}

struct background {
	pthread_t thread;
	struct fixture *f;
	struct result res;
	atomic_bool cancelled;
	const char *sql;
};

static void *background_main(void *arg)
{
	struct background *b = arg;

	result_run(b->f, &b->res, b->sql, &(struct how){.cancelled = &b->cancelled});
	return NULL;
}

static struct background *background_start(struct fixture *f, const char *sql, unsigned int sink_sleep_ms)
{
	struct background *b = calloc(1, sizeof(*b));

	b->f = f;
	b->sql = sql;
	b->res.sink_sleep_ms = sink_sleep_ms;
	assert_int_equal(pthread_create(&b->thread, NULL, background_main, b), 0);
	return b;
}

static void background_end(struct background *b)
{
	b->cancelled = true;
	pthread_join(b->thread, NULL);
	assert_int_equal(b->res.r, -ECANCELED);
	result_free(&b->res);
	free(b);
}

/* How many descriptors beyond stdio and the socket; none that leads outside the ring. */
static unsigned int check_fds(const struct fixture *f, pid_t pid)
{
	char path[320], target[256];
	unsigned int n = 0;
	struct dirent *de;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	d = opendir(path);
	assert_non_null(d);
	while ((de = readdir(d))) {
		int fd = atoi(de->d_name);
		ssize_t len;

		if (de->d_name[0] == '.' || (SANITIZED && fd == 2))
			continue;
		snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)pid, fd);
		len = readlink(path, target, sizeof(target) - 1);
		assert_true(len > 0);
		target[len] = '\0';
		if (fd < 3)
			assert_string_equal(target, "/dev/null");
		else if (fd == 3)
			assert_memory_equal(target, "socket:", 7);
		else
			assert_memory_equal(target, f->dir, strlen(f->dir));
		n += fd > 3;
	}
	closedir(d);
	return n;
}

static void test_worker_is_boxed(void **state)
{
	struct fixture *f = *state;
	struct background *b = background_start(f, "SELECT count(*) FROM netflow, netflow, netflow, netflow", 0);
	char text[8192];
	pid_t pid = wait_child_of(getpid());

	usleep(500000);
	proc_read(pid, "status", text, sizeof(text));
	assert_line(text, "Name:\texe\n");
	assert_line(text, "Threads:\t1\n");
	assert_line(text, "CapInh:\t0000000000000000\n");
	assert_line(text, "CapPrm:\t0000000000000000\n");
	assert_line(text, "CapEff:\t0000000000000000\n");
	assert_line(text, "CapAmb:\t0000000000000000\n");
	assert_line(text, "NoNewPrivs:\t1\n");
	assert_line(text, "Seccomp:\t2\n");
	if (geteuid() == 0) {
		assert_line(text, "Uid:\t65534\t65534\t65534\t65534\n");
		assert_line(text, "Gid:\t65534\t65534\t65534\t65534\n");
		assert_line(text, "Groups:\t \n");
		assert_line(text, "CapBnd:\t0000000000000000\n");
		assert_string_equal(proc_read(pid, "oom_score_adj", text, sizeof(text)), "1000\n");
		assert_true(check_fds(f, pid) >= 3);
		proc_read(pid, "limits", text, sizeof(text));
		assert_line(text, "Max file size             0                    0 ");
		assert_line(text, "Max core file size        0                    0 ");
		assert_line(text, "Max processes             0                    0 ");
		assert_line(text, "Max open files            48                   48 ");
		assert_non_null(strstr(text, "Max cpu time"));
		if (!SANITIZED)
			assert_null(strstr(text, "Max address space         unlimited"));
	}
	assert_string_equal(proc_read(pid, "cmdline", text, sizeof(text)), QUERY_WORKER_NAME);
	background_end(b);
}

/* The rows fit in the worker: it lets the segments go while its client is still at the first. */
static void test_slow_client_holds_no_snapshot(void **state)
{
	struct fixture *f = *state;
	struct background *b = background_start(f, "SELECT * FROM netflow a JOIN netflow b ON a.ts = b.ts", 400);
	pid_t pid = wait_child_of(getpid());

	usleep(900000);
	if (geteuid() == 0)
		assert_int_equal(check_fds(f, pid), 0);
	/* The writer may fold its WAL now: nobody looks at an older state. */
	fixture_write(f, 1);
	assert_int_equal(sqlite3_wal_checkpoint_v2(f->live, "main", SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL), SQLITE_OK);
	background_end(b);
}

static void test_worker_killed(void **state)
{
	static const struct {
		int sig, code;
		const char *part;
	} deaths[] = {
		{SIGSYS, -EPERM, "sandbox"},	  {SIGXCPU, -ETIMEDOUT, "deadline"}, {SIGALRM, -ETIMEDOUT, "deadline"},
		{SIGKILL, -E2BIG, "SIGKILL"},	  {SIGABRT, -E2BIG, "SIGABRT"},	     {SIGTERM, -EIO, "signal 15"},
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(deaths); i++) {
		struct background *b = background_start(f, "SELECT count(*) FROM netflow, netflow, netflow, netflow", 0);
		pid_t pid = wait_child_of(getpid());

		usleep(200000);
		assert_int_equal(kill(pid, deaths[i].sig), 0);
		pthread_join(b->thread, NULL);
		if (b->res.r != deaths[i].code || !strstr(b->res.err.msg, deaths[i].part))
			fail_msg("signal %d: %d %s", deaths[i].sig, b->res.r, b->res.err.msg);
		free(b);
		assert_no_children();
	}
	assert_query(f, "SELECT 1", "1");
}

/* kill -9 of the daemon takes the worker along. */
static void test_daemon_killed(void **state)
{
	struct fixture *f = *state;
	pid_t daemon = fork(), worker;
	char path[64];

	if (!daemon) {
		result_run(f, &res, "SELECT count(*) FROM netflow, netflow, netflow, netflow", NULL);
		_exit(0);
	}
	worker = wait_child_of(daemon);
	usleep(300000);
	assert_int_equal(kill(daemon, SIGKILL), 0);
	assert_int_equal(waitpid(daemon, NULL, 0), daemon);
	snprintf(path, sizeof(path), "/proc/%d/exe", (int)worker); /* unreadable once it's dead, reaped or not */
	for (int i = 0; i < 100 && access(path, F_OK) == 0; i++)
		usleep(10000);
	assert_int_equal(access(path, F_OK), -1);
}

enum deed {
	DEED_NOTHING,
	DEED_OPEN,
	DEED_SOCKET,
	DEED_EXEC,
	DEED_FORK,
	DEED_KILL,
	DEED_MMAP_EXEC,
	DEED_MPROTECT_EXEC,
	DEED_UNLINK,
	DEED_NICE,
	DEED_LOCK,
	DEED_MALLOC,
	DEED_SPIN,
	DEED_SLEEP,
};

static int do_deed(enum deed deed)
{
	struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 120, .l_len = 1};
	char *const argv[] = {(char *)"true", NULL};

	switch (deed) {
	case DEED_OPEN:
		return open("/etc/passwd", O_RDONLY);
	case DEED_SOCKET:
		return socket(AF_INET, SOCK_STREAM, 0);
	case DEED_EXEC:
		return execv("/bin/true", argv);
	case DEED_FORK:
		return fork();
	case DEED_KILL:
		return kill(getppid(), 0);
	case DEED_MMAP_EXEC:
		return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED;
	case DEED_MPROTECT_EXEC:
		return mprotect((void *)((uintptr_t)do_deed & ~4095ul), 4096, PROT_READ | PROT_WRITE | PROT_EXEC);
	case DEED_UNLINK:
		return unlink("/tmp/test-query-no-such-file");
	case DEED_NICE:
		return nice(-5);
	case DEED_LOCK:
		return fcntl(3, F_SETLK, &lock) == -1 && errno == EACCES ? 0 : 1;
	case DEED_MALLOC:
		return malloc(100 << 20) ? 1 : 0;
	case DEED_SPIN:
		for (;;)
			__asm__ volatile("");
	case DEED_SLEEP:
		poll(NULL, 0, -1);
		return 1;
	case DEED_NOTHING:
		break;
	}
	return 0;
}

static void test_sandbox(void **state)
{
	static const struct {
		enum deed deed;
		int sig; /* 0: exit 0 */
	} deeds[] = {
		{DEED_NOTHING, 0},	   {DEED_OPEN, SIGSYS},		  {DEED_SOCKET, SIGSYS}, {DEED_EXEC, SIGSYS},
		{DEED_FORK, SIGSYS},	   {DEED_KILL, SIGSYS},		  {DEED_UNLINK, SIGSYS}, {DEED_NICE, SIGSYS},
		{DEED_MMAP_EXEC, SIGSYS},  {DEED_MPROTECT_EXEC, SIGSYS},  {DEED_LOCK, 0},	 {DEED_MALLOC, 0},
		{DEED_SPIN, SIGALRM},	   {DEED_SLEEP, SIGALRM},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(deeds); i++) {
		struct query_sandbox box = {
			.uid = geteuid() == 0 ? 65534 : UINT32_MAX,
			.gid = geteuid() == 0 ? 65534 : UINT32_MAX,
			.memory_bytes = 64 << 20,
			.deadline_ns = clock_mono_ns() + 300 * NSEC_PER_MSEC,
			.max_fds = 16,
		};
		struct err err = {};
		char note[256];
		int status;
		pid_t pid;

		if (SANITIZED && deeds[i].deed == DEED_MALLOC)
			continue;
		pid = fork();
		if (!pid) {
			for (int s = 1; s < 32; s++) /* cmocka's handlers aren't the worker's */
				signal(s, SIG_DFL);
			if (query_sandbox_enter(&box, note, sizeof(note), &err) < 0)
				_exit(99);
			_exit(do_deed(deeds[i].deed));
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		if (deeds[i].sig ? !WIFSIGNALED(status) || WTERMSIG(status) != deeds[i].sig : status != 0)
			fail_msg("deed %d: status %x", deeds[i].deed, (unsigned int)status);
	}
}

/* Workers that have been taken over ------------------------------------------------------------------------- */

enum lie {
	LIE_LENGTH,
	LIE_TYPE,
	LIE_ROWS_FIRST,
	LIE_COLUMNS_TWICE,
	LIE_NO_COLUMNS,
	LIE_COLUMNS_SHORT,
	LIE_COLUMN_ORIGIN,
	LIE_COLUMN_NAME,
	LIE_ROWS_MANY,
	LIE_ROWS_KIND,
	LIE_TEXT_LENGTH,
	LIE_TEXT_UTF8,
	LIE_TEXT_NUL,
	LIE_ROWS_LIMIT,
	LIE_ROWS_TAIL,
	LIE_DONE_COUNT,
	LIE_DONE_LOSS,
	LIE_SNAPSHOT_HISTORY,
	LIE_SNAPSHOT_INDEX,
	LIE_SNAPSHOT_TWICE,
	LIE_NOTE_LATE,
	LIE_NOTES,
	LIE_ERROR_UTF8,
	LIE_ERROR_CODE,
	LIE_HANG_UP,
	LIE_HALF,
	LIE_EXIT,
	LIE_NOMEM,
	LIE_DEAF,
	LIE_X_MAX,
};

static const struct {
	int code;
	const char *part;
} lie_answers[LIE_X_MAX] = {
	[LIE_ERROR_CODE] = {-EIO, "strange"},
	[LIE_HANG_UP] = {-EIO, "hung up"},
	[LIE_HALF] = {-ETIMEDOUT, "deadline"},
	[LIE_EXIT] = {-EIO, "ended early"},
	[LIE_NOMEM] = {-E2BIG, "memory"},
	[LIE_DEAF] = {-ETIMEDOUT, "deadline"},
};

static void put_columns(struct buf *b, uint32_t n, uint32_t written, const char *name, uint32_t table)
{
	size_t at = wire_open(b, QUERY_FRAME_COLUMNS);

	wire_put_u32(b, n);
	for (uint32_t i = 0; i < written; i++) {
		wire_put_str(b, name);
		wire_put_u32(b, table);
		wire_put_u32(b, table == UINT32_MAX ? UINT32_MAX : 0);
	}
	wire_close(b, at);
}

/* n rows of one text column whose length field says len. */
static void put_rows(struct buf *b, uint32_t n, uint8_t kind, uint32_t len, const char *bytes, size_t nbytes)
{
	size_t at = wire_open(b, QUERY_FRAME_ROWS);

	wire_put_u32(b, n);
	for (uint32_t i = 0; i < n; i++) {
		wire_put_u8(b, kind);
		wire_put_u32(b, len);
		buf_add(b, bytes, nbytes);
	}
	wire_close(b, at);
}

static void put_u32_frame(struct buf *b, enum query_frame type, uint32_t v)
{
	size_t at = wire_open(b, type);

	wire_put_u32(b, v);
	wire_close(b, at);
}

static void put_done(struct buf *b, uint64_t rows, uint32_t nloss)
{
	size_t at = wire_open(b, QUERY_FRAME_DONE);

	wire_put_u64(b, rows);
	wire_put_u8(b, 0);
	wire_put_u32(b, nloss);
	wire_close(b, at);
}

static void put_text_frame(struct buf *b, enum query_frame type, int code, const char *text)
{
	size_t at = wire_open(b, type);

	if (type == QUERY_FRAME_ERROR)
		wire_put_u32(b, code);
	wire_put_str(b, text);
	wire_close(b, at);
}

static void lie_before_columns(struct buf *b, enum lie lie)
{
	struct query_frame_header h = {.type = QUERY_FRAME_COLUMNS, .len = UINT32_MAX};

	switch (lie) {
	case LIE_LENGTH:
		buf_add(b, &h, sizeof(h));
		break;
	case LIE_TYPE:
		put_u32_frame(b, (enum query_frame)99, 1);
		break;
	case LIE_ROWS_FIRST:
		put_rows(b, 1, VALUE_TEXT, 1, "x", 2);
		break;
	case LIE_NO_COLUMNS:
		put_columns(b, 0, 0, "", UINT32_MAX);
		break;
	case LIE_COLUMNS_SHORT:
		put_columns(b, 256, 3, "x", UINT32_MAX);
		break;
	case LIE_COLUMN_ORIGIN:
		put_columns(b, 1, 1, "x", 4);
		break;
	case LIE_COLUMN_NAME:
		put_columns(b, 1, 1, "x\xff", UINT32_MAX);
		break;
	case LIE_SNAPSHOT_HISTORY:
		put_u32_frame(b, QUERY_FRAME_SNAPSHOT, 0);
		break;
	case LIE_SNAPSHOT_INDEX:
		put_u32_frame(b, QUERY_FRAME_SNAPSHOT, 1000);
		break;
	case LIE_SNAPSHOT_TWICE:
		put_u32_frame(b, QUERY_FRAME_SNAPSHOT, 3);
		put_u32_frame(b, QUERY_FRAME_SNAPSHOT, 3);
		break;
	case LIE_NOTES:
		for (int i = 0; i < 1000; i++)
			put_text_frame(b, QUERY_FRAME_NOTE, 0, "ignore this line of a test");
		break;
	case LIE_ERROR_UTF8:
		put_text_frame(b, QUERY_FRAME_ERROR, EINVAL, "x\xc3");
		break;
	case LIE_ERROR_CODE:
		put_text_frame(b, QUERY_FRAME_ERROR, 12345678, "strange");
		break;
	case LIE_HALF:
		h.len = 100;
		buf_add(b, &h, sizeof(h));
		buf_add(b, "half", 4);
		break;
	default:
		break;
	}
}

static void lie_after_columns(struct buf *b, enum lie lie)
{
	put_columns(b, 1, 1, "x", UINT32_MAX);
	switch (lie) {
	case LIE_COLUMNS_TWICE:
		put_columns(b, 1, 1, "x", UINT32_MAX);
		break;
	case LIE_ROWS_MANY:
		put_rows(b, 65, VALUE_TEXT, 1, "x", 2);
		break;
	case LIE_ROWS_KIND:
		put_rows(b, 1, 77, 1, "x", 2);
		break;
	case LIE_TEXT_LENGTH:
		put_rows(b, 1, VALUE_TEXT, 3000000, "x", 2);
		break;
	case LIE_TEXT_UTF8:
		put_rows(b, 1, VALUE_TEXT, 2, "\xc0\x80", 3);
		break;
	case LIE_TEXT_NUL:
		put_rows(b, 1, VALUE_TEXT, 3, "a\0b", 4);
		break;
	case LIE_ROWS_LIMIT:
		put_rows(b, 64, VALUE_TEXT, 1, "x", 2);
		break;
	case LIE_ROWS_TAIL:
		put_rows(b, 1, VALUE_TEXT, 1, "x\0tail", 6);
		break;
	case LIE_DONE_COUNT:
		put_done(b, 7, 0);
		break;
	case LIE_DONE_LOSS:
		put_done(b, 0, 1000);
		break;
	case LIE_NOTE_LATE:
		put_text_frame(b, QUERY_FRAME_NOTE, 0, "ignore this line of a test");
		break;
	default:
		break;
	}
}

static _Noreturn void lying_worker(enum lie lie)
{
	struct buf b = {};
	char sink[65536];

	if (lie == LIE_DEAF)
		for (;;)
			pause();
	lie_before_columns(&b, lie);
	if (!b.len)
		lie_after_columns(&b, lie);
	if (lie == LIE_HANG_UP || lie == LIE_EXIT || lie == LIE_NOMEM) {
		close(3);
		if (lie == LIE_HANG_UP)
			for (;;)
				pause();
		_exit(lie == LIE_NOMEM ? ENOMEM : 0);
	}
	if (send(3, b.data, b.len, MSG_NOSIGNAL) < 0)
		_exit(0);
	while (recv(3, sink, sizeof(sink), 0) > 0)
		;
	_exit(0);
}

static void test_lying_workers(void **state)
{
	static char big[900000];
	struct value param = {.kind = VALUE_TEXT, .text = big, .len = sizeof(big) - 1};
	struct fixture *f = *state;
	char *tz = getenv("TZ") ? strdup(getenv("TZ")) : NULL;
	long before = rss_bytes();

	memset(big, 'x', sizeof(big) - 1);
	for (enum lie lie = 0; lie < LIE_X_MAX; lie++) {
		struct how how = {.timeout_ms = DEADLINE_MS, .max_rows = 10};
		int code = lie_answers[lie].code ? lie_answers[lie].code : -EIO;
		const char *part = lie_answers[lie].part ? lie_answers[lie].part : "makes no sense";
		char env[32];

		if (lie == LIE_DEAF) { /* more than a socket holds */
			how.params = &param;
			how.nparams = 1;
		}
		snprintf(env, sizeof(env), "lie:%d", (int)lie);
		setenv("TZ", env, 1);
		result_run(f, &res, "SELECT ?1", &how);
		if (res.r != code || !strstr(res.err.msg, part))
			fail_msg("lie %d: %d %s", (int)lie, res.r, res.err.msg);
		assert_in_range(res.ms, 0, DEADLINE_MS + SLACK_MS);
		result_free(&res);
		assert_no_children();
	}
	if (tz)
		setenv("TZ", tz, 1);
	else
		unsetenv("TZ");
	free(tz);
	assert_query(f, "SELECT 1", "1");
	assert_in_range(rss_bytes(), 0, before + RSS_GROWTH);
}

static void test_no_leaks(void **state)
{
	struct fixture *f = *state;
	unsigned int before = 0, after = 0;
	DIR *d;

	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < 20; i++) {
			assert_query(f, "SELECT count(*) FROM connections", "5");
			assert_refused(f, "SELECT nowhere_there", -EINVAL, "no such column");
		}
		d = opendir("/proc/self/fd");
		after = 0;
		while (readdir(d))
			after++;
		closedir(d);
		if (!round)
			before = after;
	}
	assert_int_equal(before, after);
}

int main(int argc, char **argv)
{
	if (!strcmp(argv[0], QUERY_WORKER_NAME)) {
		const char *tz = getenv("TZ");

		/* The only variable that a worker gets: here it says how to misbehave. */
		if (tz && !strncmp(tz, "lie:", 4))
			lying_worker((enum lie)atoi(tz + 4));
		query_worker_main(argc, argv);
	}

#define T(fn) cmocka_unit_test_setup_teardown(fn, fixture_setup, fixture_teardown)
	const struct CMUnitTest tests[] = {
		T(test_attacks),
		T(test_made_attacks),
		T(test_texts),
		T(test_big_result_flat),
		T(test_worker_is_boxed),
		T(test_slow_client_holds_no_snapshot),
		T(test_worker_killed),
		T(test_daemon_killed),
		cmocka_unit_test(test_sandbox),
		T(test_lying_workers),
		T(test_no_leaks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

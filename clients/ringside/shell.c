// SPDX-License-Identifier: Apache-2.0
/* The SQL shell: libedit, statements over several lines, a few dot commands, completion of names.
 */
#include <errno.h>
#include <fcntl.h>
#include <histedit.h>
#include <locale.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <wchar.h>

#include "base/buf.h"
#include "base/clock.h"
#include "clients/ringside/sql.h"
#include "clients/ringside/sqlfile.h"
#include "clients/ringside/sqltext.h"
#include "ringside/v1/table.pb-c.h"

#define HISTORY_LINES	 1000
#define WORDS_TIMEOUT_NS (2 * NSEC_PER_SEC)

struct shell {
	struct sql_session *session;
	EditLine *el;
	History *history;
	char *history_path; /* NULL: nowhere to keep it */
	struct buf statement;
	char **words; /* names of tables and columns, words of SQL */
	size_t nwords;
	bool more; /* inside a statement */
	bool quit;
};

static const char *const sql_words[] = {
	"SELECT",    "FROM",	    "WHERE",
	"GROUP BY",  "ORDER BY",    "LIMIT",
	"HAVING",    "DISTINCT",    "JOIN",
	"LEFT JOIN", "USING",	    "UNION ALL",
	"BETWEEN",   "LIKE",	    "GLOB",
	"IS NULL",   "IS NOT NULL", "AND",
	"NOT",	     "DESC",	    "CASE",
	"WHEN",	     "THEN",	    "ELSE",
	"END",	     "count(",	    "sum(",
	"avg(",	     "min(",	    "max(",
	"datetime(", "unixepoch(",  "EXPLAIN QUERY PLAN",
	"WITH",
};

static char *prompt(EditLine *el)
{
	struct shell *sh = NULL;

	el_get(el, EL_CLIENTDATA, &sh);
	return sh && sh->more ? (char *)"     ...> " : (char *)"ringside> ";
}

/*
 * libedit's own reader tries again after the first EINTR, so that Ctrl-C would be seen at the next
 * key only. Here the signal is blocked but while we wait: it cannot slip in between the check and
 * the wait.
 */
static int read_char(EditLine *el _unused_, wchar_t *ret)
{
	struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
	mbstate_t state = {0};
	sigset_t interrupts, before;
	int r = 0;

	sigemptyset(&interrupts);
	sigaddset(&interrupts, SIGINT);
	sigaddset(&interrupts, SIGTERM);
	pthread_sigmask(SIG_BLOCK, &interrupts, &before);
	while (r == 0) {
		char byte;

		if (cli_interrupted()) {
			errno = EINTR;
			r = -1;
		} else if (ppoll(&in, 1, NULL, &before) < 0) {
			r = errno == EINTR ? 0 : -1;
		} else if (read(STDIN_FILENO, &byte, 1) != 1) {
			break; /* the end of input */
		} else {
			size_t n = mbrtowc(ret, &byte, 1, &state);

			if (n == (size_t)-1)
				state = (mbstate_t){
					0}; /* broken: dropped, the next byte starts anew */
			else if (n != (size_t)-2)
				r = 1;
		}
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return r;
}

static int add_word(struct shell *sh, const char *word)
{
	char **grown = reallocarray(sh->words, sh->nwords + 1, sizeof(*grown));

	if (!grown)
		return -ENOMEM;
	sh->words = grown;
	sh->words[sh->nwords] = strdup(word);
	return sh->words[sh->nwords] ? (int)++sh->nwords : -ENOMEM;
}

static bool has_word(const struct shell *sh, const char *word)
{
	for (size_t i = 0; i < sh->nwords; i++)
		if (strcmp(sh->words[i], word) == 0)
			return true;
	return false;
}

static void load_file_words(struct shell *sh)
{
	const struct sql_file *f = sh->session->file;
	const char *table, *name;

	for (size_t i = 0; (table = sql_file_name(f, NULL, i)); i++) {
		if (!has_word(sh, table) && add_word(sh, table) < 0)
			return;
		for (size_t c = 0; (name = sql_file_name(f, table, c)); c++)
			if (!has_word(sh, name) && add_word(sh, name) < 0)
				return;
	}
}

/* A shell without names still runs statements: a failure here is worth no word. */
static void load_words(struct shell *sh)
{
	Ringside__V1__ListTablesRequest request = RINGSIDE__V1__LIST_TABLES_REQUEST__INIT;
	_cleanup_message_ Ringside__V1__ListTablesResponse *answer = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(sql_words); i++)
		if (add_word(sh, sql_words[i]) < 0)
			return;
	if (sh->session->file) {
		load_file_words(sh);
		return;
	}
	if (cli_call_quiet(sh->session->cli, "/ringside.v1.TableService/ListTables", &request,
			   &ringside__v1__list_tables_response__descriptor, WORDS_TIMEOUT_NS,
			   &answer) < 0)
		return;
	for (size_t i = 0; i < answer->n_tables; i++) {
		const Ringside__V1__Table *t = answer->tables[i];

		if (!has_word(sh, t->name) && add_word(sh, t->name) < 0)
			return;
		for (size_t c = 0; c < t->n_columns; c++)
			if (!has_word(sh, t->columns[c]->name) &&
			    add_word(sh, t->columns[c]->name) < 0)
				return;
	}
}

/* Inserts what all candidates share; lists them when they share no more than what is typed. */
static unsigned char complete(EditLine *el, int ch _unused_)
{
	const LineInfo *li = el_line(el);
	const char *start = li->cursor, *first = NULL;
	struct shell *sh = NULL;
	size_t typed, common = 0, n = 0;

	el_get(el, EL_CLIENTDATA, &sh);
	while (start > li->buffer && !strchr(" \t,()=<>!+-*/|;.", start[-1]))
		start--;
	typed = (size_t)(li->cursor - start);
	if (!typed)
		return CC_REFRESH_BEEP;
	for (size_t i = 0; i < sh->nwords; i++) {
		const char *w = sh->words[i];

		if (strncasecmp(w, start, typed) != 0)
			continue;
		if (n++ == 0) {
			first = w;
			common = strlen(w);
		}
		while (strncmp(w, first, common) != 0)
			common--;
	}
	if (!n)
		return CC_REFRESH_BEEP;
	if (common > typed || n == 1) {
		_cleanup_free_ char *insert = strndup(first, common);

		el_deletestr(el, (int)typed);
		if (insert)
			el_insertstr(el, insert);
		if (n == 1 && first[common - 1] != '(')
			el_insertstr(el, " ");
		return CC_REFRESH;
	}
	putchar('\n');
	for (size_t i = 0; i < sh->nwords; i++)
		if (strncasecmp(sh->words[i], start, typed) == 0)
			printf("%s  ", sh->words[i]);
	putchar('\n');
	return CC_REDISPLAY;
}

/* $XDG_STATE_HOME/ringside/history, made 0600 before libedit writes to it: statements can hold what
 * people look for. */
static char *history_open(void)
{
	const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
	_cleanup_buf_ struct buf path = {0};
	_cleanup_close_ int fd = -1;

	if (state && state[0] == '/')
		buf_puts(&path, state);
	else if (home && home[0] == '/')
		buf_printf(&path, "%s/.local/state", home);
	else
		return NULL;
	buf_puts(&path, "/ringside/history");
	if (buf_status(&path) < 0)
		return NULL;
	for (char *slash = strchr(path.data + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		if (mkdir(path.data, 0700) < 0 && errno != EEXIST) {
			cli_note("cannot make '%s' for the history: %s, ignoring", path.data,
				 strerror(errno));
			return NULL;
		}
		*slash = '/';
	}
	fd = open(path.data, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0 || fchmod(fd, 0600) < 0) {
		cli_note("cannot use the history '%s': %s, ignoring", path.data, strerror(errno));
		return NULL;
	}
	return TAKE_PTR(path.data);
}

static int shell_open(struct shell *sh)
{
	HistEvent ev;

	/* libedit reads characters by the locale; a root shell in "C" would not even take an
	 * umlaut. */
	if (!sh->session->cli->utf8)
		setlocale(LC_CTYPE, "C.UTF-8");
	sh->el = el_init("ringside", stdin, stdout, stderr);
	sh->history = history_init();
	if (!sh->el || !sh->history)
		return -ENOMEM;
	history(sh->history, &ev, H_SETSIZE, HISTORY_LINES);
	history(sh->history, &ev, H_SETUNIQUE, 1);
	sh->history_path = history_open();
	if (sh->history_path)
		history(sh->history, &ev, H_LOAD,
			sh->history_path); /* fails on an empty file, rightly ignored */
	el_set(sh->el, EL_CLIENTDATA, sh);
	el_set(sh->el, EL_PROMPT, prompt);
	el_set(sh->el, EL_EDITOR, "emacs");
	el_set(sh->el, EL_HIST, history, sh->history);
	/* The wide form, because libedit never frees the copies that the other one makes. */
	el_wset(sh->el, EL_ADDFN, L"rs-complete", L"complete a name", complete);
	el_set(sh->el, EL_GETCFN, read_char);
	el_set(sh->el, EL_BIND, "^I", "rs-complete", NULL);
	el_set(sh->el, EL_BIND, "^R", "em-inc-search-prev", NULL);
	el_source(sh->el, NULL); /* ~/.editrc */
	return 0;
}

static void shell_close(struct shell *sh)
{
	HistEvent ev;

	if (sh->history && sh->history_path &&
	    history(sh->history, &ev, H_SAVE, sh->history_path) < 0)
		cli_note("cannot write the history '%s', ignoring", sh->history_path);
	if (sh->history)
		history_end(sh->history);
	if (sh->el)
		el_end(sh->el);
	for (size_t i = 0; i < sh->nwords; i++)
		free(sh->words[i]);
	free(sh->words);
	free(sh->history_path);
	buf_free(&sh->statement);
}

static void set_mode(struct shell *sh, const char *mode)
{
	struct cli *cli = sh->session->cli;
	struct out *fresh = NULL;

	if (!*mode) {
		printf("%s\n", out_format_name(cli->format));
		return;
	}
	if (out_format_parse(mode, &cli->format) < 0) {
		cli_fail(CLI_USAGE, "mode '%s' is none of table, json, csv and tsv", mode);
		return;
	}
	if (cli_out_new(cli, &fresh) == 0) {
		out_free(sh->session->out);
		sh->session->out = fresh;
	}
}

static void dot_command(struct shell *sh, char *line)
{
	char *save = NULL, *word = strtok_r(line, " \t\n;", &save),
	     *arg = strtok_r(NULL, " \t\n;", &save);
	struct args args = {.pos = (const char *[]){arg, NULL}, .npos = arg ? 1 : 0};

	if (strcmp(word, ".quit") == 0 || strcmp(word, ".exit") == 0)
		sh->quit = true;
	else if (strcmp(word, ".tables") == 0 && sh->session->file)
		sql_file_tables(sh->session->file, sh->session);
	else if (strcmp(word, ".schema") == 0 && arg && sh->session->file)
		sql_file_schema(sh->session->file, sh->session, arg);
	else if (strcmp(word, ".tables") == 0)
		verb_tables(sh->session->cli, &args);
	else if (strcmp(word, ".schema") == 0 && arg)
		verb_schema(sh->session->cli, &args);
	else if (strcmp(word, ".schema") == 0)
		cli_fail(CLI_USAGE, ".schema needs the name of a table; .tables lists them");
	else if (strcmp(word, ".mode") == 0)
		set_mode(sh, arg ? arg : "");
	else if (strcmp(word, ".help") == 0)
		puts("A statement ends with ';' and may span lines. Tab completes names, Ctrl-C "
		     "drops the line or ends a\n"
		     "running statement, Ctrl-D leaves.\n"
		     "  .tables         tables of history and live state\n"
		     "  .schema TABLE   columns of a table\n"
		     "  .mode [MODE]    table, json, csv or tsv\n"
		     "  .help           this text\n"
		     "  .quit           leave");
	else
		cli_fail(CLI_USAGE, "unknown command '%s'; .help lists them", word);
}

/* One line or, joined, one statement: what arrow-up should bring back. */
static void remember(struct shell *sh, const char *text, size_t len)
{
	_cleanup_free_ char *line = strndup(text, len);
	HistEvent ev;

	for (char *p = line; p && *p; p++)
		if (*p == '\n')
			*p = ' ';
	for (size_t n = line ? strlen(line) : 0; n && line[n - 1] == ' '; n--)
		line[n - 1] = '\0';
	if (line && *line)
		history(sh->history, &ev, H_ENTER, line);
}

static void take_line(struct shell *sh, const char *line)
{
	size_t used = 0, n;

	if (!sh->more && line[0] == '.' && line[1] != ' ') {
		_cleanup_free_ char *copy = strdup(line);

		remember(sh, line, strlen(line));
		if (copy)
			dot_command(sh, copy);
		return;
	}
	buf_puts(&sh->statement, line);
	while (sh->statement.data &&
	       (n = sql_statement_end(sh->statement.data + used, sh->statement.len - used))) {
		const char *text = sh->statement.data + used;

		while (n && strchr(" \t\n", *text)) {
			text++;
			used++;
			n--;
		}
		if (!sql_is_blank(text, n)) {
			remember(sh, text, n);
			/* The text is printed; a shell goes on. */
			if (sql_run(sh->session, text, n) == SQL_INTERRUPTED)
				cli_note("interrupted");
			cli_clear_interrupt();
		}
		used += n;
	}
	if (sh->statement.len - used > SQL_MAX_STATEMENT || buf_status(&sh->statement) < 0) {
		cli_fail(CLI_REFUSED, "the statement is too long, dropped");
		used = sh->statement.len;
	}
	if (sh->statement.data) {
		memmove(sh->statement.data, sh->statement.data + used,
			sh->statement.len - used + 1);
		sh->statement.len -= used;
	}
	if (sql_is_blank(sh->statement.data ? sh->statement.data : "", sh->statement.len))
		buf_reset(&sh->statement);
	sh->more = sh->statement.len > 0;
}

int shell_run(struct sql_session *s)
{
	struct shell sh = {.session = s};
	int r = s->file ? 0 : cli_connect(s->cli);

	if (r)
		return r;
	if (shell_open(&sh) < 0) {
		shell_close(&sh);
		return cli_fail(CLI_REFUSED, "cannot start the line editor: out of memory");
	}
	load_words(&sh);
	puts("SQL over history and live state; statements end with ';', .help for help, .quit to "
	     "leave.");
	while (!sh.quit) {
		int count = 0;
		const char *line;

		el_resize(sh.el);
		line = el_gets(sh.el, &count);
		if (!line && cli_interrupted()) {
			cli_clear_interrupt();
			buf_reset(&sh.statement);
			sh.more = false;
			el_reset(sh.el);
			putchar('\n');
			continue;
		}
		if (!line || count <= 0) {
			putchar('\n');
			break;
		}
		out_set_width(s->out, cli_width(s->cli));
		take_line(&sh, line);
	}
	shell_close(&sh);
	return CLI_OK;
}

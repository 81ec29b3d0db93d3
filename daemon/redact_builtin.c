// SPDX-License-Identifier: Apache-2.0
/* What secrets in command lines look like. */
#include "daemon/redact.h"

/* As a shell writes them; a blank may stand behind a backslash, and a text that was cut off has no
 * closing quote. */
#define DOUBLE "\"(?:\\\\.|[^\"\\\\])*\""
#define SINGLE "'[^']*(?:'\\\\''[^']*)*'"
#define BLANK  "(?:\\\\?\\s)"
/* A word of quoted and unquoted parts; it ends at a blank, or where a shell or a URL goes on. */
#define VALUE "(?:" DOUBLE "|" SINGLE "|\\\\.|[^\\s\"'&;|\\\\])+|[\"'].*"
#define IS    "[\"']?\\s*[=:]" BLANK "*"
/* An argument that had to be quoted as a whole, '--password=two words'; JSON; anything else. */
#define ASSIGNED(key)                                              \
	"(?i)'[^'\\s=:]*(?:" key ")[=:]([^']*(?:'\\\\''[^']*)*)'|" \
	"(?:" key ")\"\\s*:\\s*(" DOUBLE ")|"                      \
	"(?:" key ")" IS "(" VALUE ")"
/* "--password secret": a word behind the option. */
#define OPTION(key) "(?i)(?:^|\\s)--?[a-z0-9_-]*(?:" key ")\\s+(" VALUE ")"

/* Not every "pwd": PWD is where the shell is. */
#define PASSWORD "password|passwd|passphrase|[a-z0-9][_-]pwd|(?:\\b|_)pass"
#define TOKEN	 "token|secret|api[_-]?key|access[_-]?key|private[_-]?key|secret[_-]?key|credentials?"

static const char *const password[] = {ASSIGNED(PASSWORD), OPTION("password|passwd|passphrase"),
				       NULL};

static const char *const token[] = {
	ASSIGNED(TOKEN),
	OPTION(TOKEN),
	"\\b(gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}|glpat-[A-Za-z0-9_-]{16,}|"
	"xox[abeprs]-[A-Za-z0-9-]{10,}|sk-[A-Za-z0-9_-]{20,})",
	/* A JSON web token. */
	"\\b(eyJ[A-Za-z0-9_-]{8,}\\.[A-Za-z0-9_-]{8,}(?:\\.[A-Za-z0-9_-]+)?)",
	NULL,
};

#define HEADER "(?:proxy-)?authorization|x-api-key|x-auth-token|(?:set-)?cookie"

static const char *const authorization[] = {
	"(?i)'(?:" HEADER ")\\s*:\\s*([^']*)'|\"(?:" HEADER ")\\s*:\\s*([^\"]*)\"|"
	"\\b(?:" HEADER ")" IS "[\"']?((?:(?:basic|bearer|digest|token|negotiate|apikey)" BLANK
	"+)?[^\\s\"']+)",
	"(?i)\\bbearer" BLANK "+([a-z0-9._~+/=-]{8,})",
	NULL,
};

static const char *const aws_key[] = {"\\b((?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16})\\b", NULL};

static const char *const url[] = {"[A-Za-z][A-Za-z0-9+.-]*://[^\\s/:@'\"]*:([^\\s/@'\"]+)@", NULL};

static const char *const command[] = {
	/* RE2 would take a common "-" out of all three, and "u" is no word for a filter to find. */
	"(?:^|\\s)(?:-u|-{2}user|-{2}proxy-user)[=\\s]+['\"]?[^\\s:'\"]+:([^\\s'\"]+)",
	"(?:^|[\\s/"
	"])(?:mysql|mysqldump|mysqladmin|mariadb|mariadb-dump)\\s(?:.*\\s)?-p([^\\s'\"]+)",
	"(?:^|[\\s/])sshpass\\s+-p\\s*(" VALUE ")",
	NULL,
};

static const char *const private_key[] = {
	"-----BEGIN [A-Z ]*PRIVATE KEY-----((?s:.*?))(?:-----END|$)", NULL};

const struct redact_builtin redact_builtins[] = {
	{"password", "password=..., passwd: ..., DB_PASS=..., --password ...", password},
	{"token",
	 "...token=..., api_key=..., secret=..., --token ...; GitHub, GitLab, Slack and JSON web "
	 "tokens",
	 token},
	{"authorization", "values of Authorization, Cookie and API key headers; Bearer ...",
	 authorization},
	{"aws_key", "AWS access key ids (their secrets are keys of \"token\")", aws_key},
	{"url", "the password in scheme://user:password@host", url},
	{"command", "curl -u user:..., mysql -p..., sshpass -p ...", command},
	{"private_key", "PEM private keys", private_key},
	{0},
};

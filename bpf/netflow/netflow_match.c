// SPDX-License-Identifier: Apache-2.0
/* Lists of ports, addresses and names: parsed once, asked for each connection. */
#include "bpf/netflow/netflow_match.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/services.h"

/* Lists are written by people; a longer one would cost every connection. */
#define WORDS_MAX 256
#define WORD_LEN  253

struct range {
	uint8_t family; /* 4, 6; 0: any */
	uint8_t first[16], last[16];
};

struct name {
	char pattern[WORD_LEN + 1];
};

/* Both halves of one list. */
struct list {
	uint32_t nin, nout; /* words: including, excluding */
};

struct netflow_match {
	struct list ports, ips, names;
	uint8_t port_in[65536 / 8], port_out[65536 / 8];
	struct range *ip_in, *ip_out;
	struct name *name_in, *name_out;
};

static bool verdict(const struct list *l, bool in, bool out)
{
	return !out && (in || l->nin == 0);
}

void netflow_match_free(struct netflow_match *m)
{
	if (!m)
		return;
	free(m->ip_in);
	free(m->ip_out);
	free(m->name_in);
	free(m->name_out);
	free(m);
}

static void set_ports(uint8_t *bits, uint32_t from, uint32_t to)
{
	for (uint32_t p = from; p <= to; p++)
		bits[p / 8] |= (uint8_t)(1u << p % 8);
}

static bool parse_port(const char *text, char **end, uint32_t *ret)
{
	unsigned long v = strtoul(text, end, 10);

	*ret = (uint32_t)v;
	return isdigit((unsigned char)*text) && *end != text && v >= 1 && v <= 65535;
}

static int add_port(struct netflow_match *m, const char *word, bool in,
		    const struct services *services, struct err *err)
{
	uint8_t *bits = in ? m->port_in : m->port_out;
	static const char *const transports[] = {"tcp", "udp", NULL};
	uint32_t from, to;
	char *end;

	if (strcmp(word, "*") == 0) {
		set_ports(bits, 0, 65535);
		return 0;
	}
	if (isdigit((unsigned char)*word)) {
		if (!parse_port(word, &end, &from))
			return err_set(err, -EINVAL, "ports: '%s' is no port from 1 to 65535",
				       word);
		to = from;
		if ((*end == '-' || *end == ':') && !parse_port(end + 1, &end, &to))
			return err_set(err, -EINVAL, "ports: '%s': write a range as 8000-8999",
				       word);
		if (*end || to < from)
			return err_set(err, -EINVAL,
				       "ports: '%s': write a port or a range as 8000-8999", word);
		set_ports(bits, from, to);
		return 0;
	}
	from = 0;
	for (size_t i = 0; services && transports[i]; i++) {
		to = services_port(services, word, transports[i]);
		if (to)
			set_ports(bits, from = to, to);
	}
	if (!from)
		return err_set(err, -EINVAL, "ports: no service '%s' in " SERVICES_FILE, word);
	return 0;
}

static uint8_t parse_ip(const char *text, uint8_t addr[16])
{
	if (inet_pton(AF_INET, text, addr) == 1)
		return 4;
	return inet_pton(AF_INET6, text, addr) == 1 ? 6 : 0;
}

/* The last address of the network, the first of it in place of the address. */
static bool parse_prefix(const char *text, struct range *r)
{
	unsigned int max = r->family == 4 ? 32 : 128;
	unsigned long bits;
	char *end;

	bits = strtoul(text, &end, 10);
	if (!isdigit((unsigned char)*text) || *end || bits > max)
		return false;
	memcpy(r->last, r->first, sizeof(r->last));
	for (unsigned long b = bits; b < max; b++) {
		r->first[b / 8] &= (uint8_t) ~(0x80u >> b % 8);
		r->last[b / 8] |= (uint8_t)(0x80u >> b % 8);
	}
	return true;
}

static bool parse_range(char *word, struct range *r)
{
	char *sep = strpbrk(word, "/-");
	bool prefix = sep && *sep == '/';

	memset(r, 0, sizeof(*r));
	if (strcmp(word, "*") == 0)
		return true;
	if (sep)
		*sep = '\0';
	r->family = parse_ip(word, r->first);
	if (!r->family)
		return false;
	if (prefix)
		return parse_prefix(sep + 1, r);
	if (sep)
		return parse_ip(sep + 1, r->last) == r->family &&
		       memcmp(r->first, r->last, sizeof(r->last)) <= 0;
	memcpy(r->last, r->first, sizeof(r->last));
	return true;
}

static int add_ip(struct netflow_match *m, const char *word, bool in, struct err *err)
{
	struct range **list = in ? &m->ip_in : &m->ip_out, *more;
	uint32_t n = in ? m->ips.nin : m->ips.nout;
	char copy[WORD_LEN + 1];
	struct range r;

	memcpy(copy, word, strlen(word) + 1);
	if (!parse_range(copy, &r))
		return err_set(err, -EINVAL,
			       "ips: '%s' is no address, range (10.0.0.1-10.0.0.9) or network "
			       "(10.0.0.0/8)",
			       word);
	more = reallocarray(*list, n + 1, sizeof(*more));
	if (!more)
		return err_set(err, -ENOMEM, "out of memory");
	more[n] = r;
	*list = more;
	return 0;
}

static int add_name(struct netflow_match *m, const char *word, bool in, struct err *err)
{
	struct name **list = in ? &m->name_in : &m->name_out, *more;
	uint32_t n = in ? m->names.nin : m->names.nout;

	more = reallocarray(*list, n + 1, sizeof(*more));
	if (!more)
		return err_set(err, -ENOMEM, "out of memory");
	memcpy(more[n].pattern, word, strlen(word) + 1);
	*list = more;
	return 0;
}

enum kind {
	PORTS,
	IPS,
	NAMES,
};

static int add_word(struct netflow_match *m, enum kind kind, const char *word,
		    const struct services *services, struct err *err)
{
	struct list *lists[] = {&m->ports, &m->ips, &m->names};
	struct list *l = lists[kind];
	bool in = *word != '!';
	int r;

	if (!in)
		word++;
	if (!*word || strchr(word, '!'))
		return err_set(err, -EINVAL, "'!' stands before a word, once");
	if (l->nin + l->nout == WORDS_MAX)
		return err_set(err, -EINVAL, "more than %d words", WORDS_MAX);
	if (kind == PORTS)
		r = add_port(m, word, in, services, err);
	else
		r = kind == IPS ? add_ip(m, word, in, err) : add_name(m, word, in, err);
	if (r < 0)
		return r;
	if (in)
		l->nin++;
	else
		l->nout++;
	return 0;
}

static int add_list(struct netflow_match *m, enum kind kind, const char *text,
		    const struct services *services, struct err *err)
{
	static const char blanks[] = " \t\r\n";
	char word[WORD_LEN + 1];
	int r = 0;

	while (text && r == 0) {
		size_t len;

		text += strspn(text, blanks);
		len = strcspn(text, blanks);
		if (!len)
			break;
		if (len >= sizeof(word))
			return err_set(err, -EINVAL,
				       "a word of more than %d characters: '%.40s...'", WORD_LEN,
				       text);
		memcpy(word, text, len);
		word[len] = '\0';
		text += len;
		r = add_word(m, kind, word, services, err);
	}
	return r;
}

int netflow_match_new(struct netflow_match **ret, const struct netflow_lists *lists,
		      const struct services *services, struct err *err)
{
	_cleanup_(netflow_match_freep) struct netflow_match *m = calloc(1, sizeof(*m));
	int r;

	if (!m)
		return err_set(err, -ENOMEM, "out of memory");
	r = add_list(m, PORTS, lists->ports, services, err);
	if (r == 0)
		r = add_list(m, IPS, lists->ips, NULL, err);
	if (r == 0)
		r = add_list(m, NAMES, lists->hostnames, NULL, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(m);
	return 0;
}

static bool has_port(const uint8_t *bits, uint16_t port)
{
	return bits[port / 8] & 1u << port % 8;
}

bool netflow_match_port(const struct netflow_match *m, uint16_t port)
{
	return verdict(&m->ports, has_port(m->port_in, port), has_port(m->port_out, port));
}

static bool has_ip(const struct range *list, uint32_t n, uint8_t family, const uint32_t addr[4])
{
	size_t size = family == 4 ? 4 : 16;

	for (uint32_t i = 0; i < n; i++)
		if (!list[i].family ||
		    (list[i].family == family && memcmp(addr, list[i].first, size) >= 0 &&
		     memcmp(addr, list[i].last, size) <= 0))
			return true;
	return false;
}

bool netflow_match_ip(const struct netflow_match *m, uint8_t family, const uint32_t addr[4])
{
	if (m->ips.nin + m->ips.nout == 0)
		return true;
	return verdict(&m->ips, has_ip(m->ip_in, m->ips.nin, family, addr),
		       has_ip(m->ip_out, m->ips.nout, family, addr));
}

/* "*" is any run of characters; the last one is tried again further on: no more than length times
 * length steps. */
static bool glob(const char *p, const char *s)
{
	const char *star = NULL, *back = NULL;

	while (*s) {
		if (*p == '*') {
			star = ++p;
			back = s;
		} else if (tolower((unsigned char)*p) == tolower((unsigned char)*s)) {
			p++;
			s++;
		} else if (star) {
			p = star;
			s = ++back;
		} else {
			return false;
		}
	}
	while (*p == '*')
		p++;
	return !*p;
}

static bool has_name(const struct name *list, uint32_t n, const char *name)
{
	for (uint32_t i = 0; i < n; i++)
		if (glob(list[i].pattern, name))
			return true;
	return false;
}

bool netflow_match_wants_name(const struct netflow_match *m)
{
	return m->names.nin + m->names.nout != 0;
}

bool netflow_match_name(const struct netflow_match *m, const char *name)
{
	return verdict(&m->names, has_name(m->name_in, m->names.nin, name),
		       has_name(m->name_out, m->names.nout, name));
}

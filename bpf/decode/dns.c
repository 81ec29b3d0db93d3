// SPDX-License-Identifier: Apache-2.0
/* DNS messages: header, question, answers, EDNS. Every offset is checked where it is used. */
#include "bpf/decode/dns.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"
#include "bpf/batch.h"
#include "bpf/decode/reader.h"

#define HEADER	    12u
#define NAME_OCTETS 255u
/* Chains of CNAMEs that resolvers follow are shorter than that (BIND: 16). */
#define CHAIN_MAX     16

#define SVCB_IPV4HINT 4
#define SVCB_IPV6HINT 6

/* Names reached from the question, and the least ttl on the way. */
struct chain {
	unsigned int n;
	uint16_t name[CHAIN_MAX];
	uint32_t ttl[CHAIN_MAX];
};

static size_t put_escaped(char *dst, uint8_t c)
{
	dst[0] = '\\';
	dst[1] = (char)('0' + c / 100);
	dst[2] = (char)('0' + c / 10 % 10);
	dst[3] = (char)('0' + c % 10);
	return 4;
}

/* UTF-8 without the controls U+0080 to U+009F, which terminals obey. */
static bool is_text(const uint8_t *s, size_t len)
{
	for (size_t i = 0; i + 1 < len; i++)
		if (s[i] == 0xc2 && s[i + 1] < 0xa0)
			return false;
	return utf8_valid((const char *)s, len);
}

/* dst has room for 4 * len. */
static size_t put_octets(char *dst, const uint8_t *s, size_t len, bool label)
{
	bool text = is_text(s, len);
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		uint8_t c = s[i];

		if (label && c >= 'A' && c <= 'Z')
			c += 'a' - 'A';
		if (c == '\\' || (label && c == '.')) {
			dst[n++] = '\\';
			dst[n++] = (char)c;
		} else if (c < 0x20 || (label && c == ' ') || c == 0x7f || (c >= 0x80 && !text)) {
			n += put_escaped(dst + n, c);
		} else {
			dst[n++] = (char)c;
		}
	}
	return n;
}

/*
 * The name at *pos as text, NUL-terminated; *pos moves behind it. A pointer must lead before all
 * that was read of the name so far: so there are no loops and no more jumps than octets.
 */
static int read_name(const struct reader *r, size_t *pos, char dst[static DNS_NAME_MAX],
		     size_t *ret_len)
{
	size_t p = *pos, lowest = *pos, n = 0, octets = 1;
	bool jumped = false;

	for (;;) {
		uint8_t len;

		if (p >= r->len)
			return -EINVAL;
		len = r->data[p];
		if (len >= 0xc0) {
			size_t to;

			if (r->len - p < 2)
				return -EINVAL;
			to = (size_t)(len & 0x3f) << 8 | r->data[p + 1];
			if (to >= lowest)
				return -EINVAL;
			if (!jumped)
				*pos = p + 2;
			jumped = true;
			lowest = p = to;
			continue;
		}
		if (len > 63)
			return -EINVAL; /* 0x40 and 0x80: extended labels, obsolete */
		if (!len)
			break;
		octets += len + 1u;
		if (octets > NAME_OCTETS || r->len - p - 1 < len)
			return -EINVAL;
		if (n)
			dst[n++] = '.';
		n += put_octets(dst + n, r->data + p + 1, len, true);
		p += len + 1u;
	}
	if (!jumped)
		*pos = p + 1;
	if (!n)
		dst[n++] = '.';
	dst[n] = '\0';
	*ret_len = n;
	return 0;
}

/* Where the text went. Offset of "" (the question's end) when there is no room. */
static uint16_t keep(struct dns_message *m, const char *text, size_t len)
{
	uint32_t at = m->text_len;

	if (len == m->qname_len && memcmp(m->text, text, len) == 0)
		return 0;
	if (len + 1 > sizeof(m->text) - at)
		return (uint16_t)m->qname_len;
	memcpy(m->text + at, text, len);
	m->text[at + len] = '\0';
	m->text_len += (uint32_t)len + 1;
	return (uint16_t)at;
}

static int read_question(struct reader *r, struct dns_message *m)
{
	char name[DNS_NAME_MAX];
	size_t len;
	int err;

	m->text[0] = '\0';
	m->text_len = 1;
	m->qname_len = 0;
	m->qtype = m->qclass = 0;
	for (unsigned int i = 0; i < m->questions; i++) {
		err = read_name(r, &r->pos, name, &len);
		if (err < 0 || reader_left(r) < 4)
			return -EINVAL;
		if (i == 0) {
			memcpy(m->text, name, len + 1);
			m->qname_len = (uint32_t)len;
			m->text_len = (uint32_t)len + 1;
			m->qtype = reader_u16(r);
			m->qclass = reader_u16(r);
		} else {
			r->pos += 4;
		}
	}
	return 0;
}

static int chain_find(const struct dns_message *m, const struct chain *c, uint16_t owner)
{
	for (unsigned int i = 0; i < c->n; i++)
		if (c->name[i] == owner || strcmp(m->text + c->name[i], m->text + owner) == 0)
			return (int)i;
	return -1;
}

static struct dns_record *add_record(struct dns_message *m, uint16_t type, uint16_t owner,
				     uint32_t ttl, bool chained)
{
	struct dns_record *rec;

	if (m->nrecords == DNS_RECORDS_MAX) {
		m->left_out++;
		return NULL;
	}
	rec = &m->records[m->nrecords++];
	*rec = (struct dns_record){.type = type,
				   .owner = owner,
				   .data = (uint16_t)m->qname_len,
				   .ttl = ttl,
				   .chained = chained};
	return rec;
}

static void set_address(struct dns_message *m, struct dns_record *rec, uint8_t family,
			const uint8_t *addr)
{
	char text[46];

	rec->addr.family = family;
	memcpy(rec->addr.addr, addr, family == 4 ? 4 : 16);
	ip_addr_format(text, &rec->addr);
	rec->data = keep(m, text, strlen(text));
}

/* Names in the data may point anywhere before: data is the whole message up to the record's end. */
static void name_data(const struct reader *data, struct dns_message *m, struct dns_record *rec,
		      const char *before)
{
	char text[64 + DNS_NAME_MAX];
	size_t n = strlen(before), pos = data->pos, len;

	memcpy(text, before, n);
	if (read_name(data, &pos, text + n, &len) == 0)
		rec->data = keep(m, text, n + len);
}

static void txt_data(struct reader *data, struct dns_message *m, struct dns_record *rec)
{
	char text[4 * 255 + 1];
	size_t n = 0;

	/* Several strings are one text to those who use them (SPF, DKIM); kept as far as one string
	 * may reach. */
	while (reader_left(data) > 0) {
		size_t len = reader_u8(data);

		if (len > reader_left(data) || 4 * len > sizeof(text) - 1 - n)
			break;
		n += put_octets(text + n, data->data + data->pos, len, false);
		data->pos += len;
	}
	rec->data = keep(m, text, n);
}

/* Priority and target; the addresses of the hints become records of their own. */
static void svcb_data(struct reader *data, struct dns_message *m, struct dns_record *rec)
{
	struct dns_record of = *rec;
	char before[16];
	size_t pos;
	char name[DNS_NAME_MAX];
	size_t len;

	if (reader_left(data) < 3)
		return;
	snprintf(before, sizeof(before), "%u ", reader_u16(data));
	name_data(data, m, rec, before);
	pos = data->pos;
	if (read_name(data, &pos, name, &len) < 0)
		return;
	data->pos = pos;
	while (reader_left(data) >= 4) {
		unsigned int key = reader_u16(data);
		size_t size = reader_u16(data), step = key == SVCB_IPV4HINT ? 4 : 16;

		if (size > reader_left(data))
			return;
		for (size_t i = 0;
		     (key == SVCB_IPV4HINT || key == SVCB_IPV6HINT) && i + step <= size;
		     i += step) {
			struct dns_record *hint =
				add_record(m, step == 4 ? DNS_TYPE_A : DNS_TYPE_AAAA, of.owner,
					   of.ttl, of.chained);

			if (!hint)
				break;
			hint->hint = true;
			set_address(m, hint, step == 4 ? 4 : 6, data->data + data->pos + i);
		}
		data->pos += size;
	}
}

static void read_data(struct reader *data, struct dns_message *m, struct dns_record *rec)
{
	char before[32];

	switch (rec->type) {
	case DNS_TYPE_A:
		if (reader_left(data) == 4)
			set_address(m, rec, 4, data->data + data->pos);
		return;
	case DNS_TYPE_AAAA:
		if (reader_left(data) == 16)
			set_address(m, rec, 6, data->data + data->pos);
		return;
	case DNS_TYPE_NS:
	case DNS_TYPE_CNAME:
	case DNS_TYPE_PTR:
	case DNS_TYPE_DNAME:
		name_data(data, m, rec, "");
		return;
	case DNS_TYPE_MX:
		if (reader_left(data) < 3)
			return;
		snprintf(before, sizeof(before), "%u ", reader_u16(data));
		name_data(data, m, rec, before);
		return;
	case DNS_TYPE_SRV: {
		unsigned int prio, weight, port;

		if (reader_left(data) < 7)
			return;
		prio = reader_u16(data);
		weight = reader_u16(data);
		port = reader_u16(data);
		snprintf(before, sizeof(before), "%u %u %u ", prio, weight, port);
		name_data(data, m, rec, before);
		return;
	}
	case DNS_TYPE_TXT:
		txt_data(data, m, rec);
		return;
	case DNS_TYPE_SVCB:
	case DNS_TYPE_HTTPS:
		svcb_data(data, m, rec);
		return;
	}
}

static void read_answer(const struct reader *r, struct dns_message *m, struct chain *chain,
			const char *name, size_t name_len, uint16_t type, uint32_t ttl, size_t size)
{
	struct reader data = {.data = r->data, .len = r->pos + size, .pos = r->pos};
	uint16_t owner = keep(m, name, name_len);
	int link = chain_find(m, chain, owner);
	struct dns_record *rec;

	if (owner == m->qname_len)
		link = -1; /* no room for its text: "" is no name */
	if (link >= 0 && chain->ttl[link] < ttl)
		ttl = chain->ttl[link];
	rec = add_record(m, type, owner, ttl, link >= 0);
	if (!rec)
		return;
	read_data(&data, m, rec);
	if (type == DNS_TYPE_CNAME && link >= 0 && chain->n < CHAIN_MAX &&
	    rec->data != m->qname_len) {
		chain->name[chain->n] = rec->data;
		chain->ttl[chain->n++] = ttl;
	}
}

/* One record of any section. A ttl with the top bit set means 0 (RFC 2181, 8). */
static int read_record(struct reader *r, struct dns_message *m, struct chain *chain, bool answer)
{
	char name[DNS_NAME_MAX];
	uint16_t type, class;
	uint32_t ttl;
	size_t name_len, size;

	if (read_name(r, &r->pos, name, &name_len) < 0 || reader_left(r) < 10)
		return -EINVAL;
	type = reader_u16(r);
	class = reader_u16(r);
	ttl = reader_u32(r);
	size = reader_u16(r);
	if (size > reader_left(r))
		return -EINVAL;
	if (type == DNS_TYPE_OPT) {
		m->edns = true;
		m->udp_size = class < 512 ? 512 : class;
		m->rcode |= (uint16_t)(ttl >> 24 << 4);
	} else if (answer && (class & 0x7fff) == 1) { /* the top bit is multicast DNS's "flush" */
		read_answer(r, m, chain, name, name_len, type, ttl & 1u << 31 ? 0 : ttl, size);
	}
	r->pos += size;
	return 0;
}

int dns_parse(const void *data, size_t len, struct dns_message *m)
{
	struct reader r = {.data = data, .len = len};
	struct chain chain = {.n = 1, .ttl = {UINT32_MAX}};
	uint32_t counts[3], flags;

	if (len < HEADER)
		return -EINVAL;
	m->id = reader_u16(&r);
	flags = reader_u16(&r);
	m->response = flags & 0x8000;
	m->opcode = flags >> 11 & 15;
	m->authoritative = flags & 0x0400;
	m->truncated = flags & 0x0200;
	m->rcode = flags & 15;
	m->edns = m->cut = false;
	m->udp_size = 512;
	m->nrecords = m->left_out = 0;
	m->questions = reader_u16(&r);
	for (int i = 0; i < 3; i++)
		counts[i] = reader_u16(&r);
	if (flags & 0x0040)
		return -EINVAL; /* the bit that must be zero */
	if (read_question(&r, m) < 0)
		return -EINVAL;
	if (!m->questions)
		chain.n = 0;
	for (int section = 0; section < 3; section++)
		for (uint32_t i = 0; i < counts[section]; i++)
			if (read_record(&r, m, &chain, section == 0) < 0) {
				m->cut = true;
				return 0;
			}
	return 0;
}

char *dns_type_text(char dst[static 12], uint16_t type)
{
	static const struct {
		uint16_t type;
		const char *name;
	} names[] = {
		{1, "A"},      {28, "AAAA"},  {5, "CNAME"}, {12, "PTR"},   {65, "HTTPS"},
		{33, "SRV"},   {16, "TXT"},   {15, "MX"},   {2, "NS"},	   {6, "SOA"},
		{64, "SVCB"},  {39, "DNAME"}, {255, "ANY"}, {43, "DS"},	   {48, "DNSKEY"},
		{35, "NAPTR"}, {52, "TLSA"},  {257, "CAA"}, {252, "AXFR"}, {251, "IXFR"},
		{44, "SSHFP"}, {46, "RRSIG"}, {47, "NSEC"},
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (names[i].type == type) {
			snprintf(dst, 12, "%s", names[i].name);
			return dst;
		}
	snprintf(dst, 12, "TYPE%u", type);
	return dst;
}

size_t dns_answers_text(const struct dns_message *m, enum dns_answers what, char *dst, size_t cap)
{
	static const char more[] = ",...";
	size_t n = 0;

	dst[0] = '\0';
	for (unsigned int i = 0; i < m->nrecords; i++) {
		const struct dns_record *rec = &m->records[i];
		const char *text = m->text + rec->data;
		size_t len = strlen(text);

		if (!len || (what == DNS_ANSWERS_ADDRESSES && (!rec->addr.family || rec->hint)))
			continue;
		if (n + 1 + len + sizeof(more) > cap) {
			const char *end = n ? more : more + 1;

			memcpy(dst + n, end, strlen(end) + 1);
			return n + strlen(end);
		}
		if (n)
			dst[n++] = ',';
		memcpy(dst + n, text, len + 1);
		n += len;
	}
	return n;
}

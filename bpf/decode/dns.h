// SPDX-License-Identifier: Apache-2.0
/* DNS messages (RFC 1035, 6891, 9460) out of hostile bytes: pure, bounded, without memory of its
 * own. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bpf/table.h"

/* A name has 255 octets on the wire; as text each may become "\ddd". With the NUL. */
#define DNS_NAME_MAX 1024
/* Answers of one message that are kept: what is beyond counts in left_out. */
#define DNS_RECORDS_MAX 64
/* Text of all names and data of one message. */
#define DNS_TEXT_MAX 8192

enum dns_type {
	DNS_TYPE_A = 1,
	DNS_TYPE_NS = 2,
	DNS_TYPE_CNAME = 5,
	DNS_TYPE_PTR = 12,
	DNS_TYPE_MX = 15,
	DNS_TYPE_TXT = 16,
	DNS_TYPE_AAAA = 28,
	DNS_TYPE_SRV = 33,
	DNS_TYPE_DNAME = 39,
	DNS_TYPE_OPT = 41,
	DNS_TYPE_SVCB = 64,
	DNS_TYPE_HTTPS = 65,
};

/* One of the answer section, class IN only. */
struct dns_record {
	uint16_t type;
	uint16_t owner, data; /* offsets into text; data: presentation form, "" for types that we
				 don't read and without room */
	uint32_t ttl;	      /* seconds; the least along the CNAMEs that lead here */
	bool chained; /* the owner is the name that was asked, or was reached from it by CNAMEs */
	bool hint;    /* an address in an HTTPS or SVCB record */
	struct ip_addr addr; /* A, AAAA and hints; else family 0 */
};

struct dns_message {
	uint16_t id;
	bool response, authoritative, truncated; /* QR, AA, TC */
	bool edns;
	bool cut; /* it ends, or makes no sense, before its counts say: what came before stands */
	uint8_t opcode;
	uint16_t rcode;	   /* with the upper bits from EDNS */
	uint16_t udp_size; /* what EDNS offers; 512 without */
	uint16_t questions;
	uint16_t qtype, qclass; /* of the first question; 0 without */
	uint16_t nrecords, left_out;
	struct dns_record records[DNS_RECORDS_MAX];
	uint32_t qname_len;
	uint32_t text_len;
	/*
	 * NUL-terminated texts. It begins with the first question's name: lower-case, without the
	 * last dot ("." is the root), with RFC 1035's \. \\ \ddd; UTF-8 stays, as multicast DNS has
	 * it. "" without a question.
	 */
	char text[DNS_TEXT_MAX];
};

/*
 * 0, or -EINVAL: not DNS, or the question makes no sense. len may be less than the message had
 * (cut). Never reads outside data; time is linear in len. What lies behind nrecords and text_len
 * isn't set.
 */
int dns_parse(const void *data, size_t len, struct dns_message *ret);

static inline const char *dns_qname(const struct dns_message *m)
{
	return m->text;
}

/* "A", "HTTPS", "TYPE1234"; returns dst. */
char *dns_type_text(char dst[static 12], uint16_t type);

/* What dns_answers_text() takes. */
enum dns_answers {
	DNS_ANSWERS_ADDRESSES, /* A and AAAA alone */
	DNS_ANSWERS_ALL,       /* every record's data in order, CNAMEs too */
};

/* Comma-joined; ends in ",..." when cap doesn't suffice for all. Returns the length. cap >= 8. */
size_t dns_answers_text(const struct dns_message *m, enum dns_answers what, char *dst, size_t cap);

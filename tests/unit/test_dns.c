// SPDX-License-Identifier: Apache-2.0
/* The DNS decoder against recorded messages, hand-made odd ones and every way to cut or bend them.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/macro.h"
#include "base/utf8.h"
#include "bpf/decode/dns.h"

static struct dns_message m;

/* A string constant's octets, without its NUL. */
#define PARSE(s) dns_parse((s), sizeof(s) - 1, &m)

/* www.Example.ORG A?, EDNS 1232 with a cookie, as dig sends it. */
#define QUERY                                                                                      \
	"\x2a\x9b\x01\x20\x00\x01\x00\x00\x00\x00\x00\x01\x03www\x07"                              \
	"Example\x03ORG\x00\x00\x01\x00\x01"                                                       \
	"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x0c\x00\x0a\x00\x08\x01\x02\x03\x04\x05\x06\x07" \
	"\x08"

static void query(void **state)
{
	(void)state;
	assert_int_equal(PARSE(QUERY), 0);
	assert_int_equal(m.id, 0x2a9b);
	assert_false(m.response);
	assert_string_equal(dns_qname(&m), "www.example.org");
	assert_int_equal(m.qname_len, 15);
	assert_int_equal(m.qtype, DNS_TYPE_A);
	assert_int_equal(m.qclass, 1);
	assert_true(m.edns);
	assert_int_equal(m.udp_size, 1232);
	assert_int_equal(m.nrecords, 0);
	assert_false(m.cut);
}

/* www.example.org CNAME a.cdn.net (300) CNAME b.cdn.net (60); b.cdn.net A 192.0.2.1, A 192.0.2.2
 * (3600); a stranger's A. */
#define ANSWER                                                             \
	"\x2a\x9b\x81\x80\x00\x01\x00\x05\x00\x00\x00\x00\x03www\x07"      \
	"example\x03org\x00\x00\x01\x00\x01"                               \
	"\xc0\x0c\x00\x05\x00\x01\x00\x00\x01\x2c\x00\x0b\x01"             \
	"a\x03"                                                            \
	"cdn\x03net\x00"                                                   \
	"\xc0\x2d\x00\x05\x00\x01\x00\x00\x00\x3c\x00\x04\x01"             \
	"b\xc0\x2f"                                                        \
	"\xc0\x44\x00\x01\x00\x01\x00\x00\x0e\x10\x00\x04\xc0\x00\x02\x01" \
	"\xc0\x44\x00\x01\x00\x01\x00\x00\x0e\x10\x00\x04\xc0\x00\x02\x02" \
	"\x04"                                                             \
	"evil\x00\x00\x01\x00\x01\x00\x00\x0e\x10\x00\x04\xcb\x00\x71\x07"

static void cname_chain(void **state)
{
	char text[256];

	(void)state;
	assert_int_equal(PARSE(ANSWER), 0);
	assert_true(m.response);
	assert_false(m.cut);
	assert_int_equal(m.nrecords, 5);
	assert_string_equal(m.text + m.records[0].data, "a.cdn.net");
	assert_string_equal(m.text + m.records[1].owner, "a.cdn.net");
	assert_string_equal(m.text + m.records[1].data, "b.cdn.net");
	assert_true(m.records[2].chained && m.records[3].chained);
	assert_int_equal(m.records[2].ttl, 60);
	assert_int_equal(m.records[2].addr.family, 4);
	assert_false(m.records[4].chained); /* not what was asked for: nobody may learn it */
	dns_answers_text(&m, DNS_ANSWERS_ADDRESSES, text, sizeof(text));
	assert_string_equal(text, "192.0.2.1,192.0.2.2,203.0.113.7");
	dns_answers_text(&m, DNS_ANSWERS_ALL, text, sizeof(text));
	assert_string_equal(text, "a.cdn.net,b.cdn.net,192.0.2.1,192.0.2.2,203.0.113.7");
	assert_int_equal(dns_answers_text(&m, DNS_ANSWERS_ADDRESSES, text, 20), 13);
	assert_string_equal(text, "192.0.2.1,...");
	assert_int_equal(dns_answers_text(&m, DNS_ANSWERS_ADDRESSES, text, 8), 3);
	assert_string_equal(text, "...");
}

#define HEAD(flags, an) "\x00\x01" flags "\x00\x01\x00" an "\x00\x00\x00\x00"
#define Q(type)		"\x01q\x00\x00" type "\x00\x01"
#define RR(type, len)	"\xc0\x0c\x00" type "\x00\x01\x00\x00\x00\x05\x00" len

static void types(void **state)
{
	char text[512];

	(void)state;
	assert_int_equal(
		PARSE(HEAD("\x81\x80", "\x07") Q("\xff")
			      RR("\x0f", "\x09") "\x00\x0a\x04mail\xc0\x0c" RR("\x21", "\x08") "\x00\x01\x00\x02\x14\x66\xc0\x0c" RR("\x10", "\x0d") "\x05v=1\x01\\\x06plain\xff" RR(
				      "\x1c",
				      "\x10") "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00"
					      "\x00\x00\x01" RR("\x0c",
								"\x02") "\xc0\x0c" RR("\x41",
										      "\x16") "\x00"
											      "\x01"
											      "\x00"
											      "\x00"
											      "\x01"
											      "\x00"
											      "\x03"
											      "\x02"
											      "h2"
											      "\x00"
											      "\x04"
											      "\x00"
											      "\x08"
											      "\xc0"
											      "\x00"
											      "\x02"
											      "\x05"
											      "\xc0"
											      "\x00"
											      "\x02"
											      "\x06" RR("\x63",
													"\x03") "abc"),
		0);
	assert_false(m.cut);
	dns_answers_text(&m, DNS_ANSWERS_ALL, text, sizeof(text));
	assert_string_equal(text, "10 mail.q,1 2 5222 q,v=1\\001\\\\plain\\255,2001:db8::1,q,1 "
				  ".,192.0.2.5,192.0.2.6");
	assert_int_equal(m.nrecords, 9);
	assert_true(m.records[6].hint && m.records[7].hint && m.records[6].chained);
	dns_answers_text(&m, DNS_ANSWERS_ADDRESSES, text, sizeof(text));
	assert_string_equal(text, "2001:db8::1");
	assert_string_equal(dns_type_text(text, 65), "HTTPS");
	assert_string_equal(dns_type_text(text, 65535), "TYPE65535");
}

static void rcodes(void **state)
{
	(void)state;
	assert_int_equal(PARSE(HEAD("\x81\x83", "\x00") Q("\x01")), 0);
	assert_int_equal(m.rcode, 3);
	assert_int_equal(PARSE(HEAD("\x87\x80", "\x00") Q("\x01")), 0);
	assert_true(m.truncated && m.authoritative);
	/* BADVERS: 16 is 0 in the header and 1 in the OPT record. */
	assert_int_equal(PARSE("\x00\x01\x81\x80\x00\x01\x00\x00\x00\x00\x00\x01" Q(
				 "\x01") "\x00\x00\x29\x02\x00\x01\x00\x00\x00\x00\x00"),
			 0);
	assert_int_equal(m.rcode, 16);
	/* No question: multicast DNS answers. The top bit of the class is its own. */
	assert_int_equal(PARSE("\x00\x00\x84\x00\x00\x00\x00\x01\x00\x00\x00\x00\x04host\x05local"
			       "\x00\x00\x01\x80\x01\x00\x00\x00\x78\x00\x04\x0a\x00\x00\x01"),
			 0);
	assert_int_equal(m.questions, 0);
	assert_string_equal(dns_qname(&m), "");
	assert_int_equal(m.nrecords, 1);
	assert_string_equal(m.text + m.records[0].owner, "host.local");
	assert_false(m.records[0].chained);
}

static void names(void **state)
{
	(void)state;
	assert_int_equal(PARSE(HEAD("\x01\x00", "\x00") "\x00\x00\x02\x00\x01"), 0);
	assert_string_equal(dns_qname(&m), ".");
	assert_int_equal(PARSE(HEAD("\x01\x00", "\x00") "\x06"
							"a.b\\\x00 \x00\x00\x01\x00\x01"),
			 0);
	assert_string_equal(dns_qname(&m), "a\\.b\\\\\\000\\032");
	assert_int_equal(
		PARSE(HEAD("\x01\x00", "\x00") "\x04"
					       "b\xc3\xbc"
					       "X\x02\xff\x1b\x02\xc2\x85\x00\x00\x01\x00\x01"),
		0);
	assert_string_equal(dns_qname(&m), "b\xc3\xbcx.\\255\\027.\\194\\133");
}

static void refused(void **state)
{
	(void)state;
	assert_int_equal(dns_parse("", 0, &m), -EINVAL);
	assert_int_equal(PARSE("\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00"), -EINVAL);
	assert_int_equal(PARSE(HEAD("\x01\x40", "\x00") Q("\x01")), -EINVAL);
	assert_int_equal(PARSE(HEAD("\x01\x00", "\x00") "\xc0\x0c\x00\x01\x00\x01"),
			 -EINVAL); /* leads to itself */
	assert_int_equal(PARSE(HEAD("\x01\x00", "\x00") "\x01"
							"a\xc0\x0c\x00\x01\x00\x01"),
			 -EINVAL); /* grows for ever */
	assert_int_equal(PARSE(HEAD("\x01\x00", "\x00") "\xc0\xff\x00\x01\x00\x01"),
			 -EINVAL); /* forward */
	assert_int_equal(PARSE(HEAD("\x01\x00", "\x00") "\x41"
							"a"),
			 -EINVAL);
	assert_int_equal(PARSE(HEAD("\x01\x00", "\x00") "\x3f"
							"abc"),
			 -EINVAL);
	/* Two pointers that lead to each other, in an answer: what came before stands. */
	assert_int_equal(PARSE(HEAD("\x81\x80", "\x02") Q("\x01")
				       RR("\x01", "\x04") "\x01\x02\x03\x04"
							  "\xc0\x27\xc0\x25\x00\x01"),
			 0);
	assert_true(m.cut);
	assert_int_equal(m.nrecords, 1);
}

/* 127 labels of one octet are the most that fit; one more is refused. All octets escaped is the
 * longest text. */
static void longest(void **state)
{
	uint8_t b[600] = "\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00";
	size_t n = 12;

	(void)state;
	for (int i = 0; i < 127; i++) {
		b[n++] = 1;
		b[n++] = 0xff;
	}
	memcpy(b + n, "\x00\x00\x01\x00\x01", 5);
	assert_int_equal(dns_parse(b, n + 5, &m), 0);
	assert_int_equal(m.qname_len, 127 * 4 + 126);
	b[n++] = 1;
	b[n++] = 0xff;
	memcpy(b + n, "\x00\x00\x01\x00\x01", 5);
	assert_int_equal(dns_parse(b, n + 5, &m), -EINVAL);

	n = 12;
	for (int i = 0; i < 4; i++) {
		size_t len = i < 3 ? 63 : 61;

		b[n++] = (uint8_t)len;
		memset(b + n, 0xff, len);
		n += len;
	}
	memcpy(b + n, "\x00\x00\x01\x00\x01", 5);
	assert_int_equal(dns_parse(b, n + 5, &m), 0);
	assert_int_equal(m.qname_len, 250 * 4 + 3);
	assert_true(m.qname_len < DNS_NAME_MAX);
}

static void many_records(void **state)
{
	uint8_t b[16 * 1024] =
		"\x00\x01\x81\x80\x00\x01\x00\xff\x00\x00\x00\x00\x01q\x00\x00\x01\x00\x01";
	size_t n = 19;

	(void)state;
	for (int i = 0; i < 255; i++) {
		memcpy(b + n, RR("\x01", "\x04") "\x0a\x00\x00\x01", 16);
		b[n + 15] = (uint8_t)i;
		n += 16;
	}
	assert_int_equal(dns_parse(b, n, &m), 0);
	assert_int_equal(m.nrecords, DNS_RECORDS_MAX);
	assert_int_equal(m.left_out, 255 - DNS_RECORDS_MAX);
	/* Text for none of them: names of their own, too long for all. */
	n = 19;
	for (int i = 0; i < 255 && n + 300 < sizeof(b); i++) {
		memcpy(b + n, "\x3f", 1);
		memset(b + n + 1, 0xff, 63);
		b[n + 1] = (uint8_t)i;
		memcpy(b + n + 64, "\x00\x00\x01\x00\x01\x00\x00\x00\x05\x00\x04\x0a\x00\x00\x01",
		       15);
		n += 79;
	}
	assert_int_equal(dns_parse(b, n, &m), 0);
	assert_true(m.text_len <= DNS_TEXT_MAX);
	for (unsigned int i = 0; i < m.nrecords; i++)
		assert_false(m.records[i].chained);
}

/* Every prefix, and every octet bent to a few values: nothing is read or written outside (the
 * sanitizers watch). */
static void bent(void **state)
{
	static const uint8_t values[] = {0, 1, 0x3f, 0x40, 0xc0, 0xff};
	uint8_t b[sizeof(ANSWER)];

	(void)state;
	for (size_t len = 0; len < sizeof(ANSWER); len++) {
		uint8_t *exact = malloc(len ? len : 1);

		assert_non_null(exact);
		memcpy(exact, ANSWER, len);
		if (dns_parse(exact, len, &m) == 0)
			assert_int_equal(m.cut, len < sizeof(ANSWER) - 1);
		free(exact);
	}
	for (size_t i = 0; i < sizeof(ANSWER) - 1; i++)
		for (size_t v = 0; v < ARRAY_SIZE(values); v++) {
			memcpy(b, ANSWER, sizeof(b));
			b[i] = values[v];
			if (dns_parse(b, sizeof(b) - 1, &m) < 0)
				continue;
			assert_true(m.text_len <= sizeof(m.text));
			for (unsigned int k = 0; k < m.nrecords; k++)
				assert_true(utf8_valid(m.text + m.records[k].data,
						       strlen(m.text + m.records[k].data)));
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(query),   cmocka_unit_test(cname_chain),
		cmocka_unit_test(types),   cmocka_unit_test(rcodes),
		cmocka_unit_test(names),   cmocka_unit_test(refused),
		cmocka_unit_test(longest), cmocka_unit_test(many_records),
		cmocka_unit_test(bent),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

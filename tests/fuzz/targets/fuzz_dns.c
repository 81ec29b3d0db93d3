// SPDX-License-Identifier: Apache-2.0
/* Fuzzes the DNS decoder: texts stay in their bounds and are valid, addresses are of the kind that
 * the record says. */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "base/utf8.h"
#include "bpf/decode/dns.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static struct dns_message m;
	char text[64], type[12];

	if (dns_parse(data, len, &m) < 0)
		return 0;
	assert(m.text_len <= sizeof(m.text) && m.qname_len < DNS_NAME_MAX &&
	       strlen(dns_qname(&m)) == m.qname_len);
	assert(utf8_valid(dns_qname(&m), m.qname_len));
	assert(m.nrecords <= DNS_RECORDS_MAX);
	for (unsigned int i = 0; i < m.nrecords; i++) {
		const struct dns_record *r = &m.records[i];

		assert(r->owner < m.text_len && r->data < m.text_len);
		assert(utf8_valid(m.text + r->data, strlen(m.text + r->data)));
		assert(!r->addr.family || r->addr.family == (r->type == DNS_TYPE_A ? 4 : 6));
		assert(strlen(dns_type_text(type, r->type)) < sizeof(type));
	}
	assert(dns_answers_text(&m, DNS_ANSWERS_ALL, text, sizeof(text)) == strlen(text));
	assert(dns_answers_text(&m, DNS_ANSWERS_ADDRESSES, text, 8) == strlen(text));
	return 0;
}

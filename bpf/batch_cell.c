// SPDX-License-Identifier: Apache-2.0
/* Cells of a batch as values: widened, as text, or NULL by the field's rule. */
#include "bpf/batch.h"

#include <arpa/inet.h>
#include <string.h>

#include "base/utf8.h"

/* Decimal of one byte, without leading zeros. */
static char *put_u8(char *p, unsigned int v)
{
	if (v >= 100) {
		*p++ = '0' + v / 100;
		v %= 100;
		*p++ = '0' + v / 10;
	} else if (v >= 10) {
		*p++ = '0' + v / 10;
	}
	*p++ = '0' + v % 10;
	return p;
}

static char *put_hex16(char *p, unsigned int v)
{
	static const char digits[] = "0123456789abcdef";

	if (v >= 0x1000)
		*p++ = digits[v >> 12];
	if (v >= 0x100)
		*p++ = digits[v >> 8 & 15];
	if (v >= 0x10)
		*p++ = digits[v >> 4 & 15];
	*p++ = digits[v & 15];
	return p;
}

/* RFC 5952. Written out because inet_ntop() costs ten times as much and rows have two addresses
 * each. */
static size_t format_ip6(char *dst, const uint8_t *a)
{
	unsigned int w[8], best = 8, best_len = 1;
	char *p = dst;

	for (unsigned int i = 0; i < 8; i++)
		w[i] = (unsigned int)a[2 * i] << 8 | a[2 * i + 1];
	for (unsigned int i = 0, n; i < 8; i += n + 1) {
		for (n = 0; i + n < 8 && !w[i + n]; n++)
			;
		if (n > best_len) {
			best = i;
			best_len = n;
		}
	}
	for (unsigned int i = 0; i < 8; i++) {
		if (i == best) {
			*p++ = ':';
			if (i + best_len == 8)
				*p++ = ':';
			i += best_len - 1;
			continue;
		}
		if (i)
			*p++ = ':';
		p = put_hex16(p, w[i]);
	}
	*p = '\0';
	return p - dst;
}

static size_t format_ip(char *dst, const struct ip_addr *ip)
{
	static const uint8_t zeros[10];
	char *p = dst;

	if (ip->family == 4) {
		for (int i = 0; i < 4; i++) {
			if (i)
				*p++ = '.';
			p = put_u8(p, ip->addr[i]);
		}
		*p = '\0';
		return p - dst;
	}
	if (ip->family == 6) {
		/* Mapped and compatible addresses have dotted forms of their own. */
		if (memcmp(ip->addr, zeros, sizeof(zeros)))
			return format_ip6(dst, ip->addr);
		inet_ntop(AF_INET6, ip->addr, dst, INET6_ADDRSTRLEN);
		return strlen(dst);
	}
	*dst = '\0';
	return 0;
}

char *ip_addr_format(char dst[static 46], const struct ip_addr *ip)
{
	format_ip(dst, ip);
	return dst;
}

static void set_text(struct value *v, const char *text, size_t len)
{
	v->kind = VALUE_TEXT;
	v->text = text;
	v->len = len;
}

static void get_chars(const struct field *f, const char *p, struct value *ret)
{
	size_t len;

	if (f->type == COLUMN_BYTES) {
		ret->kind = VALUE_BYTES;
		ret->text = p;
		ret->len = f->size;
		return;
	}
	len = strnlen(p, f->size);
	if (utf8_valid(p, len))
		set_text(ret, p, len);
	else
		set_text(ret, ret->scratch,
			 utf8_sanitize(ret->scratch, sizeof(ret->scratch), p, len));
	if (!len && f->null == NULL_ZERO)
		ret->kind = VALUE_NULL;
}

static void get_enum(const struct field *f, uint8_t idx, struct value *ret)
{
	for (unsigned int i = 0; f->names[i]; i++) {
		if (i == idx) {
			set_text(ret, f->names[i], strlen(f->names[i]));
			return;
		}
	}
	ret->kind = VALUE_NULL;
}

#define LOAD(type)                          \
	({                                  \
		type _v;                    \
		memcpy(&_v, p, sizeof(_v)); \
		_v;                         \
	})

/* Unsigned values are widened; all bits set in their own width means NULL under NULL_MAX. */
static void set_unsigned(const struct field *f, uint64_t v, uint64_t all_ones, struct value *ret)
{
	if ((f->null == NULL_ZERO && !v) || (f->null == NULL_MAX && v == all_ones)) {
		ret->kind = VALUE_NULL;
		return;
	}
	ret->kind = VALUE_INT;
	ret->i = v > INT64_MAX ? INT64_MAX : (int64_t)v;
}

static void set_signed(const struct field *f, int64_t v, struct value *ret)
{
	ret->kind = (f->null == NULL_ZERO && !v) || (f->null == NULL_MAX && v == -1) ? VALUE_NULL
										     : VALUE_INT;
	ret->i = v;
}

static void get_str(const struct batch *b, const struct field *f, struct str s, struct value *ret)
{
	if (!s.len && f->null == NULL_ZERO)
		ret->kind = VALUE_NULL;
	else
		set_text(ret, s.len ? b->arena + s.off : "", s.len);
}

void batch_get(const struct batch *b, uint32_t row, uint32_t col, struct value *ret)
{
	const struct field *f = &b->table->fields[col];
	const uint8_t *p = (const uint8_t *)batch_row(b, row) + f->off;

	switch (f->repr) {
	case REPR_U8:
		return set_unsigned(f, *p, UINT8_MAX, ret);
	case REPR_U16:
		return set_unsigned(f, LOAD(uint16_t), UINT16_MAX, ret);
	case REPR_U32:
		return set_unsigned(f, LOAD(uint32_t), UINT32_MAX, ret);
	case REPR_U64:
		return set_unsigned(f, LOAD(uint64_t), UINT64_MAX, ret);
	case REPR_I32:
		return set_signed(f, LOAD(int32_t), ret);
	case REPR_I64:
		return set_signed(f, LOAD(int64_t), ret);
	case REPR_F64:
		ret->d = LOAD(double);
		ret->kind = f->null == NULL_ZERO && ret->d == 0 ? VALUE_NULL : VALUE_REAL;
		return;
	case REPR_CHARS:
		return get_chars(f, (const char *)p, ret);
	case REPR_STR:
		return get_str(b, f, LOAD(struct str), ret);
	case REPR_IP:
		set_text(ret, ret->scratch, format_ip(ret->scratch, (const struct ip_addr *)p));
		if (!ret->len)
			ret->kind = VALUE_NULL; /* there is no text for "no address" */
		return;
	case REPR_ENUM:
		if ((f->null == NULL_ZERO && !*p) || (f->null == NULL_MAX && *p == UINT8_MAX))
			ret->kind = VALUE_NULL;
		else
			get_enum(f, *p, ret);
		return;
	case REPR_X_MAX:
		break;
	}
	ret->kind = VALUE_NULL;
}

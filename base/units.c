// SPDX-License-Identifier: Apache-2.0
/* Sizes, rates, CPU shares and durations as people write them. */
#include "base/units.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/macro.h"

#define BYTES_FORMS    "use a number with B, K, KiB, M, MiB, G, GiB, T or TiB"
#define DURATION_FORMS "use numbers with ns, us, ms, s, m, h, d or w, as in '10s' or '1h30m'"
#define CPU_FORMS      "use cores ('0.5', '2.0') or a share of one core ('150%')"

/* More digits than this behind the point say nothing: 1 ns in a year is 17 digits. */
#define FRACTION_DIGITS 12
/* Above any machine; keeps millicores far from overflow in the governor's sums. */
#define CPU_MAX_CORES 1000000

struct unit {
	const char *name;
	uint64_t factor;
};

static const struct unit byte_units[] = {
	{"", 1},
	{"b", 1},
	{"k", 1000},
	{"kb", 1000},
	{"kib", 1ull << 10},
	{"m", 1000000},
	{"mb", 1000000},
	{"mib", 1ull << 20},
	{"g", 1000000000},
	{"gb", 1000000000},
	{"gib", 1ull << 30},
	{"t", 1000000000000},
	{"tb", 1000000000000},
	{"tib", 1ull << 40},
};

static const struct unit duration_units[] = {
	{"ns", 1},
	{"us", NSEC_PER_USEC},
	{"ms", NSEC_PER_MSEC},
	{"s", NSEC_PER_SEC},
	{"m", 60 * NSEC_PER_SEC},
	{"h", 3600 * NSEC_PER_SEC},
	{"d", 86400 * NSEC_PER_SEC},
	{"w", 7 * 86400 * NSEC_PER_SEC},
};

/* An unsigned decimal: whole + fraction / scale. */
struct decimal {
	uint64_t whole, fraction, scale;
};

/* Moves *p behind the number. -EINVAL: no digit there; -ERANGE: whole part above uint64. */
static int decimal_parse(const char **p, struct decimal *d)
{
	const char *s = *p;
	unsigned int digits = 0;
	bool seen = false, over = false;

	*d = (struct decimal){.scale = 1};
	for (; isdigit((unsigned char)*s); s++) {
		seen = true;
		over |= __builtin_mul_overflow(d->whole, 10, &d->whole) ||
			__builtin_add_overflow(d->whole, (uint64_t)(*s - '0'), &d->whole);
	}
	if (*s == '.') {
		s++;
		if (!isdigit((unsigned char)*s))
			return -EINVAL;
		for (; isdigit((unsigned char)*s); s++) {
			if (digits++ >= FRACTION_DIGITS)
				continue;
			d->fraction = d->fraction * 10 + (*s - '0');
			d->scale *= 10;
		}
	}
	if (!seen)
		return -EINVAL;
	*p = s;
	return over ? -ERANGE : 0;
}

/* Rounds to the nearest; false above INT64_MAX. */
static bool decimal_scale(const struct decimal *d, uint64_t factor, uint64_t *ret)
{
	unsigned __int128 v = (unsigned __int128)d->whole * factor;

	v += ((unsigned __int128)d->fraction * factor + d->scale / 2) / d->scale;
	if (v > INT64_MAX)
		return false;
	*ret = v;
	return true;
}

static const struct unit *unit_find(const struct unit *units, size_t n, const char *name,
				    size_t len)
{
	for (size_t i = 0; i < n; i++)
		if (strlen(units[i].name) == len && !strncasecmp(units[i].name, name, len))
			return &units[i];
	return NULL;
}

static const char *skip_spaces(const char *s)
{
	while (*s == ' ' || *s == '\t')
		s++;
	return s;
}

/* len: how much of text counts, without trailing spaces. */
static int parse_bytes(const char *text, size_t len, const char *suffix, uint64_t *ret,
		       struct err *err)
{
	const char *p = skip_spaces(text), *end = text + len;
	const struct unit *unit;
	struct decimal d;
	int r;

	r = decimal_parse(&p, &d);
	if (r == -ERANGE || (!r && p > end))
		goto range;
	if (r)
		return err_set(err, -EINVAL, "'%.64s': not a size, %s%s", text, BYTES_FORMS,
			       suffix);
	p = skip_spaces(p);
	if (p > end)
		p = end;
	unit = unit_find(byte_units, ARRAY_SIZE(byte_units), p, end - p);
	if (!unit)
		return err_set(err, -EINVAL, "'%.64s': unknown unit '%.*s', %s%s", text,
			       (int)(end - p > 16 ? 16 : end - p), p, BYTES_FORMS, suffix);
	if (!decimal_scale(&d, unit->factor, ret))
		goto range;
	return 0;
range:
	return err_set(err, -ERANGE, "'%.64s': above the largest size, 8388607TiB", text);
}

static size_t trimmed_len(const char *text)
{
	size_t len = strlen(text);

	while (len && (text[len - 1] == ' ' || text[len - 1] == '\t'))
		len--;
	return len;
}

int units_parse_bytes(const char *text, uint64_t *ret, struct err *err)
{
	return parse_bytes(text, trimmed_len(text), "", ret, err);
}

int units_parse_rate(const char *text, uint64_t *ret, struct err *err)
{
	size_t len = trimmed_len(text);

	if (len >= 2 && text[len - 2] == '/' && (text[len - 1] == 's' || text[len - 1] == 'S'))
		len -= 2;
	while (len && text[len - 1] == ' ')
		len--;
	return parse_bytes(text, len, ", with or without '/s'", ret, err);
}

int units_parse_cpu(const char *text, uint64_t *ret_millicores, struct err *err)
{
	const char *p = skip_spaces(text);
	bool percent = false;
	struct decimal d;
	uint64_t v;
	int r;

	r = decimal_parse(&p, &d);
	if (r == -ERANGE)
		goto range;
	if (r)
		goto bad;
	p = skip_spaces(p);
	if (*p == '%') {
		percent = true;
		p = skip_spaces(p + 1);
	}
	if (*p)
		goto bad;
	if (!decimal_scale(&d, percent ? 10 : 1000, &v) || v > CPU_MAX_CORES * 1000ull)
		goto range;
	*ret_millicores = v;
	return 0;
bad:
	return err_set(err, -EINVAL, "'%.64s': not a CPU share, %s", text, CPU_FORMS);
range:
	return err_set(err, -ERANGE, "'%.64s': above %d cores", text, CPU_MAX_CORES);
}

int units_parse_duration(const char *text, uint64_t *ret_ns, struct err *err)
{
	const char *p = skip_spaces(text), *name;
	const struct unit *unit;
	uint64_t sum = 0, part;
	struct decimal d;
	int r;

	do {
		r = decimal_parse(&p, &d);
		if (r == -ERANGE)
			goto range;
		if (r)
			return err_set(err, -EINVAL, "'%.64s': not a duration, %s", text,
				       DURATION_FORMS);
		p = skip_spaces(p);
		for (name = p; isalpha((unsigned char)*p);)
			p++;
		unit = unit_find(duration_units, ARRAY_SIZE(duration_units), name, p - name);
		if (!unit && p == name && !*p && !d.whole && !d.fraction)
			break; /* a bare 0 */
		if (!unit && p == name)
			return err_set(err, -EINVAL, "'%.64s': a number without unit, %s", text,
				       DURATION_FORMS);
		if (!unit)
			return err_set(err, -EINVAL, "'%.64s': unknown unit '%.*s', %s", text,
				       (int)(p - name > 16 ? 16 : p - name), name, DURATION_FORMS);
		if (!decimal_scale(&d, unit->factor, &part) ||
		    __builtin_add_overflow(sum, part, &sum) || sum > INT64_MAX)
			goto range;
		p = skip_spaces(p);
	} while (*p);
	*ret_ns = sum;
	return 0;
range:
	return err_set(err, -ERANGE, "'%.64s': above the longest duration, 292 years", text);
}

/* "1.5" + unit from value / factor with up to decimals digits, zeros at the end left out. */
static void format_scaled(char *dst, size_t cap, uint64_t value, uint64_t factor, int decimals,
			  const char *unit)
{
	char num[48];
	size_t n;

	snprintf(num, sizeof(num), "%.*f", decimals, (double)value / (double)factor);
	n = strlen(num);
	if (strchr(num, '.')) {
		while (num[n - 1] == '0')
			n--;
		if (num[n - 1] == '.')
			n--;
	}
	snprintf(dst, cap, "%.*s%s", (int)n, num, unit);
}

char *units_format_bytes(char *dst, size_t cap, uint64_t bytes)
{
	static const char *const names[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
	unsigned int u = 0;

	/* 1023.95 would be shown as 1024: one unit up then. */
	while (u + 1 < ARRAY_SIZE(names) &&
	       (double)bytes / (double)(1ull << (10 * u)) >= (u ? 1023.95 : 1024))
		u++;
	format_scaled(dst, cap, bytes, 1ull << (10 * u), u ? 1 : 0, names[u]);
	return dst;
}

/* From a minute on, the two leading units; below, one unit with up to three decimals. */
char *units_format_duration(char *dst, size_t cap, uint64_t ns)
{
	uint64_t s = ns / NSEC_PER_SEC, major, minor;
	const char *major_name, *minor_name;

	if (!ns) {
		snprintf(dst, cap, "0s");
		return dst;
	}
	if (s < 60) {
		if (ns < NSEC_PER_USEC)
			format_scaled(dst, cap, ns, 1, 0, "ns");
		else if (ns < NSEC_PER_MSEC)
			format_scaled(dst, cap, ns, NSEC_PER_USEC, 3, "us");
		else if (ns < NSEC_PER_SEC)
			format_scaled(dst, cap, ns, NSEC_PER_MSEC, 3, "ms");
		else
			format_scaled(dst, cap, ns, NSEC_PER_SEC, 3, "s");
		return dst;
	}
	if (s < 3600) {
		major = s / 60, minor = s % 60, major_name = "m", minor_name = "s";
	} else if (s < 86400) {
		major = s / 3600, minor = s % 3600 / 60, major_name = "h", minor_name = "m";
	} else {
		major = s / 86400, minor = s % 86400 / 3600, major_name = "d", minor_name = "h";
	}
	if (minor)
		snprintf(dst, cap, "%" PRIu64 "%s%" PRIu64 "%s", major, major_name, minor,
			 minor_name);
	else
		snprintf(dst, cap, "%" PRIu64 "%s", major, major_name);
	return dst;
}

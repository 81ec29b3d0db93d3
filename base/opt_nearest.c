// SPDX-License-Identifier: Apache-2.0
/* "Did you mean": the nearest of some names. */
#include <ctype.h>
#include <limits.h>
#include <string.h>

#include "base/macro.h"
#include "base/opt.h"

/* Distance between keys is worked out in a table on the stack; no key of ours is near this. */
#define KEY_MAX 64

/* Edit distance with neighbouring letters swapped as one edit; case is ignored. */
static unsigned int distance(const char *a, const char *b)
{
	size_t na = strlen(a), nb = strlen(b);
	unsigned char rows[3][KEY_MAX + 1];
	unsigned char *before = rows[0], *prev = rows[1], *cur = rows[2];

	if (na > KEY_MAX || nb > KEY_MAX)
		return UINT_MAX;
	for (size_t j = 0; j <= nb; j++)
		prev[j] = j;
	memset(before, 0, KEY_MAX + 1);
	for (size_t i = 1; i <= na; i++) {
		unsigned char *t;

		cur[0] = i;
		for (size_t j = 1; j <= nb; j++) {
			int ca = tolower((unsigned char)a[i - 1]),
			    cb = tolower((unsigned char)b[j - 1]);
			unsigned int d = prev[j - 1] + (ca != cb);

			if (prev[j] + 1u < d)
				d = prev[j] + 1;
			if (cur[j - 1] + 1u < d)
				d = cur[j - 1] + 1;
			if (i > 1 && j > 1 && ca != cb && ca == tolower((unsigned char)b[j - 2]) &&
			    tolower((unsigned char)a[i - 2]) == cb && before[j - 2] + 1u < d)
				d = before[j - 2] + 1;
			cur[j] = d;
		}
		t = before;
		before = prev;
		prev = cur;
		cur = t;
	}
	return prev[nb];
}

const char *opt_nearest(const char *key, const char *const *names, size_t n)
{
	const char *best = NULL;
	/* A third of the letters wrong is still a typing mistake; more is another word. */
	unsigned int limit = strlen(key) < 3 ? 1 : strlen(key) / 3;

	for (size_t i = 0; i < n; i++) {
		const char *leaf = strrchr(names[i], '.');
		unsigned int d = distance(key, names[i]);

		/* "max_bytes" for "store.max_bytes" */
		if (leaf && distance(key, leaf + 1) < d)
			d = distance(key, leaf + 1);
		if (d <= limit) {
			best = names[i];
			if (!d)
				break;
			limit = d - 1;
		}
	}
	return best;
}

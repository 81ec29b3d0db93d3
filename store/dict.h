// SPDX-License-Identifier: Apache-2.0
/* The dictionary of one segment in memory: text or address -> small integer, bounded. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "bpf/table.h"

/* More distinct values than that in one segment: they aren't worth a dictionary, cells hold them
 * inline. */
#define DICT_MAX_STRINGS 65536u
/* A longer text would take the room of many. */
#define DICT_MAX_LEN 1023u
/* One longer than that has to come twice: those that never come again must not fill the dictionary.
 */
#define DICT_ONCE_LEN 255u
/* Long texts that came once lately; a power of two. */
#define DICT_SEEN 256u
/* Bytes of all keys: bounds the memory of a ring's dictionary at about 6 MiB with its tables. */
#define DICT_MAX_BYTES (4u << 20)

enum dict_kind {
	DICT_TEXT,
	DICT_IP4,
	DICT_IP6,
	DICT_X_MAX,
};

struct dict_key {
	uint32_t id, off;
	uint16_t len;
	uint8_t kind;
};

struct dict_slot {
	uint32_t hash;
	uint32_t key; /* index + 1; 0: free */
};

/* One thread's. Zeroed is empty. */
struct dict {
	struct dict_key *keys;
	struct dict_slot *slots;
	char *bytes;
	uint32_t nkeys, keys_cap, slots_cap; /* slots_cap: a power of two, at least twice nkeys */
	uint32_t nbytes, bytes_cap;
	uint32_t saved; /* keys[0..saved) are in the segment's table */
	uint32_t last_id;
	uint64_t seed;       /* peers choose addresses and names: they must not choose collisions */
	uint64_t generation; /* of ids: changes with each dict_reset, for caches above it */
	uint64_t full;       /* values refused for want of room */
	uint32_t seen[DICT_SEEN]; /* their hashes */
};

void dict_free(struct dict *d);
/* Empty, for a new segment; memory is kept. */
void dict_reset(struct dict *d);
/* The id (from 1 on), new or known; 0 when there's no room, or for a long text that is new: the cell
 * holds the text itself. */
uint32_t dict_text(struct dict *d, const char *s, uint32_t len);
uint32_t dict_ip(struct dict *d, const struct ip_addr *ip);
/* Puts back a row of the strings table; an address text becomes an address key. */
int dict_load(struct dict *d, uint32_t id, const char *s, uint32_t len);
/* Text of keys[idx]; scratch holds addresses and cleaned bytes. */
const char *dict_key_text(const struct dict *d, uint32_t idx, char *scratch, uint32_t cap,
			  uint32_t *ret_len);

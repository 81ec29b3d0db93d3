// SPDX-License-Identifier: Apache-2.0
/* Tags from the configuration: a list of key=value. */
#include "daemon/tags.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

#define KEY_LEN	  63
#define VALUE_LEN 255

struct tag {
	char key[KEY_LEN + 1], value[VALUE_LEN + 1];
};

struct tags {
	size_t n;
	struct tag all[TAGS_MAX];
};

int tags_check(const char *key, size_t key_len, const char *value, struct err *err)
{
	if (key_len == 0 || key_len > KEY_LEN || !isalpha((unsigned char)*key))
		return err_set(
			err, -EINVAL,
			"tag '%.*s': a key begins with a letter and has at most %d characters",
			(int)(key_len > KEY_LEN ? KEY_LEN : key_len), key, KEY_LEN);
	for (size_t i = 0; i < key_len; i++)
		if (!isalnum((unsigned char)key[i]) && !strchr("_.-", key[i]))
			return err_set(err, -EINVAL,
				       "tag '%.*s': a key has letters, digits, '_', '.' and '-'",
				       (int)key_len, key);
	if (strlen(value) > VALUE_LEN)
		return err_set(err, -EINVAL, "tag '%.*s': its value has more than %d bytes",
			       (int)key_len, key, VALUE_LEN);
	for (const char *p = value; *p; p++)
		if (iscntrl((unsigned char)*p) || *p == ',')
			return err_set(err, -EINVAL,
				       "tag '%.*s': its value has a comma or a control character",
				       (int)key_len, key);
	return 0;
}

static int by_key(const void *a, const void *b)
{
	return strcmp(((const struct tag *)a)->key, ((const struct tag *)b)->key);
}

static int add(struct tags *t, const char *key, size_t key_len, const char *value, struct err *err)
{
	struct tag *tag = &t->all[t->n];
	int r = tags_check(key, key_len, value, err);

	if (r < 0)
		return r;
	if (t->n == TAGS_MAX)
		return err_set(err, -EINVAL, "more than %d tags", TAGS_MAX);
	memcpy(tag->key, key, key_len);
	tag->key[key_len] = '\0';
	memcpy(tag->value, value, strlen(value) + 1);
	for (size_t i = 0; i < t->n; i++)
		if (strcmp(t->all[i].key, tag->key) == 0)
			return err_set(err, -EINVAL, "tag '%s' is there twice", tag->key);
	t->n++;
	return 0;
}

static int add_host(struct tags *t, const struct opt_set *values, struct err *err)
{
	const char *name = opt_str(values, "hostname");
	char own[VALUE_LEN + 1] = "";

	for (size_t i = 0; i < t->n; i++)
		if (strcmp(t->all[i].key, "host") == 0)
			return 0;
	if (!*name && gethostname(own, sizeof(own) - 1) == 0)
		name = own;
	return add(t, "host", 4, name, err);
}

int tags_new(struct tags **ret, const struct opt_set *values, struct err *err)
{
	_cleanup_(tags_freep) struct tags *t = calloc(1, sizeof(*t));
	const char *item, *eq;
	int r = 0;

	if (!t)
		return err_set(err, -ENOMEM, "out of memory");
	for (size_t i = 0; r == 0 && (item = opt_item(values, "tags", i)); i++) {
		eq = strchr(item, '=');
		if (!eq)
			return err_set(err, -EINVAL, "tags: '%.64s': write key=value", item);
		r = add(t, item, (size_t)(eq - item), eq + 1, err);
	}
	if (r == 0)
		r = add_host(t, values, err);
	if (r < 0)
		return r;
	qsort(t->all, t->n, sizeof(t->all[0]), by_key);
	*ret = TAKE_PTR(t);
	return 0;
}

void tags_free(struct tags *t)
{
	free(t);
}

size_t tags_count(const struct tags *t)
{
	return t->n;
}

const char *tags_key(const struct tags *t, size_t i)
{
	return t->all[i].key;
}

const char *tags_value(const struct tags *t, size_t i)
{
	return t->all[i].value;
}

int tags_put(const struct opt_set *values, const char *key, const char *value, char **ret,
	     struct err *err)
{
	_cleanup_buf_ struct buf out = {0};
	size_t len = strlen(key);
	const char *item;
	int r = tags_check(key, len, value, err);

	if (r < 0)
		return r;
	for (size_t i = 0; (item = opt_item(values, "tags", i)); i++) {
		if (strncmp(item, key, len) == 0 && item[len] == '=')
			continue;
		buf_puts(&out, item);
		buf_putc(&out, ',');
	}
	buf_puts(&out, key);
	buf_putc(&out, '=');
	buf_puts(&out, value);
	*ret = buf_status(&out) < 0 ? NULL : strdup(out.data);
	return *ret ? 0 : err_set(err, -ENOMEM, "out of memory");
}

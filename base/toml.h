// SPDX-License-Identifier: Apache-2.0
/* The only door to toml++: a TOML file as a list of leaves. */
#pragma once

#include <stdint.h>

#include "base/err.h"

/*
 * Called for every leaf in file order: key is dotted ("plugins.netflow.interval"), text the value as an option takes it
 * (strings without quotes, numbers and booleans as written, arrays of scalars joined by ","), line 1-based.
 * A negative result ends the walk and is returned.
 */
typedef int (*toml_leaf_fn)(void *arg, const char *key, const char *text, unsigned int line, struct err *err);

/* -ENOENT if there is no file; -EINVAL with file, line and column in *err for bad TOML. */
int toml_read_file(const char *path, toml_leaf_fn fn, void *arg, struct err *err);
int toml_read_text(const char *text, const char *name, toml_leaf_fn fn, void *arg, struct err *err);

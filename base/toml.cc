// SPDX-License-Identifier: Apache-2.0
/* The only door to toml++: a TOML file as a list of leaves. */
#include <stdlib.h>
#include <unistd.h>

extern "C" {
#include "base/toml.h"
}

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <algorithm>
#include <new>
#include <sstream>
#include <string>
#include <vector>

#define TOML_HEADER_ONLY 1
#define TOML_EXCEPTIONS 0
#define TOML_ENABLE_FORMATTERS 1
#include <toml++/toml.h>

namespace {

/* Larger than any configuration; a wrong path (a log, a database) is refused instead of read. */
constexpr size_t file_max = 1024 * 1024;

struct fd_owner {
	int fd;
	~fd_owner() { close(fd); }
};

struct leaf {
	std::string key, text;
	unsigned int line, column;
};

struct walk {
	const char *name;
	struct err *err;
	std::vector<leaf> leaves;
};

/* What an option's parser reads. */
std::string scalar_text(const toml::node &node)
{
	if (auto s = node.as_string())
		return s->get();
	if (auto b = node.as_boolean())
		return b->get() ? "true" : "false";
	if (auto i = node.as_integer())
		return std::to_string(i->get());

	std::ostringstream os;
	if (auto f = node.as_floating_point()) {
		os.precision(15); /* what a double keeps of a decimal text */
		os << f->get();
	} else if (auto d = node.as_date()) {
		os << d->get();
	} else if (auto t = node.as_time()) {
		os << t->get();
	} else if (auto dt = node.as_date_time()) {
		os << dt->get();
	}
	return os.str();
}

int array_text(walk &w, const std::string &key, const toml::array &array, std::string &ret)
{
	for (auto &item : array) {
		if (item.is_table() || item.is_array())
			return err_set(w.err, -EINVAL, "%s:%u: %s: a list may hold only plain values",
				       w.name, item.source().begin.line, key.c_str());

		std::string text = scalar_text(item);
		if (text.find(',') != std::string::npos)
			return err_set(w.err, -EINVAL, "%s:%u: %s: a list item must not hold a comma",
				       w.name, item.source().begin.line, key.c_str());
		if (&item != &array.front())
			ret += ",";
		ret += text;
	}
	return 0;
}

int collect(walk &w, const std::string &prefix, const toml::table &table)
{
	for (auto &&[k, node] : table) {
		std::string key = prefix.empty() ? std::string(k.str()) : prefix + "." + std::string(k.str());
		std::string text;

		if (auto sub = node.as_table()) {
			int r = collect(w, key, *sub);
			if (r)
				return r;
			continue;
		}
		if (auto array = node.as_array()) {
			int r = array_text(w, key, *array, text);
			if (r)
				return r;
		} else {
			text = scalar_text(node);
		}
		if (text.find('\0') != std::string::npos)
			return err_set(w.err, -EINVAL, "%s:%u: %s: a value must not hold a NUL byte",
				       w.name, k.source().begin.line, key.c_str());
		w.leaves.push_back({key, text, k.source().begin.line, k.source().begin.column});
	}
	return 0;
}

int read_text(std::string_view text, const char *name, toml_leaf_fn fn, void *arg, struct err *err)
{
	toml::parse_result result = toml::parse(text);
	if (!result) {
		const toml::parse_error &e = result.error();
		std::string why(e.description());

		return err_set(err, -EINVAL, "%s:%u:%u: %s", name, e.source().begin.line,
			       e.source().begin.column, why.c_str());
	}

	walk w{name, err, {}};
	int r = collect(w, "", result.table());
	if (r)
		return r;
	/* toml++ keeps tables sorted by key. */
	std::sort(w.leaves.begin(), w.leaves.end(), [](const leaf &a, const leaf &b) {
		return a.line != b.line ? a.line < b.line : a.column < b.column;
	});
	for (auto &l : w.leaves) {
		r = fn(arg, l.key.c_str(), l.text.c_str(), l.line, err);
		if (r < 0)
			return r;
	}
	return 0;
}

int load_file(int fd, const char *path, std::string &ret, struct err *err)
{
	struct stat st;
	char chunk[4096];
	ssize_t n;

	if (fstat(fd, &st) < 0)
		return err_set(err, -errno, "cannot examine '%s': %s", path, strerror(errno));
	if (S_ISDIR(st.st_mode))
		return err_set(err, -EISDIR, "'%s' is a directory, name a file", path);
	while ((n = read(fd, chunk, sizeof(chunk))) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_set(err, -errno, "cannot read '%s': %s", path, strerror(errno));
		if (ret.size() + n > file_max)
			return err_set(err, -EFBIG, "'%s' is larger than 1MiB: not a configuration file", path);
		ret.append(chunk, n);
	}
	return 0;
}

} // namespace

int toml_read_text(const char *text, const char *name, toml_leaf_fn fn, void *arg, struct err *err)
try {
	return read_text(text, name, fn, arg, err);
} catch (const std::bad_alloc &) {
	return err_set(err, -ENOMEM, "no memory to read '%s'", name);
}

int toml_read_file(const char *path, toml_leaf_fn fn, void *arg, struct err *err)
try {
	std::string text;
	/* O_NONBLOCK: a FIFO in place of the file must not hold up the start. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return err_set(err, -errno, "cannot open '%s': %s", path, strerror(errno));

	fd_owner owner{fd};
	int r = load_file(fd, path, text, err);
	if (r)
		return r;
	return read_text(text, path, fn, arg, err);
} catch (const std::bad_alloc &) {
	return err_set(err, -ENOMEM, "no memory to read '%s'", path);
}

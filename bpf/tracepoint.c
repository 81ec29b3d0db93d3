// SPDX-License-Identifier: Apache-2.0
/* Numbers of tracepoints from tracefs, mounted or not, and perf events that carry programs. */
#include "bpf/tracepoint.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/vfs.h>

#include "base/macro.h"

/* A directory of tracefs that somebody has mounted. */
static int open_mounted(void)
{
	static const char *const roots[] = {"/sys/kernel/tracing", "/sys/kernel/debug/tracing"};

	for (size_t i = 0; i < ARRAY_SIZE(roots); i++) {
		_cleanup_close_ int fd = open(roots[i], O_PATH | O_DIRECTORY | O_CLOEXEC);
		struct statfs st;

		if (fd >= 0 && fstatfs(fd, &st) == 0 && st.f_type == TRACEFS_MAGIC &&
		    faccessat(fd, "events", X_OK, 0) == 0)
			return TAKE_FD(fd);
	}
	return -ENOENT;
}

/* The same without a place in the tree. Not the first choice: before 6.0 another mount resets the
 * owner and mode that somebody gave to the root of the first. */
static int open_detached(void)
{
	_cleanup_close_ int fs = fsopen("tracefs", FSOPEN_CLOEXEC);
	int fd;

	if (fs < 0 || fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return -errno;
	fd = fsmount(fs, FSMOUNT_CLOEXEC,
		     MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
	return fd < 0 ? -errno : fd;
}

static int explain(int r, char *why, size_t cap)
{
	if (r == -ENODEV)
		snprintf(why, cap, "the kernel has no tracefs (CONFIG_FTRACE, "
				   "CONFIG_EVENT_TRACING)");
	else
		snprintf(why, cap,
			 "tracefs isn't mounted, and a mount of our own was refused (%s: "
			 "CAP_SYS_ADMIN, or fsopen in a filter of system calls); mount -t tracefs "
			 "tracefs /sys/kernel/tracing",
			 strerror(-r));
	return -EOPNOTSUPP;
}

static int open_tracefs(const char **how, char *why, size_t cap)
{
	int fd = open_mounted();

	*how = "mounted";
	if (fd >= 0)
		return fd;
	fd = open_detached();
	*how = "not mounted: read from a mount of our own that nobody sees";
	return fd < 0 ? explain(fd, why, cap) : fd;
}

int tracepoint_tracefs(char *how, size_t cap)
{
	const char *text;
	_cleanup_close_ int fd = open_tracefs(&text, how, cap);

	if (fd < 0)
		return fd;
	snprintf(how, cap, "%s", text);
	return 0;
}

int tracepoint_id(const char *event, char *why, size_t cap)
{
	const char *how;
	_cleanup_close_ int root = open_tracefs(&how, why, cap), fd = -1;
	char path[160], text[32];
	ssize_t n;
	long id;

	if (root < 0)
		return root;
	snprintf(path, sizeof(path), "events/%.128s/id", event);
	fd = openat(root, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT) {
		snprintf(why, cap, "the kernel has no tracepoint %.96s", event);
		return -ENOENT;
	}
	n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (n < 0) {
		int r = -errno;

		snprintf(why, cap, "cannot read the number of tracepoint %.96s: %s", event,
			 strerror(-r));
		return r;
	}
	text[n] = '\0';
	id = strtol(text, NULL, 10);
	if (id <= 0 || id > 65535) { /* of an unsigned short of the kernel */
		snprintf(why, cap, "tracefs says '%.16s' for the number of %.96s", text, event);
		return -EBADMSG;
	}
	return (int)id;
}

/* One CPU is enough: programs hang on the tracepoint, not on the event. */
static int open_event(int id)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_TRACEPOINT,
		.size = sizeof(attr),
		.config = (uint64_t)id,
	};
	long fd = syscall(SYS_perf_event_open, &attr, -1, 0, -1, PERF_FLAG_FD_CLOEXEC);

	return fd < 0 ? -errno : (int)fd;
}

int tracepoint_attach(const struct bpf_program *prog, struct bpf_link **ret, struct err *err)
{
	const char *section = bpf_program__section_name(prog), *sep = strchr(section, '/'),
		   *event = sep ? sep + 1 : section;
	_cleanup_close_ int fd = -1;
	struct bpf_link *link;
	char why[200];
	int id;

	id = tracepoint_id(event, why, sizeof(why));
	if (id < 0)
		return err_set(err, id, "cannot attach %s: %s", bpf_program__name(prog), why);
	fd = open_event(id);
	if (fd < 0)
		return err_set(err, fd, "cannot open a perf event for tp/%s: %s", event,
			       strerror(-fd));
	link = bpf_program__attach_perf_event(prog, fd);
	if (!link)
		return err_set(err, -errno, "cannot attach %s (tp/%s): %s", bpf_program__name(prog),
			       event, strerror(errno));
	TAKE_FD(fd); /* the link closes it */
	*ret = link;
	return 0;
}

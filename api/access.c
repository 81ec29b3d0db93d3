// SPDX-License-Identifier: Apache-2.0
/* Who read what: each read of rows that has ended, or may never end, as the daemon's access log
 * wants it. */
#include <string.h>

#include "api/service.h"
#include "api/status.h"
#include "base/utf8.h"

/* The method's own name, behind the service's. */
static const char *short_name(const struct rpc_method *m)
{
	const char *slash = strrchr(m->path, '/');

	return slash ? slash + 1 : m->path;
}

/* At most that many bytes, no character cut in two. */
static bool cut(struct buf *text)
{
	size_t len = API_ACCESS_SQL;

	if (!text->data || text->len <= len)
		return false;
	while (len && ((unsigned char)text->data[len] & 0xc0) == 0x80)
		len--;
	text->data[len] = '\0';
	text->len = len;
	return true;
}

void access_read(void *ctx, const struct rpc_read *read)
{
	struct api_server *s = ctx;
	bool tls = strcmp(read->caller->transport, "unix") != 0, truncated;
	const char *status = read->begun ? "STARTED" : rpc_code_name(read->code);
	_cleanup_buf_ struct buf text = {0};

	if (!s->options.ops->access)
		return;
	read->method->text(read->request, &text);
	truncated = cut(&text) || text.failed;
	s->options.ops->access(s->options.ctx, &(struct api_access){
						       .method = short_name(read->method),
						       .transport = read->caller->transport,
						       .uid = read->caller->uid,
						       .pid = tls ? 0 : read->caller->pid,
						       .exe = read->exe,
						       .subject = tls ? read->caller->subject : "",
						       .address = tls ? read->address : "",
						       .sql = text.data ? text.data : "",
						       .truncated = truncated,
						       .rows = read->rows,
						       .bytes = read->bytes,
						       .duration_ns = read->duration_ns,
						       .status = status,
					       });
}

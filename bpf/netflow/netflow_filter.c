// SPDX-License-Identifier: Apache-2.0
/* The options ports, ips and hostnames on flows. */
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "base/services.h"
#include "bpf/ends.h"
#include "bpf/netflow/netflow_priv.h"

int netflow_filter_read(struct instance *in, struct err *err)
{
	const struct netflow_lists lists = {
		.ports = opt_str(in->opts, "ports"),
		.ips = opt_str(in->opts, "ips"),
		.hostnames = opt_str(in->opts, "hostnames"),
	};
	_cleanup_(services_freep) struct services *services = NULL;
	struct netflow_match *m = NULL;
	int r;

	if (*lists.ports || *lists.ips || *lists.hostnames) {
		r = services_new(&services);
		if (r < 0)
			return err_set(err, r, "out of memory");
		(void)services_add_file(services,
					SERVICES_FILE); /* a name that is missing then is refused */
		r = netflow_match_new(&m, &lists, services, err);
		if (r < 0)
			return r;
	}
	netflow_match_free(netflow(in)->match);
	netflow(in)->match = m;
	return 0;
}

/* The port that says which service it is; 0: the protocol has none. */
static uint16_t service_port(const struct flow_key *key)
{
	if (key->transport != IPPROTO_TCP && key->transport != IPPROTO_UDP &&
	    key->transport != IPPROTO_SCTP)
		return 0;
	return key->dir == NETFLOW_DIR_INCOMING ? key->sport : key->dport;
}

/* A remote end without a name goes by its address. */
static bool name_matches(struct instance *in, const struct netflow_match *m,
			 const struct flow_key *key)
{
	enum domain_origin origin;
	struct ip_addr ip = {0};
	const char *name = "";
	char text[46];

	ip_addr_set(&ip, key->dst, key->family);
	if (in->enrich)
		name = in->enrich->domain(in->enrich_ctx, key->netns, &ip, &origin);
	return netflow_match_name(m, *name ? name : ip_addr_format(text, &ip));
}

bool netflow_filter_drops(struct instance *in, const struct flow_key *key)
{
	const struct netflow_match *m = netflow(in)->match;

	if (!m)
		return false;
	if (netflow_match_port(m, service_port(key)) &&
	    netflow_match_ip(m, key->family, key->dst) &&
	    (!netflow_match_wants_name(m) || name_matches(in, m, key)))
		return false;
	in->count.filtered++;
	return true;
}

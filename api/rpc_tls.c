// SPDX-License-Identifier: Apache-2.0
/* The mTLS listener: certificates that can be exchanged while it runs, and the role that a client's names give. */
#define LOG_MODULE "api"
#include <errno.h>
#include <grpc/grpc_security.h>
#include <stdio.h>
#include <string.h>

#include "api/pem.h"
#include "api/rpc_internal.h"
#include "base/log.h"
#include "base/utf8.h"

/* Called by the core for every new TLS connection, one at a time. */
static grpc_ssl_certificate_config_reload_status fetch(void *arg, grpc_ssl_server_certificate_config **ret)
{
	struct rpc *rpc = arg;
	const struct rpc_options *o = &rpc->options;
	uint32_t generation = atomic_load(&rpc->tls_generation);
	_cleanup_pem_ struct pem pem = {};
	grpc_ssl_pem_key_cert_pair pair;
	struct err err = {};

	if (rpc->tls_loaded == generation)
		return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
	/* Once a generation: bad files are reported once and the old identity stays. */
	rpc->tls_loaded = generation;
	if (pem_load(&pem, o->tls_ca, o->tls_cert, o->tls_key, &err) < 0) {
		log_warn("TLS files not reloaded, keeping the old ones: %s", err.msg);
		return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_FAIL;
	}
	pair = (grpc_ssl_pem_key_cert_pair){pem.key, pem.cert};
	*ret = grpc_ssl_server_certificate_config_create(pem.ca, &pair, 1);
	return *ret ? GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW : GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_FAIL;
}

int rpc_tls_open(struct rpc *rpc, struct err *err)
{
	const struct rpc_options *o = &rpc->options;
	grpc_ssl_server_credentials_options *options;
	_cleanup_pem_ struct pem pem = {};
	grpc_server_credentials *creds;
	int r;

	if (!o->tls_ca || !o->tls_cert || !o->tls_key)
		return err_set(err, -EINVAL, "api.listen '%s' needs api.tls_ca, api.tls_cert and api.tls_key", o->listen);
	r = pem_load(&pem, o->tls_ca, o->tls_cert, o->tls_key, err);
	if (r < 0)
		return r;
	atomic_store(&rpc->tls_generation, 1);
	options = grpc_ssl_server_credentials_create_options_using_config_fetcher(
		GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY, fetch, rpc);
	creds = options ? grpc_ssl_server_credentials_create_with_options(options) : NULL;
	if (!creds)
		return err_set(err, -EIO, "cannot set up TLS for '%s'", o->listen);
	rpc->tls_port = grpc_server_add_http2_port(rpc->server, o->listen, creds);
	grpc_server_credentials_release(creds);
	if (!rpc->tls_port)
		return err_set(err, -EADDRINUSE, "cannot listen on api.listen '%s': bad address, or in use", o->listen);
	log_info("listening on '%s' (port %d) with mutual TLS", o->listen, rpc->tls_port);
	return 0;
}

static bool has_name(const grpc_auth_context *ctx, const char *property, const char *wanted)
{
	grpc_auth_property_iterator it = grpc_auth_context_find_properties_by_name(ctx, property);
	const grpc_auth_property *p;

	while ((p = grpc_auth_property_iterator_next(&it)))
		if (p->value_length == strlen(wanted) && memcmp(p->value, wanted, p->value_length) == 0)
			return true;
	return false;
}

/* By SAN, never by common name: a CA checks the first and often lets anybody choose the second. */
static bool is_admin(const struct rpc_options *o, const grpc_auth_context *ctx)
{
	for (size_t i = 0; o->tls_admins && o->tls_admins[i]; i++)
		if (has_name(ctx, GRPC_X509_SAN_PROPERTY_NAME, o->tls_admins[i]) ||
		    has_name(ctx, GRPC_PEER_URI_PROPERTY_NAME, o->tls_admins[i]) ||
		    has_name(ctx, GRPC_PEER_DNS_PROPERTY_NAME, o->tls_admins[i]))
			return true;
	return false;
}

static void copy_subject(struct rpc_caller *caller, const grpc_auth_context *ctx)
{
	grpc_auth_property_iterator it = grpc_auth_context_find_properties_by_name(ctx, GRPC_X509_SUBJECT_PROPERTY_NAME);
	const grpc_auth_property *p = grpc_auth_property_iterator_next(&it);

	if (p)
		utf8_sanitize(caller->subject, sizeof(caller->subject), p->value, p->value_length);
}

enum rpc_code rpc_tls_identify(struct rpc_call *call, const char *peer _unused_, const char **why)
{
	grpc_auth_context *ctx = grpc_call_auth_context(call->call);
	enum rpc_code code = RPC_UNAUTHENTICATED;

	*why = "a client certificate is needed";
	if (ctx && grpc_auth_context_peer_is_authenticated(ctx) &&
	    (has_name(ctx, GRPC_TRANSPORT_SECURITY_TYPE_PROPERTY_NAME, "ssl") ||
	     has_name(ctx, GRPC_TRANSPORT_SECURITY_TYPE_PROPERTY_NAME, "tls"))) {
		call->caller = (struct rpc_caller){.transport = "tls",
						   .role = is_admin(&call->rpc->options, ctx) ? RPC_ADMIN : RPC_VIEWER};
		copy_subject(&call->caller, ctx);
		code = RPC_OK;
	}
	grpc_auth_context_release(ctx);
	return code;
}

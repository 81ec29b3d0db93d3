// SPDX-License-Identifier: Apache-2.0
/* Server reflection, v1 and v1alpha: the messages are wire-identical, so one handler serves both. */
#include <stdio.h>
#include <string.h>

#include "api/service.h"
#include "grpc/reflection/v1/reflection.pb-c.h"

typedef Grpc__Reflection__V1__ServerReflectionRequest Request;
typedef Grpc__Reflection__V1__ServerReflectionResponse Response;

#define ASKED(x) GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_##x
#define ANSWER(x) GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_##x

static void send_error(struct rpc_call *call, Response *answer, const char *what, const char *name)
{
	Grpc__Reflection__V1__ErrorResponse error = GRPC__REFLECTION__V1__ERROR_RESPONSE__INIT;
	char text[300];

	snprintf(text, sizeof(text), "%s not found: %.200s", what, name);
	error.error_code = RPC_NOT_FOUND;
	error.error_message = text;
	/* A name may have been cut inside a character. */
	while (*text && (text[strlen(text) - 1] & 0x80) && strlen(name) > 200)
		text[strlen(text) - 1] = 0;
	answer->message_response_case = ANSWER(ERROR_RESPONSE);
	answer->error_response = &error;
	rpc_send(call, &answer->base);
}

static void send_file(struct rpc_call *call, Response *answer, const struct refl_file *file)
{
	struct api_server *s = rpc_call_ctx(call);
	Grpc__Reflection__V1__FileDescriptorResponse files = GRPC__REFLECTION__V1__FILE_DESCRIPTOR_RESPONSE__INIT;
	size_t max = refl_nfiles(s->refl);
	const struct refl_file **closure = arena_alloc(rpc_call_arena(call), max * sizeof(*closure));
	ProtobufCBinaryData *data = arena_alloc(rpc_call_arena(call), max * sizeof(*data));

	if (!closure || !data) {
		rpc_finish(call, RPC_RESOURCE_EXHAUSTED, "no memory for the descriptors");
		return;
	}
	files.n_file_descriptor_proto = refl_closure(s->refl, file, closure);
	files.file_descriptor_proto = data;
	for (size_t i = 0; i < files.n_file_descriptor_proto; i++)
		data[i] = (ProtobufCBinaryData){.len = closure[i]->raw.len, .data = (uint8_t *)closure[i]->raw.p};
	answer->message_response_case = ANSWER(FILE_DESCRIPTOR_RESPONSE);
	answer->file_descriptor_response = &files;
	rpc_send(call, &answer->base);
}

static void send_services(struct rpc_call *call, Response *answer)
{
	struct api_server *s = rpc_call_ctx(call);
	Grpc__Reflection__V1__ListServiceResponse list = GRPC__REFLECTION__V1__LIST_SERVICE_RESPONSE__INIT;
	Grpc__Reflection__V1__ServiceResponse services[32], *pointers[32];
	const struct refl_symbol *symbols;
	size_t n;

	symbols = refl_symbols(s->refl, &n);
	for (size_t i = 0; i < n && list.n_service < ARRAY_SIZE(services); i++) {
		if (!symbols[i].service)
			continue;
		grpc__reflection__v1__service_response__init(&services[list.n_service]);
		services[list.n_service].name = symbols[i].name;
		pointers[list.n_service] = &services[list.n_service];
		list.n_service++;
	}
	list.service = pointers;
	answer->message_response_case = ANSWER(LIST_SERVICES_RESPONSE);
	answer->list_services_response = &list;
	rpc_send(call, &answer->base);
}

/* proto3 has no extensions: a known type has none. */
static void send_extensions(struct rpc_call *call, Response *answer, char *type)
{
	struct api_server *s = rpc_call_ctx(call);
	Grpc__Reflection__V1__ExtensionNumberResponse none = GRPC__REFLECTION__V1__EXTENSION_NUMBER_RESPONSE__INIT;

	if (!refl_symbol(s->refl, type)) {
		send_error(call, answer, "type", type);
		return;
	}
	none.base_type_name = type;
	answer->message_response_case = ANSWER(ALL_EXTENSION_NUMBERS_RESPONSE);
	answer->all_extension_numbers_response = &none;
	rpc_send(call, &answer->base);
}

void reflection_message(struct rpc_call *call, const ProtobufCMessage *request)
{
	struct api_server *s = rpc_call_ctx(call);
	Request q = *(const Request *)request;
	Response answer = GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__INIT;
	const struct refl_file *file;

	/* The v1alpha message differs only in its descriptor. */
	q.base.descriptor = &grpc__reflection__v1__server_reflection_request__descriptor;
	answer.valid_host = q.host;
	answer.original_request = &q;
	switch (q.message_request_case) {
	case ASKED(FILE_BY_FILENAME):
		file = refl_by_filename(s->refl, q.file_by_filename);
		if (file)
			send_file(call, &answer, file);
		else
			send_error(call, &answer, "file", q.file_by_filename);
		break;
	case ASKED(FILE_CONTAINING_SYMBOL):
		file = refl_by_symbol(s->refl, q.file_containing_symbol);
		if (file)
			send_file(call, &answer, file);
		else
			send_error(call, &answer, "symbol", q.file_containing_symbol);
		break;
	case ASKED(FILE_CONTAINING_EXTENSION):
		send_error(call, &answer, "extension of", q.file_containing_extension->containing_type);
		break;
	case ASKED(ALL_EXTENSION_NUMBERS_OF_TYPE):
		send_extensions(call, &answer, q.all_extension_numbers_of_type);
		break;
	case ASKED(LIST_SERVICES):
		send_services(call, &answer);
		break;
	default:
		rpc_finish(call, RPC_INVALID_ARGUMENT, "message_request is not set: ask for a file, a symbol or the services");
	}
}

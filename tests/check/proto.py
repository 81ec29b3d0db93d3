#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The protos keep their rules: no recursion, no proto3 optional, comments, unique requests and responses, zero values."""
import os
import re
import subprocess
import sys
import tempfile

try:
    from google.protobuf import descriptor_pb2
except ImportError:
    print("python3-protobuf is not installed")
    sys.exit(77)

API = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "api")
errors = []


def load():
    files = [os.path.relpath(os.path.join(d, n), API) for d, _, names in os.walk(API) for n in names if n.endswith(".proto")]
    with tempfile.NamedTemporaryFile() as out:
        subprocess.run(["protoc-c", "-I" + API, "-I/usr/include", "--include_imports", "--include_source_info",
                        "--descriptor_set_out=" + out.name] + sorted(files), check=True)
        return files, descriptor_pb2.FileDescriptorSet.FromString(open(out.name, "rb").read())


def messages(scope, found, out):
    for m in found:
        name = scope + "." + m.name
        out[name] = m
        messages(name, m.nested_type, out)
    return out


def recursion(fds):
    """protobuf-c unpacks nested messages on the stack without a limit: a recursive one lets a peer overflow it."""
    every = {}
    for f in fds.file:
        messages("." + f.package, f.message_type, every)
    done = {}

    def visit(name, path):
        if name in path:
            errors.append("message %s is recursive: %s" % (name, " -> ".join(path + (name,))))
            return
        if name in done:
            return
        for field in every[name].field:
            if field.type == 11:
                visit(field.type_name, path + (name,))
        done[name] = True
    for name in every:
        visit(name, ())
    return len(every)


def style(f):
    notes = {tuple(l.path) for l in f.source_code_info.location if l.leading_comments or l.trailing_comments}
    types = [m.input_type for s in f.service for m in s.method] + [m.output_type for s in f.service for m in s.method]
    ours = f.package.startswith("ringside.")
    for si, s in enumerate(f.service):
        for mi, m in enumerate(s.method):
            if (6, si, 2, mi) not in notes:
                errors.append("%s: rpc %s.%s has no comment" % (f.name, s.name, m.name))
            if ours and (m.input_type.split(".")[-1] != m.name + "Request" or
                         m.output_type.split(".")[-1] != m.name + "Response"):
                errors.append("%s: rpc %s takes %sRequest and gives %sResponse" % (f.name, m.name, m.name, m.name))
    if ours and len(types) != len(set(types)):
        errors.append("%s: two methods share a request or response" % f.name)
    for e in f.enum_type:
        prefix = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", e.name).upper()
        if e.value[0].number != 0 or e.value[0].name != prefix + "_UNSPECIFIED":
            errors.append("%s: enum %s must begin with %s_UNSPECIFIED = 0" % (f.name, e.name, prefix))
        for v in e.value:
            if not v.name.startswith(prefix + "_"):
                errors.append("%s: value %s must begin with %s_" % (f.name, v.name, prefix))
    for m in f.message_type:
        for field in m.field:
            if field.proto3_optional:
                errors.append("%s: %s.%s is proto3 optional, which protoc-c refuses" % (f.name, m.name, field.name))
            if not re.fullmatch(r"[a-z][a-z0-9_]*", field.name):
                errors.append("%s: field %s.%s is not snake_case" % (f.name, m.name, field.name))
            if field.name in ("unix", "linux", "i386"):
                errors.append("%s: field %s is a macro of the C compiler" % (f.name, field.name))


def main():
    files, fds = load()
    n = recursion(fds)
    for f in fds.file:
        if f.name in files:
            style(f)
        with open(os.path.join(API, f.name)) if f.name in files else open(os.devnull) as text:
            if f.name in files and not text.readline().startswith("// SPDX-License-Identifier:"):
                errors.append("%s: first line is not SPDX" % f.name)
    for e in errors:
        print(e)
    print("%d messages in %d files, %d errors" % (n, len(files), len(errors)))
    sys.exit(1 if errors else 0)


main()

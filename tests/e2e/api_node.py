#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The API through @grpc/grpc-js with reflection only; against a real daemon where RINGSIDE_SOCKET is set."""
import os
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
BUILD = os.environ.get("RINGSIDE_BUILD", "build")
PACKAGES = ["@grpc/grpc-js@1.14.7", "@grpc/proto-loader@0.8.0"]


def skip(why):
    print(why)
    sys.exit(77)


def install():
    """Into the build directory, once."""
    d = os.path.abspath(os.path.join(BUILD, "tests", "node"))
    if os.path.exists(os.path.join(d, "node_modules", "@grpc", "proto-loader")):
        return d
    os.makedirs(d, exist_ok=True)
    try:
        r = subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", d] + PACKAGES,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
    except subprocess.TimeoutExpired:
        skip("the npm registry doesn't answer")
    if r.returncode:
        skip("npm could not install %s: %s" % (" ".join(PACKAGES), r.stdout.strip().splitlines()[-1:]))
    return d


def run(node, socket, kind):
    env = dict(os.environ, NODE_PATH=os.path.join(node, "node_modules"))
    return subprocess.run(["node", os.path.join(HERE, "..", "lib", "api_node.js"), "unix:" + socket, kind], env=env,
                          timeout=120).returncode


def main():
    if not shutil.which("node") or not shutil.which("npm"):
        skip("node and npm are not installed")
    node = install()
    real = os.environ.get("RINGSIDE_SOCKET")
    if real:
        sys.exit(run(node, real, "real"))
    try:
        import api
    except ImportError:
        skip("python3-grpcio is not installed")
    fake = api.Fake(rate=2000)
    try:
        rc = run(node, fake.socket, "fake")
    finally:
        ended, _ = fake.stop()
    print("the server ended with", ended)
    sys.exit(1 if rc or ended else 0)


main()

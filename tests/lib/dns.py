# SPDX-License-Identifier: Apache-2.0
"""What the DNS tests share: servers with exact answers and clients with known queries, in namespaces."""

import contextlib
import os
import subprocess

import ringside as t

SERVER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "dnsserver.py")


@contextlib.contextmanager
def server(ns, addr, port=53, step=0):
    """A dnsserver.py in that namespace; gives its process."""
    argv = ["ip", "netns", "exec", ns, SERVER, addr, str(port), str(step)]
    p = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        t.equal(p.stdout.readline().strip(), "ready", "DNS server")
        yield p
    finally:
        p.kill()
        p.wait()


def ask(ns, mode, addr, n, name, kind=0, edns=0, port=53, wait_ms=2000, want=None):
    """Runs dnsload to its end; gives its pid. want: how many answers must come (default n)."""
    argv = ["ip", "netns", "exec", ns, t.workload("dnsload"), mode, addr, str(port), str(n), str(kind), str(edns), name]
    out = t.run(*argv, env={**os.environ, "WAIT_MS": str(wait_ms)}).split()
    t.equal((out[0], out[2], int(out[3])), ("owner", "answers", n if want is None else want), f"{mode} {name}")
    return int(out[1])


def netns_inode(ns):
    return os.stat(f"/run/netns/{ns}").st_ino


def own(*namespaces):
    """The rows of these namespaces: nobody else's."""
    return f"netns IN ({', '.join(str(netns_inode(ns)) for ns in namespaces)})"


def wait_own(d, answered, *namespaces, timeout=20):
    """Until so many exchanges of these namespaces are in dnsflow, those that were given up among them."""
    t.wait_until(lambda: d.one(f"SELECT coalesce(sum(count), 0) FROM dnsflow WHERE {own(*namespaces)}") >= answered, timeout,
                 f"{answered} exchanges", 0.2)

#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Flows of a process in a container have its id, whichever hierarchy of cgroups tells, while the process lives at the end of the interval."""
import os
import socket
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from exec_containers import cgroup, container, trees
from ringside import Daemon, equal, need_root

# One exchange, then alive until its input is closed.
CLIENT = """
import socket, sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
s.sendall(b"x" * 1009)
s.recv(1)
print("done", flush=True)
sys.stdin.read()
"""


def exchange(path):
    """A client in that cgroup, closed when its row is due."""
    def enter():
        with open(path + "/cgroup.procs", "w") as f:
            f.write("0")

    server = socket.create_server(("127.0.0.1", 0))
    client = subprocess.Popen([sys.executable, "-c", CLIENT, str(server.getsockname()[1])], preexec_fn=enter,
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    peer, _ = server.accept()
    got = 0
    while got < 1009:
        got += len(peer.recv(4096))
    peer.sendall(b"y")
    equal(client.stdout.readline().strip(), "done", "client")
    return client, server, peer


def main():
    need_root()
    hierarchies = trees()
    with Daemon() as d:
        d.cli("plugin", "enable", "netflow", "interval=1s", "loopback=true")
        for i, (kind, root, path) in enumerate(hierarchies):
            cid = container(64 + i)
            with cgroup(root, path % cid) as at:
                client, server, peer = exchange(at)
                try:
                    rows = d.wait_sql(f"SELECT container_id, bytes_written FROM netflow WHERE pid = {client.pid}", 15)
                    equal(rows, [{"container_id": cid, "bytes_written": 1009}], f"flow of a container in {kind}")
                    live = d.sql(f"SELECT container_id FROM connections WHERE pid = {client.pid}")
                    equal(live, [{"container_id": cid}], f"connection of a container in {kind}")
                finally:
                    client.stdin.close()
                    client.stdout.close()
                    client.wait(20)
                    peer.close()
                    server.close()
    print("flows know their containers in " + ", ".join(kind for kind, _, _ in hierarchies))


main()

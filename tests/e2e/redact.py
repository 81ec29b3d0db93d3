#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Secrets in command lines never reach ring or watchers: built-in rules, rules of the configuration, reload, what is refused."""
import json
import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from ringside import CLI, DAEMON, Daemon, contains, equal, need_root, true, wait_until  # noqa: E402

SECRETS = ("hunter2", "eyJhbGciOiJIUzI1NiJ9", "AKIAIOSFODNN7EXAMPLE", "s3cr3tvalue")
LINES = 13  # programs started with a secret in their arguments


def start(mark, *args):
    subprocess.run(["/bin/true", mark, *args], check=True)


def start_all(mark):
    for i in range(LINES):
        start(mark, *(("--password", "hunter2"), ("--password=hunter2 x",), ("-H", "Authorization: Bearer eyJhbGciOiJIUzI1NiJ9"),
                      ("https://bob:hunter2@example.org/",), ("AKIAIOSFODNN7EXAMPLE",), ("API_KEY=s3cr3tvalue",))[i % 6])


def lines(d, mark):
    return [r["argv"] for r in d.sql(f"SELECT argv FROM exec WHERE argv LIKE '/bin/true {mark} %' ORDER BY ts")]


def wait_lines(d, mark, n):
    wait_until(lambda: len(lines(d, mark)) == n, 15, f"{n} rows of {mark}")
    return lines(d, mark)


def reload(d, text, code=0):
    with open(d.config_path, "w") as f:
        f.write(text)
    return d.cli("config", "reload", code=code)


def no_secret_in(path):
    for directory, _, names in os.walk(path):
        for name in names:
            with open(os.path.join(directory, name), "rb") as f:
                data = f.read()
            for secret in SECRETS:
                true(secret.encode() not in data, f"{secret} is in {name}")


def built_in(d):
    watch = subprocess.Popen([CLI, "--socket", d.socket, "-o", "json", "watch", "exec", "--for", "8s"], stdout=subprocess.PIPE,
                             text=True)
    time.sleep(1.5)
    start_all("rs-a")
    got = wait_lines(d, "rs-a", LINES)
    for line in got:
        contains(line, "[redacted]", "a line with a secret")
    seen = [json.loads(x) for x in watch.communicate(timeout=60)[0].splitlines()]
    equal([r["argv"] for r in seen if (r["argv"] or "").startswith("/bin/true rs-a ")], got, "what a watcher was given")
    true(not any(s in json.dumps(seen) for s in SECRETS), "secrets among the watched rows")
    equal(d.one("SELECT sum(cells) FROM redaction WHERE rule = 'password'"), 5, "cells of one rule")
    true(d.one("SELECT rows_redacted FROM plugins WHERE name = 'exec'") >= LINES, "rows redacted")
    argv = next(x for x in d.cli("-o", "tsv", "schema", "exec").splitlines() if x.startswith("argv\t"))
    equal(argv.split("\t")[4], "content", "class of argv")
    time.sleep(1)
    no_secret_in(d.state)


def own_rules(d):
    reload(d, 'access_log = false\n[redact]\nmarker = "<gone>"\nbuiltin = ["none"]\n[redact.rules]\n'
              'badge = "exec.argv BADGE-([0-9]{1,5})"\nname = "exec.comm never"\n')
    start("rs-b", "BADGE-12345", "--password", "kept")
    equal(wait_lines(d, "rs-b", 1), ["/bin/true rs-b BADGE-<gone> --password kept"], "a rule of the configuration")
    equal(d.sql("SELECT rule, place, cells FROM redaction WHERE cells > 0"), [{"rule": "badge", "place": "exec.argv", "cells": 1}],
          "its counter")
    reload(d, '[redact]\ndrop = ["content"]\n')
    start("rs-c", "anything")
    time.sleep(1)
    equal(lines(d, "rs-c"), [], "lines of a class that is dropped")
    wait_until(lambda: d.one("SELECT cells FROM redaction WHERE rule = 'drop content'") > 0, 10, "dropped cells")
    true(d.one("SELECT count(*) FROM exec WHERE argv IS NULL AND exe LIKE '%/true'") >= 1, "the row itself is there")


def refused(d):
    for text, part in (("[redact.rules]\nx = \"exec.argvs a\"\n", "redact.rules.x: table exec has no column 'argvs'; did you mean 'argv'"),
                       ("[redact.rules]\nx = \"exec.argv (\"\n", "redact.rules.x: '(' is no regular expression"),
                       ("[redact.rules]\nx = \"exec.pid 1\"\n", "exec.pid holds no free text"),
                       ("[redact.rules]\nx = \"exek.argv 1\"\n", "no table 'exek'; did you mean 'exec'"),
                       ("[redact]\nbuiltin = [\"pasword\"]\n", "did you mean 'password'"),
                       ("[redact]\ndrop = [\"all\"]\n", "'all' is no class of columns")):
        contains(reload(d, text, code=1), part, "what a reload says")
        p = subprocess.run([DAEMON, "--check-config", "--config", d.config_path], capture_output=True, text=True, timeout=60)
        equal(p.returncode, 2, "exit of --check-config")
        contains(p.stderr, part, "what --check-config says")
    start("rs-d", "anything")
    time.sleep(1)
    equal(lines(d, "rs-d"), [], "what was in force still is")


def main():
    need_root()
    with Daemon() as d:
        d.enable("exec")
        built_in(d)
        own_rules(d)
        refused(d)
    print("redact: ok")


main()

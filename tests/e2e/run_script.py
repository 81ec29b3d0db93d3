#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""script/run: plain frames without a terminal, a live view on one, and nothing left behind, however it ends."""
import glob
import os
import pty
import select
import signal
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "lib"))
from ringside import contains, equal, need_root, skip, true  # noqa: E402

RUN = os.path.join(ROOT, "script", "run")


def left(scratch):
    """Processes that still name the scratch directory."""
    found = []
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            with open(path, "rb") as f:
                line = f.read().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if scratch in line:
            found.append(line)
    return found


def check_gone(text):
    scratch = next(w for w in text.split() if w.startswith("/tmp/ringside-run.") and "/" not in w[5:]).strip()
    true(not os.path.exists(scratch), f"{scratch} is still there")
    equal(left(scratch), [], "processes left")


def test_frames():
    p = subprocess.run([RUN, "--for", "5s", "--demo-traffic"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=280)
    equal((p.returncode, p.stderr), (0, ""), f"script/run: {p.stdout[-2000:]}")
    contains(p.stdout, "plugin disable netflow", "commands to try")
    contains(p.stdout, "demo-client", "flows of the demo traffic")
    true("\x1b" not in p.stdout and p.stdout.count("PLUGIN ") >= 2, "plain frames")
    check_gone(p.stdout)


def test_interrupt_without_terminal(sig):
    p = subprocess.Popen([RUN, "--no-demo-traffic"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                         text=True, start_new_session=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    text = ""
    for line in p.stdout:
        text += line
        if line.startswith("PLUGIN"):
            break
    p.send_signal(sig)
    text += p.stdout.read()
    equal(p.wait(30), 0, f"exit code after {sig}: {text[-2000:]}")
    check_gone(text)


def test_terminal(key):
    import fcntl
    import struct
    import termios
    pid, fd = pty.fork()
    if pid == 0:
        os.environ["TERM"] = "xterm"
        os.execv(RUN, [RUN, "--demo-traffic"])
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 110, 0, 0))
    text, pressed, end = "", False, time.time() + 120
    while True:
        true(time.time() < end, f"script/run didn't end: {text[-2000:]}")
        if not select.select([fd], [], [], 0.2)[0]:
            continue
        try:
            text += os.read(fd, 65536).decode(errors="replace")
        except OSError:
            break
        if not pressed and text.count("demo-client") >= 2:
            pressed = True
            os.write(fd, key)
    equal(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 0, f"exit code: {text[-2000:]}")
    os.close(fd)
    true("\x1b[?1049h" in text and text.rindex("\x1b[?1049l") > text.rindex("\x1b[?1049h"), "the screen comes back")
    check_gone(text)


def main():
    need_root()
    if not os.path.exists(os.path.join(ROOT, "build", "bin", "ringsided")):
        skip("script/run has not been built yet in build/; script/test builds it")
    test_frames()
    test_interrupt_without_terminal(signal.SIGINT)
    test_interrupt_without_terminal(signal.SIGTERM)
    test_terminal(b"\x03")
    test_terminal(b"q")


main()

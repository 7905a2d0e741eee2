"""Cancelling: SIGINT and SIGTERM end every child and leave nothing half-done; kill -9 leaves a usable store."""

import os
import signal
import time

from harness.cli import SIGINT, SIGTERM, Bench
from harness.report import Skip, expect, same

# A sleep of a length that nothing else on the machine uses, so that it is found by its arguments.
MARK = "86407"
SLOW = {"Dockerfile": "FROM busybox\nRUN echo first > /first\n"
                      f"RUN (sleep {MARK} & sleep {MARK}) & echo started; trap '' TERM INT; sleep {MARK}; sleep {MARK}\n"}


def sleepers():
    """Pids of our sleeps, wherever they hang in the process tree."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                words = f.read().split(b"\0")
        except OSError:
            continue
        if words[:2] in ([b"sleep", MARK.encode()], [b"/bin/sleep", MARK.encode()]):
            found.append(int(pid))
    return found


def started(bench, extra=()):
    if sleepers():
        raise Skip("sleeps of an earlier run are still there")
    context = bench.folder("slow", SLOW)
    log = open(os.path.join(bench.user.dir, "slow.log"), "wb")
    child = bench.user.start(bench.args("build", "--progress", "plain", *extra, context), stdout=log, stderr=log,
                             start_new_session=True)
    deadline = time.monotonic() + 60
    while len(sleepers()) < 3:
        if child.poll() is not None or time.monotonic() > deadline:
            log.close()
            with open(log.name, errors="replace") as f:
                raise AssertionError(f"the build did not come to its long step:\n{f.read()[-2000:]}")
        time.sleep(0.05)
    return child, log


def gone(seconds):
    deadline = time.monotonic() + seconds
    while sleepers() and time.monotonic() < deadline:
        time.sleep(0.05)
    return not sleepers()


def ended_by(number, status):
    def call(env):
        bench = Bench(env)
        iid, out = os.path.join(bench.user.dir, "slow.iid"), os.path.join(bench.user.dir, "slow.tar")
        child, log = started(bench, ["--iidfile", iid, "-o", f"type=oci,dest={out}"])
        try:
            child.send_signal(number)
            code = child.wait(15)
        finally:
            finish(child, log)
        expect(gone(5), f"children are left: {sleepers()}")
        expect(code in (status, -number), f"exit status {code}, expected {status}")
        expect(not os.path.exists(iid) and not os.path.exists(out), "a result was written although it was cancelled")
        bench.nothing_unfinished()
        usable(bench)
    return call


def killed(env):
    bench = Bench(env)
    child, log = started(bench)
    child.send_signal(signal.SIGKILL)
    finish(child, log)
    expect(gone(5), f"children outlive a killed build: {sleepers()}")
    usable(bench)


def finish(child, log):
    if child.poll() is None:
        child.kill()
    child.wait()
    log.close()


def usable(bench):
    """The store goes on working, and what was finished before is still known."""
    context = bench.folder("after", {"Dockerfile": "FROM busybox\nRUN echo first > /first\nRUN cat /first\n"})
    bench.build(context, "-t", "it/after")
    same(bench.call("run", "it/after", "cat", "/first").stdout, b"first\n", "the image built afterwards")


CHECKS = [
    ("cancel: SIGINT", ended_by(signal.SIGINT, SIGINT)),
    ("cancel: SIGTERM", ended_by(signal.SIGTERM, SIGTERM)),
    ("cancel: kill -9", killed),
]

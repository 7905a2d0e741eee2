"""Wall time and peak memory of commands, medians, and a table of them."""

import os
import statistics
import subprocess
import time

from .report import Failure


class Sample:
    """One command: seconds, and the largest resident set of it and its children in bytes."""

    def __init__(self, seconds, peak):
        self.seconds, self.peak = seconds, peak


def timed(user, command, env):
    """Runs a command as `user`; its output goes to a file that is shown when it fails."""
    log = os.path.join(user.dir, "bench.log")
    with open(log, "wb") as out:
        begin = time.monotonic()
        child = subprocess.Popen(command, env=env, cwd=user.dir, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                 **user.ids())
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.monotonic() - begin
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        with open(log, errors="replace") as f:
            raise Failure(f"{' '.join(command)}: exit status {child.returncode}\n{f.read()[-1500:]}")
    return Sample(seconds, usage.ru_maxrss * 1024)


class Median:
    """The middle of several samples."""

    def __init__(self, samples):
        self.seconds = statistics.median(s.seconds for s in samples)
        self.peak = max(s.peak for s in samples)
        self.count = len(samples)

    def __str__(self):
        return f"{self.seconds:.2f} s, {self.peak / 1e6:.0f} MB"


def table(rows, columns):
    """A Markdown table; `rows` is a list of (name, {column: text})."""
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, cells in rows:
        lines.append(f"| {name} | " + " | ".join(cells.get(c, "–") for c in columns) + " |")
    return "\n".join(lines)

"""Wall time and memory of commands, medians of them, and tables.

Memory is that of the builder's own programs: the processes whose executable is one of theirs, wherever they hang
in the process tree, so that a compiler which a step runs does not count. Each process counts with its own peak
(`VmHWM`), and those that live at the same time are added up. Pages that they share count more than once.
"""

import os
import signal
import statistics
import subprocess
import threading
import time

from .report import Failure

PAUSE = 0.01  # seconds between two looks at the processes


def high_water(pid):
    """The largest resident set that a process had, in bytes; 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/status") as f:
            return next((int(line.split()[1]) * 1024 for line in f if line.startswith("VmHWM")), 0)
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return 0


class Watch:
    """`with Watch(programs) as w:` looks at the processes of these executables; then `w.peak` is in bytes. Looking
    takes some percent of a core: do it in a run whose time does not matter."""

    def __init__(self, programs):
        self.files = {(s.st_dev, s.st_ino) for s in map(os.stat, programs)}
        self.peak, self.done = 0, threading.Event()
        self.thread = threading.Thread(target=self._look, daemon=True)

    def _ours(self, pid):
        try:
            found = os.stat(f"/proc/{pid}/exe")
        except OSError:
            return False
        return (found.st_dev, found.st_ino) in self.files

    def _look(self):
        while not self.done.wait(PAUSE):
            pids = [p for p in os.listdir("/proc") if p.isdigit()]
            self.peak = max(self.peak, sum(high_water(p) for p in pids if self._ours(p)))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        self.thread.join()


class Daemons:
    """The same for daemons, given as a function that lists their process ids: the peaks since the beginning."""

    def __init__(self, pids):
        self.pids, self.peak = pids, 0

    def __enter__(self):
        for pid in self.pids():
            with open(f"/proc/{pid}/clear_refs", "w") as f:
                f.write("5")
        return self

    def __exit__(self, *_):
        self.peak = sum(map(high_water, self.pids()))


def timed(command, log, limit, **process):
    """(seconds, what was printed). `log` is a file that the output goes to; after `limit` seconds the command and
    its process group are killed."""
    late = threading.Event()
    with open(log, "wb") as out:
        begin = time.monotonic()
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
                                 **process)

        def kill():
            late.set()
            os.killpg(child.pid, signal.SIGKILL)

        timer = threading.Timer(limit, kill)
        timer.start()
        try:
            child.wait()
            seconds = time.monotonic() - begin
        finally:
            timer.cancel()
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
    with open(log, errors="replace") as f:
        said = f.read()
    if late.is_set():
        raise Failure(f"more than {limit} s")
    if child.returncode != 0:
        raise Failure(f"exit status {child.returncode}: {' '.join(command)}\n{said[-1500:]}")
    return seconds, said


def median(numbers):
    return statistics.median(numbers)


def table(rows, columns):
    """A Markdown table; `rows` is a list of (name, {column: text})."""
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, cells in rows:
        lines.append(f"| {name} | " + " | ".join(cells.get(c, "–") for c in columns) + " |")
    return "\n".join(lines)

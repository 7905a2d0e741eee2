"""Cells of the table, and the page that is written of a run."""

import datetime
import os
import platform
import subprocess

from harness import measure

ABOUT = """\
Times are wall times, the median of {times} runs after one that does not count; the builders take turns, each round
in another order. Where a builder's first run took longer than is worth repeating, that one counts, and the cell
says so. lapstrake and buildah build as an unprivileged user with subordinate ids; BuildKit is that of dockerd, as root,
with `--iptables=false --bridge=none`. Every store is on the same file system as the contexts, and the registry is
on loopback.

Memory is that of the builder's own processes at the same time (of dockerd and containerd: the daemons alone), the sum
of their largest resident sets; what a step runs does not count, and pages that processes share count in each.
lapstrake's is from the run that does not count, since looking takes time.

The last column is what plain programs take for the same work in the same run, where there are such."""


def duration(seconds):
    return f"{seconds * 1000:.0f} ms" if seconds < 0.995 else f"{seconds:.2f} s"


class Cell:
    """The runs of one row by one builder: seconds, bytes, and what there is to remark."""

    def __init__(self):
        self.first, self.seconds, self.peak, self.remarks = None, [], 0, []

    def remark(self, text):
        if text and text not in self.remarks:
            self.remarks.append(text)

    def median(self):
        return measure.median(self.seconds or [self.first])

    def text(self):
        parts = [duration(self.median())] + ([f"{self.peak / 1e6:.0f} MB"] if self.peak else [])
        if not self.seconds:
            parts.append("1 run")
        return ", ".join(parts + self.remarks)

    def each(self, steps):
        return f"{self.median() / steps * 1000:.1f} ms"


def machine(place):
    """What it ran on: processor, memory, kernel, file system of the directory `place`."""
    with open("/proc/cpuinfo") as f:
        model = next((l.split(":", 1)[1].strip() for l in f if l.startswith("model name")), platform.machine())
    with open("/proc/meminfo") as f:
        memory = int(f.readline().split()[1]) / (1 << 20)
    done = subprocess.run(["findmnt", "-no", "FSTYPE", "-T", place], capture_output=True, text=True)
    return (f"{os.cpu_count()} cores of {model}, {memory:.0f} GiB of memory, Linux {platform.release()}, "
            f"stores on {done.stdout.strip() or 'an unknown file system'}")


def page(table, limits, times, versions, place, seconds, load):
    """The whole as Markdown; `load` is how many processes wanted a core, on average, in the minute before."""
    listed = "\n".join(f"- {line}" for line in versions)
    plain = "\n".join(["\n| plain programs, the same run | |\n|---|---|", *(f"| {name} | {text} |" for name, text in limits), ""])
    return (f"# Results\n\nMade by `make bench BENCH=--write` on {datetime.date.today()}, in {seconds / 60:.0f} minutes: "
            f"{machine(place)}; load at the start {load:.2f}.\n\n{listed}\n\n{table}\n\n{ABOUT.format(times=times)}\n"
            f"{plain if limits else ''}")

"""Counts and prints results. Every check ends as Passed, Skipped (with a reason) or Failed."""

import contextlib
import multiprocessing
import time
import traceback


class Skip(Exception):
    """Raised by a check that cannot be made here; its text is the reason."""


class Failure(Exception):
    """Raised by a check whose outcome is wrong; its text says what was expected and what came."""


class Report:
    def __init__(self):
        self.passed, self.failed, self.skipped = 0, [], []
        self.start = time.monotonic()
        self.lines, self.lock = None, multiprocessing.Lock()

    @contextlib.contextmanager
    def part(self, title):
        """Keeps the lines together under a title: other processes with this report's lock print, too."""
        self.lines = [f"\n{title}"]
        try:
            yield
        finally:
            lines, self.lines = self.lines, None
            self.say("\n".join(lines))

    def say(self, text):
        if self.lines is not None:
            self.lines.append(text)
            return
        with self.lock:
            print(text, flush=True)

    def fork(self):
        """An empty report for another process; `found` of it is for `add` of this one."""
        other = Report()
        other.lock = self.lock
        return other

    def found(self):
        return self.passed, self.failed, self.skipped

    def add(self, found):
        passed, failed, skipped = found
        self.passed += passed
        self.failed += failed
        self.skipped += skipped

    def check(self, name, call, *args, **kw):
        """Runs one check; returns its value, or None when it did not pass."""
        begin = time.monotonic()
        try:
            value = call(*args, **kw)
        except Skip as reason:
            self.skip(name, str(reason))
        except Failure as reason:
            self._fail(name, str(reason))
        except Exception:
            self._fail(name, traceback.format_exc(limit=-4))
        else:
            self.passed += 1
            self._line("Passed", name, f" ({time.monotonic() - begin:.1f} s)")
            return value
        return None

    def skip(self, name, reason):
        self.skipped.append((name, reason))
        self._line("Skipped", name, f": {reason}")

    def note(self, text):
        self.say(f"         {text}")

    def _fail(self, name, reason):
        self.failed.append((name, reason))
        self._line("Failed", name, "")
        for line in reason.rstrip().splitlines()[-40:]:
            self.say(f"         | {line}")

    def _line(self, result, name, tail):
        self.say(f"{result:8} {name}{tail}")

    def close(self):
        """Prints the summary; returns the exit status."""
        if self.skipped:
            print("\nSkipped:")
            for name, reason in self.skipped:
                print(f"  {name}: {reason}")
        if self.failed:
            print("\nFailed:")
            for name, _ in self.failed:
                print(f"  {name}")
        print(f"\nin {time.monotonic() - self.start:.0f} s")
        print(f"{self.passed} passed, {len(self.failed)} failed, {len(self.skipped)} skipped", flush=True)
        return 1 if self.failed else 0


def expect(condition, text):
    if not condition:
        raise Failure(text)


def same(got, want, what):
    if got != want:
        raise Failure(f"{what}\nexpected: {want!r}\ngot:      {got!r}")

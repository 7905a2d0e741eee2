"""Rows of checks that have nothing in common, some at a time, each in a process of its own."""

import multiprocessing
import multiprocessing.connection
import traceback

FORK = multiprocessing.get_context("fork")


class Row:
    """One that runs: `call` gets a report, and what that holds at the end is sent home."""

    def __init__(self, title, call, report):
        self.title = title
        self.receiver, sender = FORK.Pipe(duplex=False)
        self.process = FORK.Process(target=self._run, args=(call, report, sender))
        self.process.start()
        sender.close()

    @staticmethod
    def _run(call, report, sender):
        try:
            call(report)
        except Exception:
            report.failed.append(("the harness", ""))
            report.say(traceback.format_exc())
        sender.send(report.found())

    def close(self, report):
        try:
            report.add(self.receiver.recv())
        except EOFError:
            report.failed.append((f"{self.title}: ended early", ""))
        self.process.join()


def run(report, rows, jobs):
    """`rows` is a list of (title, function of a report), started in this order. Whatever ends this process with an
    exception ends the rows first."""
    todo, running = list(rows), []
    try:
        while todo or running:
            while todo and len(running) < max(1, jobs):
                running.append(Row(*todo.pop(0), report.fork()))
            ready = multiprocessing.connection.wait([r.receiver for r in running])
            for row in [r for r in running if r.receiver in ready]:
                row.close(report)
                running.remove(row)
    except BaseException:
        for row in running:
            row.process.terminate()
        for row in running:
            row.process.join()
        raise

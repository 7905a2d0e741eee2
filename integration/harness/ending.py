"""How a program of these ends when it is told to: as by an exception, so that what it started and made goes away."""

import signal
import sys


def gracefully():
    """SIGTERM becomes `SystemExit`, once: who ends a group of processes may send it twice, and a second one would come
    in the middle of the cleaning up."""
    def end(*_):
        signal.signal(signal.SIGTERM, lambda *_: None)  # not SIG_IGN, which programs started now would inherit
        sys.exit(143)

    signal.signal(signal.SIGTERM, end)

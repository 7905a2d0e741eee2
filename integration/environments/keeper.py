"""Holds the mounts of an environment in a mount namespace of its own, so that none is ever seen on the machine.

Run as a program by root: `unshare --mount python3 -m environments.keeper JSON`, where JSON is a list of
`[source, target, type, options]` (type `bind` for binds). Prints a line when they are there and ends, and the mounts
with it, when its standard input does.
"""

import json
import os
import subprocess
import sys


class Keeper:
    """One that runs."""

    def __init__(self, mounts):
        here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        self.child = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", sys.executable, "-m", "environments.keeper",
             json.dumps(mounts)], cwd=here, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if self.child.stdout.readline() != b"ready\n":
            said = self.child.stderr.read().decode(errors="replace")
            self.close()
            raise OSError(f"the environment's mounts cannot be made: {said.strip()[-1000:]}")

    def enter(self, command):
        """The command line that runs `command` among the mounts."""
        return ["nsenter", f"--mount=/proc/{self.child.pid}/ns/mnt", "--", *command]

    def close(self):
        self.child.stdin.close()
        self.child.wait()
        self.child.stdout.close()
        self.child.stderr.close()


def mount(source, target, kind, options):
    how = ["--bind"] if kind == "bind" else ["-t", kind]
    subprocess.run(["mount", *how, *(["-o", options] if options else []), source, target], check=True)


def cgroup():
    """The second version alone, as on any current machine; where there is the first, it shows no controllers."""
    if not os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
        subprocess.run(["umount", "--lazy", "/sys/fs/cgroup"], check=True)
        mount("cgroup2", "/sys/fs/cgroup", "cgroup2", "nosuid,nodev,noexec")


def main(mounts):
    cgroup()
    for entry in mounts:
        mount(*entry)
    print("ready", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))

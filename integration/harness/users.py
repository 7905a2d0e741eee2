"""The unprivileged users that builds run as, and how commands are started as one of them."""

import fcntl
import os
import pwd
import shutil
import subprocess
import tempfile

MANY, ONE = "lapstrake-many", "lapstrake-one"
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def _ranges(name):
    try:
        with open("/etc/subuid") as f:
            return [line for line in f if line.startswith(name + ":")]
    except FileNotFoundError:
        return []


def create(name, many):
    """Makes the account unless it is there; several suites may want it at once."""
    with open("/run/lock/lapstrake-users", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _create(name, many)


def _create(name, many):
    try:
        pwd.getpwnam(name)
    except KeyError:
        kind = [] if many else ["--system"]
        subprocess.run(["useradd", "--create-home", "--shell", "/bin/sh", *kind, name], check=True)
    if many and not _ranges(name):
        subprocess.run(["usermod", "--add-subuids", "200000-265535", "--add-subgids", "200000-265535", name], check=True)
    if not many and _ranges(name):
        subprocess.run(["usermod", "--del-subuids", "0-4294967294", "--del-subgids", "0-4294967294", name], check=True)


def copy_for(owner, source, name, give):
    """The directory `name` of `owner`, made once as a copy of `source`; `give` makes a path the owner's."""
    target = os.path.join(owner.dir, name)
    if not os.path.exists(target):
        shutil.copytree(source, target, symlinks=True)
        for top, dirs, files in os.walk(target):
            for leaf in [".", *dirs, *files]:
                give(os.path.join(top, leaf))
    return target


class User:
    """Somebody who builds: `mode` is many (subordinate ids), one (none) or root."""

    def __init__(self, mode, name, scratch):
        self.mode, self.name = mode, name
        entry = pwd.getpwnam(name)
        self.uid, self.gid = entry.pw_uid, entry.pw_gid
        self.dir = tempfile.mkdtemp(prefix=f"{mode}.", dir=scratch)
        os.chown(self.dir, self.uid, self.gid)
        self.home = self.subdir("home")
        self.store = os.path.join(self.dir, "store")

    def subdir(self, name):
        path = os.path.join(self.dir, name)
        os.makedirs(path, exist_ok=True)
        os.chown(path, self.uid, self.gid)
        return path

    def take(self, source, name):
        """A copy of a directory that belongs to this user."""
        return copy_for(self, source, name, lambda path: os.chown(path, self.uid, self.gid, follow_symlinks=False))

    def env(self, **extra):
        kept = {k: v for k, v in os.environ.items() if k.lower().endswith("_proxy")}
        return {"PATH": SYSTEM_PATH, "HOME": self.home, "USER": self.name, "LOGNAME": self.name,
                "LANG": "C.UTF-8", "TMPDIR": self.subdir("tmp"), **kept, **extra}

    def ids(self):
        """Arguments for `subprocess` that make the child this user."""
        if os.geteuid() != 0 or self.uid == 0:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": [self.gid]}

    def run(self, command, env=None, timeout=600, **kw):
        """Runs to the end with output captured as bytes."""
        return subprocess.run(command, env=env or self.env(), stdin=kw.pop("stdin", subprocess.DEVNULL),
                              capture_output=True, timeout=timeout, cwd=kw.pop("cwd", self.dir), **self.ids(), **kw)

    def start(self, command, env=None, **kw):
        return subprocess.Popen(command, env=env or self.env(), stdin=subprocess.DEVNULL,
                                cwd=kw.pop("cwd", self.dir), **self.ids(), **kw)


def make(mode, scratch):
    """The user for a mode, or a reason why there is none."""
    if os.geteuid() == 0:
        if mode == "root":
            return User(mode, "root", scratch)
        name = MANY if mode == "many" else ONE
        create(name, mode == "many")
        return User(mode, name, scratch)
    me = pwd.getpwuid(os.geteuid()).pw_name
    has_ids = bool(_ranges(me)) and shutil.which("newuidmap") is not None
    if mode == ("many" if has_ids else "one"):
        return User(mode, me, scratch)
    return f"only root can make a user for the mode '{mode}'"

"""What a case is, the context it is built from, and what old peers cannot do.

A case is a Dockerfile with a context and flags that lapstrake and the peer both get. The modules of `cases/`
have `CASES`, a list of them; a group is such a module. The Dockerfile lies beside the context, not in it.
"""

import fnmatch
import importlib
import io
import os
import pkgutil
import re
import socket
import subprocess
import tarfile

THEN = 1_600_000_000  # the time of everything in a context that has no time of its own

# What lapstrake does not do yet: cases that name one of these are skipped with this reason. Remove a line to
# switch its cases on.
WAITING = {}

# The first version of a peer that has a feature. An older peer builds the case's `twin`, an equivalent
# Dockerfile without the feature, and history and layers are not compared; without a twin the case is skipped.
FEATURES = {
    "heredoc": {"docker": (23, 0), "buildah": (1, 33)},
    "link": {"docker": (23, 0), "buildah": (1, 38)},
    "parents": {"docker": (28, 0), "buildah": (1, 40)},
    "exclude": {"docker": (28, 0), "buildah": (1, 38)},
    "symbolic-chmod": {"docker": (28, 0), "buildah": (99,)},
    "trim": {"docker": (27, 0), "buildah": (99,)},
    "dash": {"docker": (23, 0), "buildah": (99,)},
    "zstd": {"docker": (23, 0), "buildah": (1, 20)},
    "start-interval": {"docker": (25, 0), "buildah": (1, 34)},
    "unpack": {"docker": (28, 0), "buildah": (99,)},
    "mount": {"docker": (20, 10), "buildah": (1, 24)},
    "mount-expand": {"docker": (23, 0), "buildah": (1, 30)},
    "secret-env": {"docker": (28, 0), "buildah": (99,)},
    "targetstage": {"docker": (26, 0), "buildah": (99,)},
    "run-network": {"docker": (23, 0), "buildah": (1, 28)},
}


class Case:
    """One Dockerfile to build with everybody.

    `files`: path in the context -> text, bytes, None (an empty directory) or one of the classes below.
    `args`: flags of build; `{dir}` in them is the case's directory, where `beside` (of the form of `files`) is.
    `fails`: nobody may build it, and lapstrake's message matches this regular expression.
    `feature`, `twin`: see FEATURES. `waits`: see WAITING.
    `inside`: the Dockerfile is in the context as `Dockerfile`, and no -f is given.
    """

    def __init__(self, name, dockerfile, files=None, args=(), fails=None, feature=None, twin=None, waits=None,
                 inside=False, beside=None):
        self.name, self.dockerfile, self.files, self.args = name, dockerfile, files or {}, list(args)
        self.fails, self.feature, self.twin, self.waits = fails, feature, twin, waits
        self.inside, self.beside = inside, beside or {}
        self.group = None

    @property
    def title(self):
        return f"{self.group}: {self.name}"

    def folder(self, top):
        return os.path.join(top, re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-"))

    def text_for(self, peer):
        """The Dockerfile for this peer and whether it is the twin; None and the reason when it cannot."""
        needed = FEATURES[self.feature].get(peer.name) if self.feature else None
        if needed is None or peer.version >= needed:
            return self.dockerfile, False
        if self.twin is not None:
            return self.twin, True
        return None, f"{peer.name} {peer.version_text} has no {self.feature}"

    def prepare(self, top, owner):
        """Makes the context, which belongs to `owner` (uid, gid); returns its path."""
        folder = self.folder(top)
        context = os.path.join(folder, "context")
        os.makedirs(context)
        own = {"Dockerfile": File(self.dockerfile)} if self.inside else {}
        write_tree(context, {**self.files, **own}, owner)
        write_tree(folder, self.beside, owner)
        os.utime(context, (THEN, THEN))
        return context


class File:
    """A regular file."""

    def __init__(self, content="", mode=0o644, mtime=THEN, xattrs=None):
        self.content, self.mode, self.mtime, self.xattrs = content, mode, mtime, xattrs or {}

    def make(self, path):
        write(path, self.content)

    def finish(self, path):
        for name, value in self.xattrs.items():
            os.setxattr(path, name, value)
        os.chmod(path, self.mode)
        os.utime(path, ns=(int(self.mtime * 1e9), int(self.mtime * 1e9)))


class Dir:
    """A directory whose mode and time are set after it was filled."""

    def __init__(self, mode=0o755, mtime=THEN):
        self.mode, self.mtime = mode, mtime

    def make(self, path):
        os.makedirs(path, exist_ok=True)

    def finish(self, path):
        os.chmod(path, self.mode)
        os.utime(path, (self.mtime, self.mtime))


class Link:
    """A symbolic link."""

    def __init__(self, target):
        self.target = target

    def make(self, path):
        os.symlink(self.target, path)

    def finish(self, path):
        os.utime(path, (THEN, THEN), follow_symlinks=False)


class Hard:
    """Another name of an earlier file of the context."""

    def __init__(self, other):
        self.other, self.name = other, None

    def make(self, path):
        top = path[:-len(self.name)]
        os.link(os.path.join(top, self.other), path)

    def finish(self, path):
        """Its inode is finished under its first name."""


class Fifo:
    def make(self, path):
        os.mkfifo(path)

    def finish(self, path):
        os.chmod(path, 0o640)
        os.utime(path, (THEN, THEN))


class Socket:
    def make(self, path):
        here = os.open(os.path.dirname(path), os.O_PATH)
        try:
            with socket.socket(socket.AF_UNIX) as s:
                s.bind(f"/proc/self/fd/{here}/{os.path.basename(path)}")
        finally:
            os.close(here)

    def finish(self, path):
        os.utime(path, (THEN, THEN))


class Archive:
    """A tar, compressed by a program of the distribution (gzip, bzip2, xz, zstd) or not at all.

    `members`: (name, kind, more) where kind is file, dir, link, hard, fifo, char; `more` has content, target,
    mode, uid, gid, mtime, pax, dev.
    """

    def __init__(self, members, program=None, form=tarfile.PAX_FORMAT, tail=b""):
        self.members, self.program, self.form, self.tail = members, program, form, tail

    def data(self):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=self.form) as tar:
            for name, kind, more in self.members:
                self._add(tar, name, kind, more)
        plain = out.getvalue() + self.tail
        if not self.program:
            return plain
        return subprocess.run([self.program, "-c"], input=plain, stdout=subprocess.PIPE, check=True).stdout

    @staticmethod
    def _add(tar, name, kind, more):
        info = tarfile.TarInfo(name)
        info.mode = more.get("mode", 0o755 if kind == "dir" else 0o644)
        info.uid, info.gid = more.get("uid", 0), more.get("gid", 0)
        info.mtime = more.get("mtime", THEN)
        info.pax_headers = more.get("pax", {})
        info.linkname = more.get("target", "")
        info.type = {"file": tarfile.REGTYPE, "dir": tarfile.DIRTYPE, "link": tarfile.SYMTYPE, "hard": tarfile.LNKTYPE,
                     "fifo": tarfile.FIFOTYPE, "char": tarfile.CHRTYPE}[kind]
        info.devmajor, info.devminor = more.get("dev", (0, 0))
        content = more.get("content", "").encode() if kind == "file" else b""
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))

    def make(self, path):
        write(path, self.data())

    def finish(self, path):
        File().finish(path)


def write(path, content):
    with open(path, "wb") as f:
        f.write(content.encode() if isinstance(content, str) else content)


def write_tree(top, files, owner):
    """Owners first, since a change of owner takes modes and capabilities away; the directories' times last."""
    made = []
    for name, item in files.items():
        path = os.path.join(top, name)
        parent = os.path.dirname(path)
        while not os.path.isdir(parent):
            made.append((parent, Dir()))
            parent = os.path.dirname(parent)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if item is None:
            item = Dir()
        elif isinstance(item, (str, bytes)):
            item = File(item)
        if isinstance(item, Hard):
            item.name = name
        item.make(path)
        made = [one for one in made if one[0] != path] + [(path, item)]
    if os.geteuid() == 0:
        for path, _ in made:
            os.chown(path, *owner, follow_symlinks=False)
    for path, item in sorted(made, key=lambda one: (isinstance(one[1], Dir), -one[0].count("/"))):
        item.finish(path)


def load_all():
    """All cases, group by group."""
    from . import cases
    found = []
    for name in sorted(m.name for m in pkgutil.iter_modules(cases.__path__)):
        module = importlib.import_module(f"{cases.__name__}.{name}")
        for case in module.CASES:
            case.group = name
            found.append(case)
    titles = [case.title for case in found]
    double = {t for t in titles if titles.count(t) > 1}
    if double:
        raise SystemExit(f"two cases are called {sorted(double)}")
    return found


def matches(case, patterns):
    return not patterns or any(p in case.title or fnmatch.fnmatch(case.title, p) for p in patterns)

"""What a case is, and how its context is made."""

import fnmatch
import importlib
import io
import os
import pkgutil
import tarfile

EPOCH = 1_600_000_000  # SOURCE_DATE_EPOCH of all builds
THEN = 1_400_000_000  # the time of everything in a context

MODES = ("root", "many", "one", "chroot")


class Case:
    """One Dockerfile to build in every mode.

    `files`: path in the context -> text, bytes, or a list of members of an archive (`member`). `args`: flags of build.
    `lacks`: mode -> why it cannot build this.
    """

    def __init__(self, name, dockerfile, files=None, args=(), lacks=None):
        self.name, self.dockerfile = name, dockerfile.strip() + "\n"
        self.files, self.args, self.lacks = files or {}, list(args), lacks or {}

    def prepare(self, folder):
        """Writes Dockerfile and context below `folder`, readable by everybody; returns the context."""
        context = os.path.join(folder, "context")
        os.makedirs(context)
        with open(os.path.join(folder, "Dockerfile"), "w") as f:
            f.write(self.dockerfile)
        for path, content in self.files.items():
            target = os.path.join(context, path)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with open(target, "wb") as f:
                f.write(archive(content) if isinstance(content, list) else
                        content.encode() if isinstance(content, str) else content)
        for top, dirs, leaves in os.walk(context, topdown=False):
            for leaf in leaves:
                os.chmod(os.path.join(top, leaf), 0o644)
            for leaf in [*leaves, *dirs, "."]:
                os.utime(os.path.join(top, leaf), (THEN, THEN))
        return context


def member(name, kind=tarfile.REGTYPE, content=b"", mode=0o644, owner=(0, 0), target="", dev=(0, 0), mtime=THEN, xattrs=None):
    """A member of an archive and its content."""
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.mtime, info.linkname = kind, mode, mtime, target
    info.uid, info.gid = owner
    info.devmajor, info.devminor = dev
    info.pax_headers = {"SCHILY.xattr." + k: v for k, v in (xattrs or {}).items()}
    info.size = len(content)
    return info, content


def archive(members):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT, errors="surrogateescape") as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def load_all():
    """The cases of every group, in order."""
    from . import cases
    found = []
    for module in sorted(m.name for m in pkgutil.iter_modules(cases.__path__)):
        group = importlib.import_module(f"{cases.__name__}.{module}")
        for one in group.CASES:
            one.title = f"{module}: {one.name}"
            found.append(one)
    return found


def matches(case, filters):
    return not filters or any(f in case.title or fnmatch.fnmatchcase(case.title, f) for f in filters)

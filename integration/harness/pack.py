"""Directory tree -> layer tar, written independently of the builder under test.

The tree is a plain root file system or the upper directory of an overlay: whiteouts (character
device 0/0) and opaque marks become the `.wh.` names that image layers use.
"""

import os
import stat
import tarfile

OPAQUE = ("trusted.overlay.opaque", "user.overlay.opaque")
KEPT_XATTRS = ("security.capability", "user.")
EPOCH = 1_700_000_000


def _xattr(path, name):
    try:
        return os.getxattr(path, name, follow_symlinks=False)
    except OSError:
        return None


def _pax_xattrs(path):
    out = {}
    for name in os.listxattr(path, follow_symlinks=False):
        if name.startswith(KEPT_XATTRS) and not name.startswith("user.overlay."):
            value = _xattr(path, name)
            if value is not None:
                out["SCHILY.xattr." + name] = value.decode("utf-8", "surrogateescape")
    return out


def _entries(root):
    """Yields (name in the layer, path on disk), parents first, in byte order."""
    def walk(rel):
        here = os.path.join(root, rel) if rel else root
        for name in sorted(os.listdir(here), key=os.fsencode):
            sub = f"{rel}/{name}" if rel else name
            path = os.path.join(root, sub)
            yield sub, path
            if stat.S_ISDIR(os.lstat(path).st_mode):
                yield from walk(sub)
    yield from walk("")


def _marker(name):
    info = tarfile.TarInfo(name)
    info.mode, info.mtime = 0o600, EPOCH
    return info


def _member(name, path, st, seen, as_root):
    info = tarfile.TarInfo(name)
    info.mode = stat.S_IMODE(st.st_mode)
    info.mtime = min(int(st.st_mtime), EPOCH)
    info.uid, info.gid = (0, 0) if as_root else (st.st_uid, st.st_gid)
    info.pax_headers = _pax_xattrs(path)
    if stat.S_ISDIR(st.st_mode):
        info.type = tarfile.DIRTYPE
    elif stat.S_ISLNK(st.st_mode):
        info.type, info.linkname = tarfile.SYMTYPE, os.readlink(path)
    elif stat.S_ISREG(st.st_mode):
        first = seen.setdefault((st.st_dev, st.st_ino), name)
        if first != name:
            info.type, info.linkname = tarfile.LNKTYPE, first
        else:
            info.size = st.st_size
    elif stat.S_ISFIFO(st.st_mode):
        info.type = tarfile.FIFOTYPE
    else:
        return None
    return info


def pack(root, out, as_root=False, skip=()):
    """Writes the tree at `root` to the file object `out` as a PAX tar.

    `skip` names directories whose content (not the directory itself) is left out.
    """
    seen = {}
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT,
                      errors="surrogateescape", bufsize=1 << 20) as tar:
        for name, path in _entries(root):
            if any(name.startswith(s + "/") for s in skip):
                continue
            st = os.lstat(path)
            if stat.S_ISCHR(st.st_mode) and st.st_rdev == 0:
                head, _, leaf = name.rpartition("/")
                tar.addfile(_marker(f"{head}/.wh.{leaf}" if head else f".wh.{leaf}"))
                continue
            info = _member(name, path, st, seen, as_root)
            if info is None:
                continue
            if info.isreg():
                with open(path, "rb") as body:
                    tar.addfile(info, body)
            else:
                tar.addfile(info)
            if info.isdir() and any(_xattr(path, x) == b"y" for x in OPAQUE):
                tar.addfile(_marker(name + "/.wh..wh..opq"))

"""Reads an image, an OCI layout or a `docker save` archive, into what can be compared.

`Image.files` is the root file system that the layers make: path -> `Entry`. `Image.steps` is, per layer, what it
changed in that: the way in which a layer says so (whiteouts or opaque directories, repeated parents) is no
difference. Shares nothing with lapstrake.
"""

import gzip
import hashlib
import json
import os
import subprocess
import tarfile
import threading

KINDS = {tarfile.REGTYPE: "file", tarfile.AREGTYPE: "file", tarfile.DIRTYPE: "dir", tarfile.SYMTYPE: "link",
         tarfile.CHRTYPE: "char", tarfile.BLKTYPE: "block", tarfile.FIFOTYPE: "fifo"}
TEXT_LIMIT = 4096


class Entry:
    """One inode; paths that are hardlinks of each other share it."""

    def __init__(self, member, body):
        self.kind = KINDS[member.type]
        self.mode = f"{member.mode & 0o7777:04o}" if self.kind != "link" else ""
        self.owner = f"{member.uid}:{member.gid}"
        self.mtime = int(float(member.mtime))
        self.target = member.linkname if self.kind == "link" else ""
        self.device = f"{member.devmajor}:{member.devminor}" if self.kind in ("char", "block") else ""
        self.xattrs = {k.removeprefix("SCHILY.xattr."): v.encode("utf-8", "surrogateescape").hex()
                       for k, v in member.pax_headers.items() if k.startswith("SCHILY.xattr.")}
        self.text = body if len(body) <= TEXT_LIMIT else None
        self.content = f"{len(body)} bytes, {hashlib.sha256(body).hexdigest()[:16]}" if self.kind == "file" else ""

    FIELDS = ("kind", "mode", "owner", "mtime", "target", "device", "xattrs", "content")

    def key(self):
        return tuple(str(getattr(self, f)) for f in self.FIELDS)


class Layers:
    """Layers that were read, by the digest of their tar: those of the bases are read once."""

    def __init__(self):
        self.known, self.lock = {}, threading.Lock()

    def get(self, diff_id, read):
        with self.lock:
            if diff_id in self.known:
                return self.known[diff_id]
        found = read()
        with self.lock:
            self.known[diff_id] = found
        return found


def clean(name):
    return "/" + "/".join(part for part in name.split("/") if part not in ("", "."))


def read_layer(stream):
    """The members of a layer: (path, Entry), (path, the path it is a hardlink of) or (path, None) for a
    directory's opaque mark or a deletion."""
    out = []
    with tarfile.open(fileobj=stream, mode="r|", errors="surrogateescape") as tar:
        for member in tar:
            path = clean(member.name)
            leaf = path.rpartition("/")[2]
            if leaf.startswith(".wh."):
                out.append((path, None))
            elif member.islnk():
                out.append((path, clean(member.linkname)))
            else:
                body = tar.extractfile(member).read() if member.isreg() else b""
                out.append((path, Entry(member, body)))
    return out


def below(files, path):
    prefix = "/" if path == "/" else path + "/"
    return [p for p in files if p.startswith(prefix) and p != path]


def apply(files, members):
    """The files after a layer; deletions first, since they are about the layers below."""
    files = dict(files)
    for path, item in members:
        if item is not None:
            continue
        head, _, leaf = path.rpartition("/")
        if leaf == ".wh..wh..opq":
            gone = below(files, head or "/")
        else:
            gone = [f"{head}/{leaf[4:]}"] + below(files, f"{head}/{leaf[4:]}")
        for one in gone:
            files.pop(one, None)
    for path, item in members:
        if item is None:
            continue
        entry = files.get(item) if isinstance(item, str) else item
        if entry is None:
            raise ValueError(f"{path} is a hardlink of {item}, which is not there")
        if entry.kind != "dir":
            for one in below(files, path):
                files.pop(one)
        files[path] = entry
    return files


class Image:
    """An image's configuration, its files and what each layer changed."""

    def __init__(self, config, layers):
        self.config = config
        self.files, self.steps = {}, []
        for members in layers:
            after = apply(self.files, members)
            self.steps.append(changes(self.files, after))
            self.files = after

    def groups(self):
        """Path -> the sorted paths of its hardlink group, for groups of more than one."""
        by = {}
        for path, entry in self.files.items():
            by.setdefault(id(entry), []).append(path)
        return {p: sorted(paths) for paths in by.values() if len(paths) > 1 for p in paths}


def changes(before, after):
    """What a layer did: `+path`, `-path` and `~path`; a directory that only has a new time was not changed."""
    out = {"-" + p for p in before if p not in after}
    for path, entry in after.items():
        old = before.get(path)
        if old is None:
            out.add("+" + path)
        elif old is not entry:
            if entry.kind == old.kind == "dir":
                if (old.mode, old.owner) != (entry.mode, entry.owner):
                    out.add("~" + path)
            elif old.key() != entry.key():
                out.add("~" + path)
    return out


def _open_blob(path):
    with open(path, "rb") as f:
        magic = f.read(4)
    if magic[:2] == b"\x1f\x8b":
        return gzip.open(path)
    if magic == b"\x28\xb5\x2f\xfd":
        return subprocess.Popen(["zstd", "-dc", path], stdout=subprocess.PIPE).stdout
    return open(path, "rb")


def load_layout(directory, cache):
    """The one image of an OCI layout directory."""
    def blob(digest):
        return os.path.join(directory, "blobs", *digest.split(":"))

    with open(os.path.join(directory, "index.json")) as f:
        entry = json.load(f)["manifests"][0]
    return _load(blob, blob(entry["digest"]), cache)


def load_dir(directory, cache):
    """The one image of a directory in skopeo's and buildah's form `dir`."""
    return _load(lambda digest: os.path.join(directory, digest.rpartition(":")[2]),
                 os.path.join(directory, "manifest.json"), cache)


def _load(blob, manifest, cache):
    def read(digest):
        def call():
            with _open_blob(blob(digest)) as stream:
                return read_layer(stream)
        return call

    with open(manifest) as f:
        manifest = json.load(f)
    with open(blob(manifest["config"]["digest"])) as f:
        config = json.load(f)
    ids = config["rootfs"].get("diff_ids") or []
    layers = manifest.get("layers") or []
    if len(ids) != len(layers):
        raise ValueError(f"{len(layers)} layers and {len(ids)} diff ids")
    return Image(config, [cache.get(i, read(l["digest"])) for i, l in zip(ids, layers)])


def load_saved(path, cache):
    """The one image of a `docker save` archive."""
    with tarfile.open(path) as tar:
        manifest = json.load(tar.extractfile("manifest.json"))[0]
        config = json.load(tar.extractfile(manifest["Config"]))
        ids = config["rootfs"].get("diff_ids") or []
        names = manifest["Layers"] or []
        return Image(config, [cache.get(i, lambda n=n: read_layer(tar.extractfile(n))) for i, n in zip(ids, names)])

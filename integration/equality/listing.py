"""Where two images differ: their configurations, and the entries of their layers as lines of text."""

import difflib
import hashlib
import json
import tarfile

from harness.builders import load_layout

KINDS = {tarfile.REGTYPE: "file", tarfile.DIRTYPE: "dir", tarfile.SYMTYPE: "link", tarfile.LNKTYPE: "hardlink",
         tarfile.CHRTYPE: "char", tarfile.BLKTYPE: "block", tarfile.FIFOTYPE: "fifo"}


def entries(path):
    """A line for each entry of an uncompressed layer, in its order."""
    with tarfile.open(path, errors="surrogateescape") as tar:
        return [_line(tar, info) for info in tar]


def _line(tar, info):
    parts = [info.name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"), KINDS.get(info.type, "?"),
             f"{info.mode:04o}", f"{info.uid}:{info.gid}", f"@{info.mtime}"]
    if info.isreg():
        digest = hashlib.sha256(tar.extractfile(info).read()).hexdigest()[:12]
        parts.append(f"{info.size} bytes {digest}")
    if info.linkname:
        parts.append(f"-> {info.linkname}")
    if info.ischr() or info.isblk():
        parts.append(f"{info.devmajor}:{info.devminor}")
    parts += [f"{k}={v!r}" for k, v in sorted(info.pax_headers.items()) if k not in ("path", "linkpath", "size", "mtime")]
    return " ".join(parts)


def differences(first, second, names):
    """Lines about two layouts; `names` are those of their builders."""
    (one, config, layers), (other, other_config, other_layers) = load_layout(first), load_layout(second)
    out = []
    if config != other_config:
        for key in sorted(set(config) | set(other_config)):
            if config.get(key) != other_config.get(key) and key != "rootfs":
                out.append(f"{key}: {names[0]} {json.dumps(config.get(key))}")
                out.append(f"{key}: {names[1]} {json.dumps(other_config.get(key))}")
    if len(layers) != len(other_layers):
        out.append(f"{names[0]} has {len(layers)} layers, {names[1]} {len(other_layers)}")
    histories = [h.get("created_by", "") for h in config.get("history", []) if not h.get("empty_layer")]
    for number, (a, b) in enumerate(zip(layers, other_layers)):
        if one["layers"][number]["digest"] == other["layers"][number]["digest"]:
            continue
        step = histories[number][:100] if number < len(histories) else ""
        out.append(f"layer {number}, {step}:")
        mine, theirs = entries(a), entries(b)
        lines = difflib.unified_diff(mine, theirs, *names, lineterm="", n=0)
        found = [line for line in lines if not line.startswith("@@")]
        out += found[:40] or ["the same entries in other bytes"]
    return out

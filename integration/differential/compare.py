"""What differs between two images, as fields with two values.

Fields are named `files/PATH:WHAT`, `layers/N` and `layers:count`, `config/KEY`, `history/KEYWORD/N:WHAT`,
`history:count` and `top/KEY`; `refused` when one of the two does not build, `unbuilt` when neither does. Times of
what a build made are `now`: only older ones are compared.
"""

import difflib
import time

from .image import Entry

NOW = time.time() - 86400
# Of the config's top: when and by what it was made, and what is compared elsewhere.
UNCOMPARED = {"created", "rootfs", "history", "config", "container", "container_config", "docker_version", "id", "parent"}


class Difference:
    """One field: `ours` is lapstrake's value."""

    def __init__(self, field, ours, theirs):
        self.field, self.ours, self.theirs = field, ours, theirs

    def __str__(self):
        return f"{self.field}\n    lapstrake: {self.ours!r}\n    peer:      {self.theirs!r}"


def compare(ours, theirs, same_steps=True):
    """All differences; without `same_steps` the history and the layers are left out."""
    out = files(ours, theirs) + config(ours.config, theirs.config)
    if same_steps:
        out += history(ours.config, theirs.config) + layers(ours, theirs)
    return out


def when(entry):
    return "now" if entry.mtime > NOW else entry.mtime


def files(ours, theirs):
    out = []
    mine, other = ours.groups(), theirs.groups()
    for path in sorted(set(ours.files) | set(theirs.files)):
        a, b = ours.files.get(path), theirs.files.get(path)
        if a is None or b is None:
            out.append(Difference(f"files{path}:present", describe(a), describe(b)))
            continue
        if a.kind != b.kind:
            out.append(Difference(f"files{path}:kind", describe(a), describe(b)))
            continue
        for field in Entry.FIELDS:
            x, y = (when(a), when(b)) if field == "mtime" else (getattr(a, field), getattr(b, field))
            if x != y:
                name = "dir-mtime" if field == "mtime" and a.kind == "dir" else field
                out.extend(content(path, a, b) if field == "content" else [Difference(f"files{path}:{name}", x, y)])
        if mine.get(path) != other.get(path):
            out.append(Difference(f"files{path}:hardlinks", mine.get(path), other.get(path)))
    return out


def describe(entry):
    if entry is None:
        return "nothing"
    return " ".join(v for v in (entry.kind, entry.mode, entry.owner, entry.target, entry.content) if v)


def content(path, a, b):
    """Small texts line by line, a field per line that differs."""
    try:
        x, y = (e.text.decode().splitlines() for e in (a, b))
    except (AttributeError, UnicodeDecodeError):
        return [Difference(f"files{path}:content", a.content, b.content)]
    out = []
    for tag, i, j, k, l in difflib.SequenceMatcher(None, x, y, autojunk=False).get_opcodes():
        if tag != "equal":
            key = (x[i:j] or y[k:l])[0].split("=")[0].split(":")[0][:40]
            out.append(Difference(f"files{path}:content/{key}", "\n".join(x[i:j]), "\n".join(y[k:l])))
    return out or [Difference(f"files{path}:content", a.text, b.text)]


def flat(value):
    """Empty and absent mean the same in an image's configuration."""
    return None if value in ("", [], {}, False, 0) else value


def config(ours, theirs):
    out = []
    for top in sorted((set(ours) | set(theirs)) - UNCOMPARED):
        if flat(ours.get(top)) != flat(theirs.get(top)):
            out.append(Difference(f"top/{top}", ours.get(top), theirs.get(top)))
    a, b = ours.get("config") or {}, theirs.get("config") or {}
    for key in sorted(set(a) | set(b)):
        # An empty Cmd and no Cmd are not the same.
        x, y = (a.get(key), b.get(key)) if key in ("Cmd", "Entrypoint") else (flat(a.get(key)), flat(b.get(key)))
        if x != y:
            out.append(Difference(f"config/{key}", a.get(key), b.get(key)))
    return out


def history(ours, theirs):
    if theirs.get("history") is None:
        return []  # an image of no layers, of which docker tells less
    a, b = ours.get("history") or [], theirs.get("history")
    out = []
    if len(a) != len(b):
        out.append(Difference("history:count", [h.get("created_by") for h in a], [h.get("created_by") for h in b]))
        return out
    for number, (x, y) in enumerate(zip(a, b)):
        for key in sorted((set(x) | set(y)) - {"created"}):
            if flat(x.get(key)) != flat(y.get(key)):
                keyword = (x.get("created_by") or "none").split()[0]
                out.append(Difference(f"history/{keyword}/{number}:{key}", x.get(key), y.get(key)))
    return out


def layers(ours, theirs):
    if len(ours.steps) != len(theirs.steps):
        return [Difference("layers:count", len(ours.steps), len(theirs.steps))]
    return [Difference(f"layers/{n}:{path}", path in a, path in b)
            for n, (a, b) in enumerate(zip(ours.steps, theirs.steps)) for path in sorted(a ^ b)]

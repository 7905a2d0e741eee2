"""The table environment x scenario, for a terminal and as a page."""

import os
import platform

from . import table

HEAD = """# What works where

`make environments WRITE=1` makes this page: each scenario of `integration/scenarios` is built in a replica of each place,
and the image compared with the one that a login with subordinate ids gets (`E1`). With `SOURCE_DATE_EPOCH` set its manifest
has the same digest everywhere. A cell has the seconds that the builds took, with empty stores, and how many times as much
of the processors as in `E1`. `make test-environments` has a part of it.

| | place | mode | store |
|---|---|---|---|
"""
TAIL = """
## What is emulated

The containers are runc's, with the users, capabilities, seccomp profiles, masked and read-only paths, id maps and mounts
that the engines give them, and the machine's own kernel. Not the engines themselves, and not these:

- There is no AppArmor and no SELinux: `E4a` and `E10` have a seccomp filter with the errno that AppArmor's profiles give. On
  Ubuntu a process cannot write its own id map, either; in `E10` it can.
- `E11b` refuses `unshare` and `clone3`, but not `clone` with `CLONE_NEWUSER`.
- Containers share the machine's network, since base images come from a registry on loopback. With a user namespace
  of their own they have the machine's `/sys`, bound read-only, in place of a fresh one.
- Pods with `hostUsers: false` have files with shifted owners in place of mounts with an id map.
- `E13` is started by root with the id map of a user.
- cgroups are of the second version, without controllers where the machine has those of the first.
- Base images are stand-ins made of the distribution's packages.
- gVisor, Kata Containers and other kernels than the machine's are not among them.
"""


def text(found, name, title, reference):
    """A cell: seconds, and how many times as much of the processors as in the reference."""
    cell = found[name].get(title)
    if cell is None:
        return ""
    if cell["result"] != "built":
        return {"failed": "FAILED"}.get(cell["result"], cell["result"])
    base = found[reference].get(title, {}).get("computing")
    times = f" ×{cell['computing'] / base:.1f}" if base and name != reference else ""
    return f"{cell['seconds']:.1f} s{times}"


def rows(found, reference):
    """Lines of cells, the first with the scenarios' numbers, and the scenarios' names."""
    titles = sorted({title for cells in found.values() for title in cells})
    out = [["", "mode", *(title.split("-")[0] for title in titles)]]
    for name in [n for n in table.ENVIRONMENTS if n in found]:
        modes = {cell["mode"] for cell in found[name].values() if cell.get("mode")}
        mode = " ".join(sorted(modes)) or (table.REFUSED if found[name] else "")
        out.append([name, mode, *(text(found, name, title, reference) for title in titles)])
    return out, titles


def plain(found, reference):
    lines, _ = rows(found, reference)
    widths = [max(len(row[n]) for row in lines) for n in range(len(lines[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in lines)


def store(environment):
    if table.expected(environment) == table.REFUSED:
        return ""
    return f"`{environment.place_of_store}`"


def write(path, found, reference):
    lines, titles = rows(found, reference)
    places = "".join(f"| {name} | {table.ENVIRONMENTS[name].what} | {mode} | {store(table.ENVIRONMENTS[name])} |\n"
                     for name, mode, *_ in lines[1:])
    body = "\n".join("| " + " | ".join([row[0], *row[2:]]) + " |" for row in lines)
    body = body.replace("\n", "\n|" + "---|" * (len(titles) + 1) + "\n", 1)
    legend = ", ".join(f"`{title}`" for title in titles)
    about = f"{platform.machine()}, {os.cpu_count()} processors, Linux {platform.release().split('-')[0]}"
    with open(path, "w") as f:
        f.write(f"{HEAD}{places}\nThe scenarios are {legend}. Measured on {about}.\n\n{body}\n{TAIL}")

"""The table environment x scenario, for a terminal and as a page."""

from . import table


def text(found, name, title, reference):
    """A cell: seconds and how many times as long as the reference took."""
    cell = found[name].get(title)
    if cell is None:
        return ""
    if cell["result"] != "built":
        return {"failed": "FAILED"}.get(cell["result"], cell["result"])
    base = found[reference].get(title, {}).get("seconds")
    times = f" ×{cell['seconds'] / base:.1f}" if base and name != reference else ""
    return f"{cell['seconds']:.1f} s{times}"


def rows(found, reference):
    titles = sorted({title for cells in found.values() for title in cells})
    head = ["", "mode", *(title.split("-")[0] for title in titles)]
    out = [head]
    for name in [n for n in table.ENVIRONMENTS if n in found]:
        modes = {cell["mode"] for cell in found[name].values() if cell.get("mode")}
        mode = " ".join(sorted(modes)) or ("refused" if found[name] else "")
        out.append([name, mode, *(text(found, name, title, reference) for title in titles)])
    return out, titles


def plain(found, reference):
    lines, _ = rows(found, reference)
    widths = [max(len(row[n]) for row in lines) for n in range(len(lines[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in lines)

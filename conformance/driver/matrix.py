"""The matrix of SDKs and checks, as text in README.md."""

from . import defects, vectors
from .paths import HERE
from .plan import CHECKS, applies
from .relay import TOPOLOGIES
from .sdks import SDKS

README = HERE / "README.md"
BEGIN, END = "<!-- the run writes from here -->\n", "<!-- to here -->\n"


def count(worlds):
    held = [holds for world in worlds for holds, _ in world.found.values()]
    return sum(held), len(held) - sum(held)


def cell(world, check, sdk):
    if not applies(check, world.topology, sdk):
        return "–"
    holds, _ = world.found.get((check.key, sdk.key), (False, ""))
    if not holds:
        return "**fails**"
    notes = ", ".join(str(number) for number in defects_in(check, sdk))
    return f"ok, but {notes}" if notes else "ok"


def defects_in(check, sdk):
    """The SDK's own defects that a check comes upon."""
    named = [number for number, entry in defects.of(sdk) if entry.get("check") == check.key]
    if named or check.key not in ("vectors", "and-rules") or sdk.browser:
        return named
    made = vectors.load(check.key == "and-rules", everyday=True)
    return [number for number, entry in defects.of(sdk) if any(map(made.has, entry["shown_by"]))]


def table(worlds):
    lines = ["| | " + " | ".join(f"{sdk.title} {sdk.version}" for sdk in SDKS) + " |"]
    lines.append("| --- |" + " --- |" * len(SDKS))
    for world in worlds:
        lines.append(f"| **{TOPOLOGIES[world.topology]}** |" + " |" * len(SDKS))
        for check in (check for check in CHECKS if check.shown and world.topology in check.topologies):
            lines.append(f"| {check.title} | " + " | ".join(cell(world, check, sdk) for sdk in SDKS) + " |")
    lines.append("\nDefects of SDKs, each shown on a plain server in the same run (see `reproductions`):\n")
    titles = {sdk.key: sdk.title for sdk in SDKS}
    for number, entry in enumerate(defects.listed(), 1):
        lines.append(f"{number}. {', '.join(titles[key] for key in entry['sdks'])}: {entry['defect']}.")
    return "\n".join(lines) + "\n"


def update(worlds, write):
    """Whether README.md has another matrix than this run's; with `write`, puts it there."""
    text = README.read_text()
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    new = f"{before}{BEGIN}\n{table(worlds)}\n{END}{after}"
    if write:
        README.write_text(new)
        return False
    return new != text

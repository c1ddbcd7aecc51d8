"""What the published tables of settings say, against our pages and the effects that are shown.

published.json holds the facts of those tables, copied: names and defaults. Neither the pages nor the
effects decide what has to be there.
"""

import json
import pathlib
import re

from rig import ROOT

# Where our default is another one on purpose, and why; one that is as published does not belong here.
OTHER_DEFAULTS = {
    "PROMETHEUS_PORT": "unset is PORT, whose default is the published one: metrics follow PORT",
    "READ_REPLICA": "the full table says nothing, which is false, as its short table says",
}


def published():
    """Name and default of every published setting."""
    tables = json.loads((pathlib.Path(__file__).parent / "published.json").read_text())
    names = [name for table in tables.values() for name in table]
    assert len(names) == len(set(names)), "a name is published twice"
    return {name: default for table in tables.values() for name, default in table.items()}


def names_in(first_cells):
    return [name for cell in first_cells for name in re.findall(r"`([A-Z_0-9]+)`", cell)]


def rows():
    """The settings that docs/migrating.md has a row of, in its order."""
    table = (ROOT / "docs/migrating.md").read_text().split("## Setting by setting")[1].split("\n## ")[0]
    return names_in(re.findall(r"^\| (`[^|]*) \|", table, re.M))


def defaults():
    """The default of each setting, as docs/settings.md has it from the relay's own table."""
    page = (ROOT / "docs/settings.md").read_text()
    cells = re.findall(r"^\| `([A-Z_0-9]+)` \| [^|]* \| ([^|]*) \|", page, re.M)
    return {name: "" if cell == "–" else cell.strip("`") for name, cell in cells}


def faults(effects):
    """In words, everything in which tables, pages and effects do not agree."""
    told, migrating, ours = published(), rows(), defaults()
    for what, there in (
        ("no row in docs/migrating.md", migrating),
        ("no effect is shown", effects),
        ("no row in docs/settings.md", ours),
    ):
        yield from (f"{name}: {what}" for name in told if name not in there)
    yield from (f"{name}: a row in docs/migrating.md, but not published" for name in migrating if name not in told)
    yield from (f"{name}: an effect is shown, but it is not published" for name in effects if name not in told)
    yield from (f"{name}: two rows in docs/migrating.md" for name in set(migrating) if migrating.count(name) > 1)
    for name, default in told.items():
        differs = name in ours and ours[name] != default
        if differs and name not in OTHER_DEFAULTS:
            yield f"{name}: the published default is {default!r}, ours {ours[name]!r}"
        if not differs and name in OTHER_DEFAULTS:
            yield f"{name}: its default is as published, and listed as another"

"""The evaluation vectors as environments: several lines in one, with the names of each line apart."""

import copy
import functools
import json

from .paths import VECTORS

FILES = ["basics", "targeting", "rules", "groups", "distributions", "prerequisites"]
# Server SDKs evaluate themselves. Of what SaaS never makes (lists that are null, states that are
# neither on nor off, flags that need each other) one cannot read the list and others never come back,
# whoever serves it, so they get the lines of flags as people make them.
EVERYDAY = {
    "basics": {1},
    "targeting": {0, 1, 6},
    "rules": {0, 1},
    "groups": {0, 1, 2, 3, 6},
    "distributions": {0, 1, 4, 5},
    "prerequisites": {0, 3, 7},
}


@functools.cache
def load(and_rules, everyday):
    """The vectors, read once: they are large, and never changed."""
    return Vectors(and_rules, everyday)


class Vectors:
    """The lines of the files with `and_rules`, merged; `everyday`: without the contrived ones."""

    def __init__(self, and_rules, everyday):
        self.flags, self.groups = [], []
        self.questions = []  # (question, the value expected or None, line)
        for name in FILES:
            for number, text in enumerate((VECTORS / f"{name}.jsonl").read_text().splitlines()):
                line = json.loads(text)
                taken = not everyday or number in EVERYDAY[name]
                if line["andRules"] == and_rules and taken:
                    self._add(f"{name}{number}", line, everyday)

    def _add(self, prefix, line, everyday):
        own = {flag["feature"] for flag in line["flags"]}
        # A name may hold anything; in a path only so much, and no line speaks of another's flags.
        names = {name: f"{prefix}_f{at}" for at, name in enumerate(sorted(own))}
        renamed = [rename(flag, names, prefix) for flag in line["flags"]]
        groups = [rename_group(group, prefix) for group in line["segments"]]
        if everyday:
            renamed = [{**FLAG, **given(flag)} for flag in renamed]
            groups = [{**GROUP, "name": group["identifier"], **given(group)} for group in groups]
        self.flags += renamed
        self.groups += groups
        kinds = {flag["feature"]: flag for flag in renamed}
        for target, expected in zip(line["targets"], line["expected"]):
            if everyday and not target.get("identifier"):
                continue  # no SDK takes such a target
            for name, variation in expected.items():
                flag = kinds[names[name]]
                self.questions.append((question(flag, target), value(flag, variation), (prefix, line["name"], name)))

    def has(self, prefix):
        return any(line[0] == prefix for _, _, line in self.questions)

    def only(self, name):
        """One flag, with the flags that it needs and the groups."""
        flags = {flag["feature"]: flag for flag in self.flags}
        wanted, queue = [], [name]
        while queue:
            flag = flags.get(queue.pop())
            if flag and flag not in wanted:
                wanted.append(flag)
                queue += [needed["feature"] for needed in flag.get("prerequisites") or []]
        line = name.partition("_")[0] + "_"
        return wanted, [group for group in self.groups if group["identifier"].startswith(line)]


# A list that is null or absent is an empty one; SaaS sends it so, and SDKs rely on that.
FLAG = {"rules": [], "prerequisites": [], "variationToTargetMap": None, "offVariation": ""}
GROUP = {"environment": "e", "tags": [], "included": [], "excluded": [], "rules": [], "version": 1}


def given(item):
    """An item without its nulls, and with the lists that it lacks."""
    item = {name: value for name, value in item.items() if value is not None}
    for field in ("rules", "servingRules"):
        for rule in item.get(field, []):
            if "serve" in rule or field == "servingRules":
                rule["clauses"] = rule.get("clauses") or []
    for needed in item.get("prerequisites", []):
        needed["variations"] = needed.get("variations") or []
    return item


def rename(flag, names, prefix):
    flag = copy.deepcopy(flag)
    flag["feature"] = names[flag["feature"]]
    for needed in flag.get("prerequisites") or []:
        needed["feature"] = names.get(needed["feature"], f"{prefix}_unknown")
    for entry in flag.get("variationToTargetMap") or []:
        if entry.get("targetSegments"):
            entry["targetSegments"] = [f"{prefix}_{name}" for name in entry["targetSegments"]]
    for rule in flag.get("rules") or []:
        rename_clauses(rule.get("clauses"), prefix)
    return flag


def rename_group(group, prefix):
    group = copy.deepcopy(group)
    group["identifier"] = f"{prefix}_{group['identifier']}"
    rename_clauses(group.get("rules"), prefix)
    for rule in group.get("servingRules") or []:
        rename_clauses(rule.get("clauses"), prefix)
    return group


def rename_clauses(clauses, prefix):
    for clause in clauses or []:
        if clause.get("op") == "segmentMatch" and clause.get("values"):
            clause["values"] = [f"{prefix}_{name}" for name in clause["values"]]


DEFAULTS = {"boolean": False, "int": -987_654, "json": {"the": "default"}, "string": "the default"}


def question(flag, target):
    return {"flag": flag["feature"], "kind": flag["kind"], "target": target, "default": DEFAULTS[flag["kind"]]}


def value(flag, variation):
    """What an SDK gives for a variation; the default where evaluation fails."""
    if variation is None:
        return DEFAULTS[flag["kind"]]
    text = next(v["value"] for v in flag["variations"] if v["identifier"] == variation)
    return {
        "boolean": lambda: text.lower() == "true",
        "int": lambda: float(text),
        "json": lambda: json.loads(text),
        "string": lambda: text,
    }[flag["kind"]]()

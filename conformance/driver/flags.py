"""Flags, groups and targets that the checks make."""

ALICE = {
    "identifier": "alice",
    "name": "Alice",
    "attributes": {"email": "alice@harness.io", "plan": "gold", "country": "de"},
}


def flag(name, count=2, kind="string", values=None):
    """A flag with variations `v0`, `v1`, …, of which `v0` is served."""
    values = values or [f"value-{n}" for n in range(count)]
    return {
        "project": "project",
        "environment": "environment",
        "feature": name,
        "kind": kind,
        "state": "on",
        "variations": [{"identifier": f"v{n}", "name": f"v{n}", "value": v} for n, v in enumerate(values)],
        "defaultServe": {"variation": "v0"},
        "offVariation": "v0",
        "rules": [],
        "prerequisites": [],
        "variationToTargetMap": None,
        "version": 1,
    }


def serving(number):
    """What is changed in a flag so that another variation is served."""
    return {"defaultServe": {"variation": f"v{number}"}}


def in_group(name, group):
    """A flag that serves `v1` to a group."""
    clause = {"id": "c", "attribute": "", "op": "segmentMatch", "values": [group], "negate": False}
    rule = {"ruleId": "r", "priority": 1, "clauses": [clause], "serve": {"variation": "v1"}}
    return {**flag(name), "rules": [rule]}


def group(name, members=()):
    return {
        "identifier": name,
        "name": name,
        "environment": "environment",
        "tags": [],
        "included": listed(members),
        "excluded": [],
        "rules": [],
        "servingRules": [],
        "createdAt": 1_700_000_000_000,
        "modifiedAt": 1_700_000_000_000,
        "version": 1,
    }


def listed(members):
    extra = {"account": "", "org": "", "project": "", "environment": ""}
    return [{"identifier": member, "name": member, **extra} for member in members]


def ask(name, target=ALICE, kind="string", default="the default"):
    return {"flag": name, "kind": kind, "target": target, "default": default}

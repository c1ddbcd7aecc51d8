"""What an SDK evaluates: every kind, and the answers of the vectors."""

import json
import re

from .. import defects
from ..flags import ALICE, ask, flag
from ..process import Failed
from ..vectors import load

KINDS = [
    flag("a-boolean", kind="boolean", values=["true", "false"]),
    flag("a-string", kind="string", values=["grün & blau", "x"]),
    flag("a-number", kind="int", values=["42.5", "1"]),
    flag("a-json", kind="json", values=['{"size":"small","list":[1,2,{"deep":null}]}', "{}"]),
]
QUESTIONS = [
    ask("a-boolean", kind="boolean", default=False),
    ask("a-string"),
    ask("a-number", kind="int", default=-1),
    ask("a-json", kind="json", default={}),
]
VALUES = [True, "grün & blau", 42.5, {"size": "small", "list": [1, 2, {"deep": None}]}]


async def prepare_kinds(site):
    """An environment with a flag of every kind."""
    environment, key = site.lease()
    for item in KINDS:
        await site.saas.create(environment, "flag", item, announce=False)
    return environment, key


def compare(values):
    if values != VALUES:
        raise Failed(f"values are {json.dumps(values)}")


async def kinds(case, url=None, site="steady", **more):
    """Initialises, evaluates a flag of every kind, and streams."""
    site = case.site(site)
    app = await case.open(url or site.url, site.kinds[1], ALICE, **more)
    compare(await app.values(QUESTIONS))
    await app.close()


# A browser evaluates for one target, which has to authenticate.
AUTHENTICATES = re.compile(r"[A-Za-z0-9.@_-]+")


async def ask_all(case, url, key, questions):
    """The SDK's answer to every question, in order."""
    if not case.sdk.browser:
        app = await case.open(url, key, ALICE)
        given = await app.values([question for question, _, _ in questions])
        await app.close()
        return list(zip(questions, given))
    by_target = {}
    for entry in questions:
        target = entry[0]["target"]
        if AUTHENTICATES.fullmatch(target.get("identifier") or ""):
            by_target.setdefault(json.dumps(target), []).append(entry)
    given = []
    for text, entries in by_target.items():
        app = case.app()
        # One after the other, without streams, in one page.
        page = {"page": "vectors"}
        if not await app.open(url, key, json.loads(text), stream=False, **page):
            raise Failed(f"it did not initialise for the target {text}")
        given += zip(entries, await app.values([question for question, _, _ in entries], **page))
        await app.close(**page)
    return given


async def compare_vectors(case, url, key, and_rules):
    vectors = load(and_rules, everyday=not case.sdk.browser)
    given = await ask_all(case, url, key, vectors.questions)
    wrong = [(entry, value) for entry, value in given if value != entry[1]]
    strange = [
        f"{' / '.join(line)} for {json.dumps(question['target'])}: {value!r}, not {expected!r}"
        for (question, expected, line), value in wrong
        if not defects.excuse(case.sdk, line)
    ]
    if strange:
        raise Failed(f"{len(strange)} of {len(given)} answers differ: " + "; ".join(strange[:20]))
    shown = {(line[0], line[2]): (entry, value) for entry, value in wrong for line in [entry[2]]}
    for number, entry in defects.of(case.sdk):
        for prefix, flags in entry["shown_by"].items():
            missing = [flag for flag in flags if (prefix, flag) not in shown]
            if missing and vectors.has(prefix):
                raise Failed(f"defect {number} does not show in {prefix} / {missing} any more: strike it")
    await defects.reproduce(case, vectors, shown.values())
    return f"{len(given)} answers, {len(wrong)} of them wrong as at a plain server" if wrong else f"{len(given)} answers"


async def vectors(case):
    site = case.site("vectors")
    return await compare_vectors(case, site.url, site.vectors(case)[1], and_rules=False)


async def and_rules(case):
    site = case.site("and")
    return await compare_vectors(case, site.url, site.vectors(case)[1], and_rules=True)

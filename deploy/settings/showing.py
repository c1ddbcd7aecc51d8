"""What the effects of settings are shown with."""

import json
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from rig import ask, bearer, binary, stop, token  # noqa: E402

EFFECTS = {}
WAITING = set()


def shows(*names, waits=False):
    """Marks what shows the effect of these settings; `waits`: for a minute, so that it has company."""
    def mark(effect):
        twice = EFFECTS.keys() & set(names)
        assert not twice, f"two effects of {twice}"
        EFFECTS.update({name: effect for name in names})
        if waits:
            WAITING.add(effect)
        return effect
    return mark


def health(relay):
    return json.loads(ask(f"{relay}/health")[1])


def first(saas):
    return next(iter(saas.keys.items()))


def flags_url(relay, saas):
    return f"{relay}/client/env/{first(saas)[0]}/feature-configs"


def refused(rig, env):
    """What a relay that does not start says."""
    process = rig.start("refused", [binary("ff-relay")], env)
    assert process.wait(60) == 2, process.returncode
    return rig.log("refused")


def posted(saas):
    return json.loads(ask(f"{saas.url}/admin/state")[1])["metrics"]


def post_metrics(relay, saas, *flags):
    """Posts an evaluation of each flag, of one where none is named, as an SDK does."""
    environment, key = first(saas)

    def counted(flag):
        attributes = {"featureIdentifier": flag, "featureName": flag, "variationIdentifier": "true",
                      "target": "__global__cf_target", "SDK_TYPE": "server",
                      "SDK_LANGUAGE": "python", "SDK_VERSION": "1.6.0"}
        return {"timestamp": 1_800_000_000_000, "count": 1, "metricsType": "FFMETRICS",
                "attributes": [{"key": k, "value": v} for k, v in attributes.items()]}
    body = {"metricsData": [counted(flag) for flag in flags or ("bool-flag-0",)]}
    code, text = ask(f"{relay}/metrics/{environment}", body, **bearer(token(relay, key)))
    assert code == 200, (code, text)


def stop_relay(rig, name="relay"):
    assert stop(rig.processes[name]) == 0, f"{name} did not stop cleanly"

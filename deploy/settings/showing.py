"""What the effects of settings are shown with."""

import json
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from rig import ask, bearer, binary, stop, token  # noqa: E402

EFFECTS = {}


def shows(*names):
    """Marks what shows the effect of these settings."""
    def mark(effect):
        EFFECTS.update({name: effect for name in names})
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


def post_metrics(relay, saas):
    environment, key = first(saas)
    attributes = {"featureIdentifier": "bool-flag-0", "featureName": "bool-flag-0",
                  "variationIdentifier": "true", "target": "__global__cf_target",
                  "SDK_TYPE": "server", "SDK_LANGUAGE": "python", "SDK_VERSION": "1.6.0"}
    body = {"metricsData": [{
        "timestamp": 1_800_000_000_000, "count": 1, "metricsType": "FFMETRICS",
        "attributes": [{"key": k, "value": v} for k, v in attributes.items()]}]}
    code, text = ask(f"{relay}/metrics/{environment}", body, **bearer(token(relay, key)))
    assert code == 200, (code, text)


def stop_relay(rig, name="relay"):
    assert stop(rig.processes[name]) == 0, f"{name} did not stop cleanly"

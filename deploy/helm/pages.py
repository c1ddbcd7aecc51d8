"""Follows the pages' steps with Helm: their blocks of shell run, with programs that only note what
they were asked, and what `helm install` was asked is rendered by the real one."""

import os
import re
import subprocess
import tempfile

import yaml

from chart import by_name, helm
from rig import ROOT

PAGES = (("deploy/README.md", "## Helm"), ("docs/offline.md", "### In Kubernetes"))
STUB = '#!/bin/sh\n{ printf "%s\\037" "${0##*/}" "$@"; echo; } >> "$CALLS"\n'


def section(page, heading):
    text = (ROOT / page).read_text()
    return re.split(r"^##+ ", text.split(f"\n{heading}\n")[1], maxsplit=1, flags=re.M)[0]


def calls(script):
    """What the shell of a page asks of programs, in order."""
    with tempfile.TemporaryDirectory() as folder:
        log = f"{folder}/calls"
        for name in ("deploy/image/build", "bin/buildah", "bin/docker", "bin/kubectl", "bin/helm"):
            path = f"{folder}/{name}"
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w") as stub:
                stub.write(STUB)
            os.chmod(path, 0o755)
        variables = {"PATH": f"{folder}/bin:{os.environ['PATH']}", "CALLS": log,
                     # The second page goes on where the first has pushed an image.
                     "IMAGE": "registry.example.com/flags/ff-relay", "TAG": "0.1.0"}
        subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=folder, env=variables, check=True)
        with open(log) as lines:
            return [line.rstrip("\n").split("\037")[:-1] for line in lines]


def followed(page, heading):
    """What is there when the page has been followed: objects of the chart, images, and secrets and
    ConfigMaps by name, each with its keys."""
    blocks = re.findall(r"^```sh\n(.*?)^```", section(page, heading), re.M | re.S)
    objects, pushed, made = {}, [], {}
    for program, *arguments in calls("".join(blocks)):
        if program == "buildah" and arguments[0] == "push":
            pushed.append(arguments[-1])
        elif program == "kubectl" and arguments[:3] == ["create", "secret", "generic"]:
            keys = [re.match("--from-(?:literal|file)=([^=]+)=", one) for one in arguments[4:]]
            made["secret", arguments[3]] = {key[1] for key in keys if key}
        elif program == "kubectl" and arguments[:2] == ["create", "configmap"]:
            made["configMap", arguments[2]] = set()
        elif program == "helm":
            verb, release, folder, *rest = arguments
            assert verb in ("install", "upgrade") and folder == "deploy/helm/ff-relay", arguments
            assert (ROOT / folder / "Chart.yaml").exists()
            assert any("image.tag=" in one for one in rest), f"{page}: the chart's tag is nobody's image"
            # A value that the chart has not is refused by its schema.
            objects = by_name(helm("template", release, "ff-relay", "--kube-version=1.31.0", *rest))
    return objects, pushed, made


def pages():
    for page, heading in PAGES:
        objects, pushed, made = followed(page, heading)
        pods = [found["spec"]["template"]["spec"] for (kind, _), found in objects.items()
                if kind in ("StatefulSet", "Deployment")]
        assert pods, f"{page} installs nothing"
        for spec in pods:
            image = spec["containers"][0]["image"]
            assert image.count("/") > 1, f"{page}: no registry in {image}"
            assert not pushed or image in pushed, (page, image, pushed)
            for volume in spec["volumes"]:
                if "secret" in volume:
                    keys = {item["key"] for item in volume["secret"]["items"]}
                    name = volume["secret"]["secretName"]
                    assert keys <= made["secret", name], (page, keys, made)
                if "configMap" in volume:
                    assert ("configMap", volume["configMap"]["name"]) in made, (page, volume, made)
        if page == "deploy/README.md":
            assert pushed, f"{page} pushes no image"
    for name in set(re.findall(r"`((?:[a-z]\w*\.)+[a-zA-Z]+)`", section(*PAGES[0]))):
        assert named(name), f"deploy/README.md names {name}, which the chart has not"


def named(value):
    """Whether the chart's values have it."""
    found = yaml.safe_load((ROOT / "deploy/helm/ff-relay/values.yaml").read_text())
    for part in value.split("."):
        if not isinstance(found, dict) or part not in found:
            return False
        found = found[part]
    return True

"""Renders the chart with the real helm, and finds things in what comes out."""

import pathlib
import subprocess

import kubernetes_validate
import yaml

from rig import ROOT

HERE = pathlib.Path(__file__).resolve().parent
CACHE = ROOT / ".cache" / "deploy"
KUBERNETES = ("1.25", "1.31", "1.36")
# Objects of the Prometheus operator: no schema of Kubernetes' own, so looked at by the test.
FOREIGN = {"ServiceMonitor", "PrometheusRule"}


def helm(*arguments, ok=True, **options):
    done = subprocess.run([CACHE / "helm", *arguments], capture_output=True, text=True, cwd=HERE, **options)
    assert (done.returncode == 0) == ok, (arguments, done.stdout + done.stderr)
    return done.stdout if ok else done.stdout + done.stderr


def render(*options, version="1.31", **more):
    text = helm("template", "fleet", "ff-relay", "--namespace=flags", f"--kube-version={version}.0",
                *options, **more)
    return by_name(text)


def by_name(text):
    objects = [found for found in yaml.safe_load_all(text) if found]
    return {(found["kind"], found["metadata"]["name"]): found for found in objects}


def valid(name):
    """What a set of values renders, after a look at it with each version's schemas."""
    values = f"--values=values/{name}.yaml"
    helm("lint", "--strict", "ff-relay", values)
    for version in KUBERNETES:
        for found in render(values, version=version).values():
            if found["kind"] not in FOREIGN:
                kubernetes_validate.validate(found, version, strict=True)
    return render(values)


def pod(objects, role, name="fleet-ff-relay"):
    kind = "StatefulSet" if role == "primary" else "Deployment"
    return objects[kind, f"{name}-{role}"]["spec"]["template"]


def container(objects, role):
    (only,) = pod(objects, role)["spec"]["containers"]
    return only


def environment(objects, role):
    """Variables by value; those of other sources are none of the relay's settings."""
    return {entry["name"]: entry["value"] for entry in container(objects, role)["env"] if "value" in entry}


def ports(objects, role):
    return {port["name"]: port["containerPort"] for port in container(objects, role)["ports"]}


def files(objects, role):
    """The single files that are mounted, each with the kind, name and key it comes from; what is
    mounted whole has the key None and the path of its folder."""
    volumes = {volume["name"]: volume for volume in pod(objects, role)["spec"]["volumes"]}
    found = {}
    for mount in container(objects, role)["volumeMounts"]:
        volume = volumes.get(mount["name"], {})  # a claim of the StatefulSet's is not among them
        sources = volume.get("projected", {}).get("sources", [volume])
        for kind, source in ((kind, source[kind]) for source in sources
                             for kind in ("secret", "configMap") if kind in source):
            name = source.get("name", source.get("secretName"))
            for item in source.get("items", [{"key": None, "path": ""}]):
                path = f"{mount['mountPath']}/{item['path']}".rstrip("/")
                found[path] = (kind, name, item["key"])
    return found


def selected(objects, selector):
    """The roles whose pods carry all of `selector`."""
    roles = [role for kind, role in (("StatefulSet", "primary"), ("Deployment", "replica"))
             if (kind, f"fleet-ff-relay-{role}") in objects]
    return [role for role in roles
            if selector.items() <= pod(objects, role)["metadata"]["labels"].items()]

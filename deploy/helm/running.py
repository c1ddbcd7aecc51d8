"""Relays with the environment, the files and the probes that the chart gives them, on this machine."""

import os
import subprocess

from chart import container, environment, files, render
from rig import Rig, ask, binary, certificate, free_port, token, until

SECRETS = {"proxy-key": "sim-proxy-key\n", "auth-secret": "a secret of the tests\n",
           "redis-password": "a password\n"}


def mounted(root, objects, role, content):
    """What the pod has mounted, below `root`: of each Secret and ConfigMap the files that the role gets,
    behind the links that Kubernetes exchanges at a change."""
    for path, (_, name, key) in files(objects, role).items():
        folder = root / path.lstrip("/")
        wanted = {name: None for name in content[name]} if key is None else {folder.name: key}
        folder = folder if key is None else folder.parent
        (folder / "..1").mkdir(parents=True, exist_ok=True)
        if not (folder / "..data").is_symlink():
            os.symlink("..1", folder / "..data")
        for file, key in wanted.items():
            (folder / "..1" / file).write_text(content[name][key or file])
            os.symlink(f"..data/{file}", folder / file)


def settings_here(rig, objects, role, content, **more):
    """The role's variables, with paths and ports of this machine."""
    root = rig.folder / f"root-of-{role}"
    mounted(root, objects, role, content)
    mounts = tuple(mount["mountPath"] for mount in container(objects, role)["volumeMounts"])
    settings = environment(objects, role)
    for name, value in settings.items():
        if value == "/config" or value.startswith(mounts):
            settings[name] = f"{root}{value}"
        if name in ("PORT", "ADMIN_PORT", "PROMETHEUS_PORT"):
            settings[name] = str(free_port())
    return settings | more


def fleets(sets):
    with Rig() as rig:
        saas = rig.simulator()
        redis = str(free_port())
        rig.start("redis", ["redis-server", "--port", redis, "--save", "", "--requirepass", "a password"],
                  cwd=rig.folder)
        for objects, role in ((sets["ha"], "primary"), (sets["ha"], "replica")):
            well(rig, objects, role, settings_here(
                rig, objects, role, {"ff-relay-secrets": SECRETS}, REDIS_ADDRESS=f"127.0.0.1:{redis}",
                CLIENT_SERVICE=saas.url, METRIC_SERVICE=saas.url))
    with Rig() as rig:
        saas = rig.simulator()
        well(rig, sets["single"], "primary", settings_here(
            rig, sets["single"], "primary", {"ff-relay-secrets": SECRETS},
            CLIENT_SERVICE=saas.url, METRIC_SERVICE=saas.url))


def well(rig, objects, role, settings):
    """The URL of a relay whose probes find it well."""
    url = rig.relay(settings, role, [binary("ff-relay")])
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert ask(url + container(objects, role)[probe]["httpGet"]["path"])[0] == 200, probe
    return url


def offline():
    """A relay without a proxy key, a SaaS and a Redis serves ConfigMaps of what was generated."""
    with Rig() as rig:
        saas = rig.simulator()
        made = rig.folder / "made"
        subprocess.run([binary("ff-relay")], check=True, capture_output=True, env={
            **saas.settings(), "GENERATE_OFFLINE_CONFIG": "true", "CONFIG_DIR": str(made)})
        content = {"ff-relay-secrets": {"auth-secret": SECRETS["auth-secret"]}}
        options = ["--values=values/single.yaml", "--set=offline.enabled=true"]
        for number, folder in enumerate(sorted(made.glob("env-*"))):
            content[f"flags-{number}"] = {file.name: file.read_text() for file in folder.iterdir()}
            options.append(f"--set=offline.configMaps.{folder.name.removeprefix('env-')}=flags-{number}")
        assert len(content) > 1, "nothing was generated"
        objects = render(*options)
        url = well(rig, objects, "primary", settings_here(rig, objects, "primary", content))
        for key in saas.keys.values():
            token(url, key, "alice")


def certificates_of_clients():
    """The kubelet, which has no certificate, finds a relay well that asks for one, and metrics too."""
    with Rig() as rig:
        saas = rig.simulator()
        cert, key = (path.read_text() for path in certificate(rig.folder))
        objects = render("--values=values/single.yaml", "--set=tls.secretName=pair",
                         "--set=ca.clients.configMap=ca", "--set=settings.PROMETHEUS_PORT=9100")
        content = {"ff-relay-secrets": SECRETS, "pair": {"tls.crt": cert, "tls.key": key},
                   "ca": {"ca.crt": cert}}
        settings = settings_here(rig, objects, "primary", content,
                                 CLIENT_SERVICE=saas.url, METRIC_SERVICE=saas.url)
        rig.start("relay", [binary("ff-relay")], settings)
        admin = environment(objects, "primary")["ADMIN_PORT"]

        def finds_well(probe):
            _, *arguments = container(objects, "primary")[probe]["exec"]["command"]
            arguments = [one.replace(f":{admin}/", f":{settings['ADMIN_PORT']}/") for one in arguments]
            done = subprocess.run([binary("ff-relay"), *arguments], env=settings, capture_output=True)
            return done.returncode == 0

        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            until(probe, lambda: finds_well(probe))
        assert ask(f"https://127.0.0.1:{settings['PORT']}/livez")[0] == 0
        assert ask(f"http://127.0.0.1:{settings['PROMETHEUS_PORT']}/metrics")[0] == 200


def runs(sets):
    fleets(sets)
    offline()
    certificates_of_clients()

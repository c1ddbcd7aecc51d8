"""Starts the simulated SaaS, relays and whatever else a test needs, and ends all of it again.

Standard library only. Used by the tests under deploy/ and docs/.
"""

import contextlib
import json
import os
import pathlib
import re
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
DEADLINE = 60  # generous: nothing takes so long, unless it never comes
# Nothing here is meant for a proxy, and certificates are made on the spot.
OPENER = urllib.request.build_opener(
    urllib.request.ProxyHandler({}),
    urllib.request.HTTPSHandler(context=ssl._create_unverified_context()),
)


def binary(name):
    """The path of one of our programs: $FF_RELAY, $FF_SAAS_SIM, or of the development build."""
    given = os.environ.get(name.upper().replace("-", "_"))
    path = pathlib.Path(given) if given else ROOT / "target" / "debug" / name
    if not path.exists():
        sys.exit(f"{path} is missing: cargo build -p ff-relay -p ff-saas-sim")
    return str(path)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(what, holds, limit=DEADLINE):
    """Waits until `holds()` is true, and returns it."""
    deadline = time.monotonic() + limit
    while True:
        result = holds()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"never came: {what}")
        time.sleep(0.1)


def ask(url, body=None, method=None, **headers):
    """Status and text of an answer; status 0 where there is none."""
    data = None if body is None else json.dumps(body).encode()
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    if data is not None:
        headers.setdefault("Content-Type", "application/json")
    request = urllib.request.Request(url, data, headers, method=method)
    try:
        with OPENER.open(request, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")
    except OSError:
        return 0, ""


class Rig(contextlib.ExitStack):
    """Processes with their logs in a folder of their own; a fault shows the logs' ends."""

    def __enter__(self):
        super().__enter__()
        folder = self.enter_context(tempfile.TemporaryDirectory(prefix="ff-relay-rig-"))
        self.folder = pathlib.Path(folder)
        self.logs, self.processes = {}, {}
        return self

    def __exit__(self, kind, error, trace):
        if error is not None:
            for name, path in self.logs.items():
                lines = path.read_text(errors="replace").splitlines()[-15:]
                print(f"--- {name}", *lines, sep="\n", file=sys.stderr)
        return super().__exit__(kind, error, trace)

    def start(self, name, argv, env=None, **options):
        """A process with `env` alone as its environment, besides PATH."""
        path = self.folder / f"{name}.log"
        self.logs[name] = path
        variables = {"PATH": os.environ["PATH"], **(env or {})}
        with path.open("ab") as log:
            process = subprocess.Popen(
                argv, env=variables, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **options
            )
        self.callback(stop, process)
        self.processes[name] = process
        return process

    def log(self, name):
        return self.logs[name].read_text(errors="replace")

    def simulator(self, *options, host="127.0.0.1", port=None, name="simulator"):
        port = port or free_port()
        argv = [binary("ff-saas-sim"), "--address", f"{host}:{port}", *options]
        self.start(name, argv)
        saas = Saas(f"http://{host}:{port}")
        until("the simulator", lambda: ask(f"{saas.url}/admin/state")[0] == 200)
        found = re.findall(r"^environment (\S+)  SDK key (\S+)", self.log(name), re.M)
        saas.keys = dict(found)
        return saas

    def relay(self, env, name="relay", argv=None):
        """A relay on a free port, ready; its URL."""
        env = dict(env)
        if "AUTH_SECRET_FILE" not in env:
            env.setdefault("AUTH_SECRET", "a secret of the tests")
        env.setdefault("PORT", str(free_port()))
        scheme = "https" if env.get("TLS_ENABLED") == "true" else "http"
        url = f"{scheme}://127.0.0.1:{env['PORT']}"
        process = self.start(name, argv or [binary("ff-relay")], env)

        def ready():
            assert process.poll() is None, f"{name} ended with {process.poll()}"
            return ask(f"{url}/readyz")[0] == 200

        until(f"{name} is ready", ready)
        return url


def certificate(folder, host="localhost"):
    """A certificate for a host, which is its own authority, and its key; the paths of both."""
    cert, key = folder / "tls.crt", folder / "tls.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-keyout", key, "-out", cert, "-days", "2", "-subj", f"/CN={host}",
         "-addext", f"subjectAltName=DNS:{host}", "-addext", "basicConstraints=critical,CA:FALSE"], check=True, capture_output=True)
    return cert, key


class Saas:
    """The simulated SaaS: where it is and the SDK key of each environment."""

    def __init__(self, url):
        self.url = url
        self.keys = {}

    def settings(self):
        return {
            "CLIENT_SERVICE": self.url,
            "METRIC_SERVICE": self.url,
            "PROXY_KEY": "sim-proxy-key",
        }


def stop(process, limit=20):
    """SIGTERM, and SIGKILL where that is not enough; the exit code."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(limit)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.wait()


def token(relay, key, target=None):
    """Authenticates as an SDK does."""
    body = {"apiKey": key}
    if target:
        body["target"] = {"identifier": target, "name": target}
    status, text = ask(f"{relay}/client/auth", body)
    assert status == 200, (status, text)
    return json.loads(text)["authToken"]


def bearer(value):
    return {"Authorization": f"Bearer {value}"}

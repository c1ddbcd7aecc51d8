"""What the settings of profiles do, as `go tool pprof` and a stand-in of Google see it."""

import base64
import gzip
import http.server
import json
import re
import socket
import ssl
import threading

from rig import OPENER, ask, certificate, free_port, until
from showing import shows


def unzipped(profile):
    """A profile's protocol buffers: names are in them as they are."""
    return gzip.decompress(profile).decode(errors="replace")


@shows("PPROF")
def pprof(rig, saas):
    port = free_port()
    address = {"PPROF_ADDRESS": f"127.0.0.1:{port}"}
    base = f"http://127.0.0.1:{port}/debug/pprof"
    rig.relay({**saas.settings(), **address}, "off")
    assert ask(f"{base}/heap")[0] == 0, "profiles are served though nobody asked for them"
    rig.relay({**saas.settings(), **address, "PPROF": "true"}, "on")
    rig.relay({**saas.settings(), "PPROF": "true"}, "as published")
    assert ask("http://127.0.0.1:6060/debug/pprof/")[0] == 200, "not on the published port"
    for what, kind in (("profile?seconds=1", "cpu"), ("heap", "inuse_space")):
        with OPENER.open(f"{base}/{what}", timeout=60) as answer:
            assert kind in unzipped(answer.read()), (what, "is of another kind")


class Google(http.server.BaseHTTPRequestHandler):
    """The machine's metadata and the profiler's API: wants one profile of each kind."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        known = {"project/project-id": "a-project", "instance/zone": "projects/1/zones/a-zone",
                 "token": json.dumps({"access_token": "a-token", "expires_in": 3600})}
        self.answer(next((text for end, text in known.items() if self.path.endswith(end)), ""))

    def do_POST(self):
        created = self.server.created
        created.append(self.body())
        kinds = ("CPU", "HEAP")
        if len(created) > len(kinds):
            self.server.ended.wait()  # it wants no more, and says nothing
            self.close_connection = True
            return
        number = len(created)
        self.answer(json.dumps({"name": f"projects/a-project/profiles/{number}", "duration": "1s",
                                "profileType": kinds[(number - 1) % 2]}))

    def do_PATCH(self):
        assert self.headers["Authorization"] == "Bearer a-token"
        self.server.updated.append((self.path, self.body()))
        self.answer("{}")

    def body(self):
        return json.loads(self.rfile.read(int(self.headers["Content-Length"])))

    def answer(self, text):
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


class Proxy(threading.Thread):
    """A proxy behind which every host is Google, with a certificate for its API."""

    def __init__(self, folder, google):
        super().__init__(daemon=True)
        self.cert, key = certificate(folder, "cloudprofiler.googleapis.com")
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(self.cert, key)
        self.google, self.asked = google, []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = "http://127.0.0.1:%d" % self.listener.getsockname()[1]
        self.start()

    def run(self):
        while True:
            client, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += client.recv(1)
        self.asked.append(head.split()[1].decode())
        client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        inside = self.context.wrap_socket(client, server_side=True)
        self.google.process_request(inside, inside.getpeername())


@shows("GCP_PROFILER_ENABLED")
def gcp_profiler(rig, saas):
    google = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Google)
    google.daemon_threads = True
    google.created, google.updated, google.ended = [], [], threading.Event()
    rig.callback(google.ended.set)
    threading.Thread(target=google.serve_forever, daemon=True).start()
    proxy = Proxy(rig.folder, google)
    settings = {**saas.settings(), "HTTPS_PROXY": proxy.url, "SSL_CERT_FILE": str(proxy.cert),
                "GCE_METADATA_HOST": "127.0.0.1:%d" % google.server_port}
    rig.relay({**settings, "ENV": "off"}, "off")
    rig.relay({**settings, "ENV": "qa", "GCP_PROFILER_ENABLED": "true"})
    until("both profiles", lambda: len(google.updated) == 2)
    services = {wanted["deployment"]["target"] for wanted in google.created}
    assert services == {"ff-proxy-v2-primary.qa"}, services
    for path, profile in google.updated:
        assert re.fullmatch(r"/v2/projects/a-project/profiles/\d", path), path
        kind = {"CPU": "cpu", "HEAP": "inuse_space"}[profile["profileType"]]
        assert kind in unzipped(base64.b64decode(profile["profileBytes"])), profile["profileType"]
    assert set(proxy.asked) == {"cloudprofiler.googleapis.com:443"}, proxy.asked

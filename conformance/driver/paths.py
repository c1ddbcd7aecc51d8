"""Where things are."""

import os
import pathlib

HERE = pathlib.Path(__file__).resolve().parent.parent
ROOT = HERE.parent
CLIENTS = HERE / "clients"
BIN = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug"
CACHE = ROOT / ".cache" / "conformance"
TLS = CACHE / "tls"
BROWSER_HOME = CACHE / "browser-home"
LOGS = CACHE / "logs"
VECTORS = ROOT / "crates" / "evaluation" / "tests" / "vectors"

"""Where things are."""

import os
import pathlib
import tempfile

HERE = pathlib.Path(__file__).resolve().parent.parent
ROOT = HERE.parent
CLIENTS = HERE / "clients"
BIN = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug"
CACHE = ROOT / ".cache" / "conformance"
# Goes with this process, so that two runs do not meet.
_run = tempfile.TemporaryDirectory(prefix="ff-conformance-", ignore_cleanup_errors=True)
RUN = pathlib.Path(_run.name)
TLS = RUN / "tls"
BROWSER_HOME = RUN / "browser-home"
LOGS = CACHE / "logs"
VECTORS = ROOT / "crates" / "evaluation" / "tests" / "vectors"

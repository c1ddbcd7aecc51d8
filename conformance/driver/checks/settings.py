"""Ways in which SDKs are pointed at a relay: base URLs, HTTPS."""

import shutil
import subprocess

from ..paths import BROWSER_HOME, TLS
from . import changes, evaluation


async def base_path(case):
    """A base URL that keeps the path of SaaS."""
    await evaluation.kinds(case, url=f"{case.site('steady').url}/api/1.0")


async def https(case):
    """HTTPS, with a certificate of a private CA: values, and bursts on the stream."""
    ca = str(TLS / "ca.pem")
    await evaluation.kinds(case, site="tls", ca=ca)
    await changes.bursts(case, case.site("tls"), ca=ca)


def make_certificates():
    """A private CA, a certificate of it for the relay, and a home where Chromium trusts that CA."""
    shutil.rmtree(TLS, ignore_errors=True)
    TLS.mkdir(parents=True)

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=TLS, check=True, capture_output=True)

    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "300", "-subj", "/CN=conformance CA")
    openssl("req", *key, "-keyout", "key.pem", "-out", "relay.csr", "-subj", "/CN=relay")
    (TLS / "extensions").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    openssl(
        "x509", "-req", "-in", "relay.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
        "-days", "300", "-extfile", "extensions", "-out", "cert.pem",
    )
    openssl("req", "-x509", *key, "-keyout", "other.key", "-out", "other.pem", "-days", "300", "-subj", "/CN=nobody",
            "-addext", "subjectAltName=IP:127.0.0.1")
    # What the driver itself trusts.
    (TLS / "trusted.pem").write_text((TLS / "ca.pem").read_text() + (TLS / "other.pem").read_text())
    shutil.rmtree(BROWSER_HOME, ignore_errors=True)
    trusted = BROWSER_HOME / ".pki" / "nssdb"
    trusted.mkdir(parents=True)
    for arguments in (["-N", "--empty-password"], ["-A", "-t", "C,,", "-n", "conformance", "-i", str(TLS / "ca.pem")]):
        subprocess.run(["certutil", "-d", f"sql:{trusted}", *arguments], check=True, capture_output=True)


def tls_settings(broken=None):
    """The relay's certificate; with a mutation, one that it brings."""
    cert, key = (broken and broken.certificate) or ("cert.pem", "key.pem")
    return {"TLS_ENABLED": "true", "TLS_CERT": str(TLS / cert), "TLS_KEY": str(TLS / key)}

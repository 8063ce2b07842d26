"""Sync. Certificates made on the spot with openssl: an authority, a server of this machine, a client."""

import subprocess
from pathlib import Path


class TlsLab:
    """``authority`` is its certificate; ``server`` and ``client`` are each a certificate and its key."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.authority, self._authority_key = directory / "ca.pem", directory / "ca.key"
        _openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-keyout", self._authority_key, "-out", self.authority, "-subj", "/CN=authority of the tests",
            "-addext", "keyUsage=critical,keyCertSign,cRLSign",
        )  # fmt: skip
        self.server = self._issue("server", "subjectAltName=IP:127.0.0.1,DNS:localhost")
        self.client = self._issue("client", "extendedKeyUsage=clientAuth")

    def _issue(self, name: str, extension: str) -> tuple[Path, Path]:
        certificate, key = self._directory / f"{name}.pem", self._directory / f"{name}.key"
        request, extensions = self._directory / f"{name}.csr", self._directory / f"{name}.ext"
        extensions.write_text(f"{extension}\n")
        _openssl(
            "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key,
            "-out", request, "-subj", f"/CN={name}",
        )  # fmt: skip
        _openssl(
            "x509", "-req", "-in", request, "-CA", self.authority, "-CAkey", self._authority_key,
            "-CAcreateserial", "-days", "2", "-extfile", extensions, "-out", certificate,
        )  # fmt: skip
        return certificate, key


def _openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)

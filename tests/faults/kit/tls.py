"""A server that speaks TLS, with a certificate authority and certificates good and bad, made by the openssl command."""

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
"""What clients call the server, and what a good certificate says that it is."""


class Authority:
    """A certificate authority in a directory of its own."""

    def __init__(self, directory: Path, name: str) -> None:
        self._directory = directory
        self._openssl = require_tool("openssl")
        self._name = name
        self.root = directory / f"{name}.crt"
        self._run("req", "-x509", *_key(self._of("key")), "-subj", f"/CN={name}", "-days", "2", "-out", str(self.root))

    def issue(self, name: str, *, host: str = NAME, days: int = 2) -> tuple[Path, Path]:
        """Certificate and key of a server of this address or host name; negative days: it has expired."""
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
        """Its own certificate, signed by itself, and the key."""
        return self.root, self._of("key")

    def _of(self, kind: str) -> Path:
        return self._directory / f"{self._name}.{kind}"

    def _run(self, *arguments: str) -> None:
        subprocess.run([self._openssl, *arguments], check=True, capture_output=True)


def _key(place: Path) -> tuple[str, ...]:
    """A new key, of the kind that is made fastest."""
    return ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", str(place))


@dataclass
class TlsServer:
    """The server, and the authority that its clients know."""

    postgres: EmbeddedPostgres
    authority: Authority

    def present(self, certificate: Path, key: Path) -> None:
        """From now on this is what the server shows to new clients."""
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
        """Where it is, with these options of libpq's."""
        return make_url(self.postgres.url).update_query_dict(options)


@contextmanager
def tls_server() -> Iterator[TlsServer]:
    """One with a good certificate. Without a PostgreSQL that was built with TLS the test is skipped."""
    with (
        tempfile.TemporaryDirectory(prefix="wfe-tls-") as directory,
        EmbeddedPostgres(tcp=True, binaries=_binaries_with_tls()) as postgres,
    ):
        server = TlsServer(postgres, Authority(Path(directory), "authority"))
        server.present(*server.authority.issue("good"))
        yield server


def _binaries_with_tls() -> Path:
    """Those of the optional wheel are built without it; the system's have it."""
    for programs in sorted(SYSTEM.glob("*/bin"), reverse=True):
        if (programs / "initdb").is_file() and (programs / "postgres").is_file():
            return programs
    reason = "no PostgreSQL with TLS is installed"
    return pytest.fail(reason) if STRICT else pytest.skip(reason)

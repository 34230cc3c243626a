"""Servers that speak TLS, for the tests of how it is verified: certificates made here, and who shows them."""

import asyncio
import ssl
import subprocess
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from devstack.layout import HOST
from devstack.ports import free_port
from devstack.privileges import unprivileged
from devstack.process import Command, popen, run

_SSL_REQUEST: Final = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"
"""With which a client of PostgreSQL asks for TLS (“SSLRequest” in its documentation)."""


@dataclass(frozen=True)
class Authority:
    """Signs certificates of servers."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def new(cls, name: str) -> "Authority":
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(name, name, key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        return cls(builder.add_extension(identifier, critical=False).sign(key, hashes.SHA256()), key)

    def issue(self, host: str, directory: Path) -> tuple[Path, Path]:
        """Write certificate and key of a server."""
        key = ec.generate_private_key(ec.SECP256R1())
        issuer = self.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
        builder = _builder(host, str(issuer), key.public_key())
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        by = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        certificate = builder.add_extension(by, critical=False).sign(self.key, hashes.SHA256())
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        found = directory / "server.crt", directory / "server.key"
        for path, content in zip(found, (certificate.public_bytes(serialization.Encoding.PEM), private), strict=True):
            path.touch(mode=0o600)
            path.write_bytes(content)
        return found

    def write(self, path: Path) -> Path:
        """Write what clients trust."""
        path.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))
        return path


def _builder(subject: str, issuer: str, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name(subject)).issuer_name(name(issuer)).public_key(key)
    builder = builder.serial_number(x509.random_serial_number())
    return builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))


@asynccontextmanager
async def terminating_tls(dsn: str, port: int, certificate: Path, key: Path) -> AsyncIterator[str]:
    """Put TLS before a server that has none, as a provider's proxy does; gives the connection string of the front."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    async def serve(client: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
        try:
            if await client.readexactly(len(_SSL_REQUEST)) != _SSL_REQUEST:
                return
            answers.write(b"S")
            await answers.start_tls(context)
            server, requests = await asyncio.open_connection(HOST, port)
            await asyncio.gather(_pass_on(client, requests), _pass_on(server, answers))
        except (OSError, asyncio.IncompleteReadError):
            return
        finally:
            answers.close()

    front = await asyncio.start_server(serve, HOST, 0)
    try:
        yield dsn.replace(f":{port}/", f":{front.sockets[0].getsockname()[1]}/")
    finally:
        front.close()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


def installed_postgres() -> Path | None:
    """Find the programs of a PostgreSQL that was installed as Debian's package, which has TLS."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


@contextmanager
def tls_postgres(programs: Path, directory: Path, authority: Authority, host: str) -> Iterator[str]:
    """Run a PostgreSQL that takes TLS and nothing else; gives its connection string."""
    data, password, port = directory / "data", uuid.uuid4().hex, free_port()
    data.mkdir(mode=0o700)
    secret = directory / "password"
    secret.write_text(password)
    identity = unprivileged(data)
    if identity is not None:
        identity.owns(data)
        identity.owns(secret)

    def command(program: str, *arguments: str) -> Command:
        return Command([str(programs / program), *arguments], {"LC_ALL": "C", "TZ": "UTC"}, Path("/"), identity)

    options = ["-D", str(data), "-U", "postgres", "-A", "scram-sha-256", "--pwfile", str(secret), "-E", "UTF8", "-N"]
    done = run(command("initdb", *options), timeout=120)
    assert done.returncode == 0, done.stdout
    for path in authority.issue(host, data):
        if identity is not None:
            identity.owns(path)
    (data / "pg_hba.conf").write_text("hostssl all all 127.0.0.1/32 scram-sha-256\n")
    settings = {"listen_addresses": HOST, "port": port, "unix_socket_directories": "", "fsync": "off", "ssl": "on"}
    chosen = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    process = popen(command("postgres", "-D", str(data), *chosen), directory / "log")
    try:
        deadline = time.monotonic() + 90
        while "ready to accept" not in (directory / "log").read_text():
            assert process.poll() is None, (directory / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield f"postgresql://postgres:{password}@{HOST}:{port}/postgres"
    finally:
        process.send_signal(2)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()

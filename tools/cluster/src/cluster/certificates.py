"""The keys of one cluster: an authority of its own, and a certificate for each of its parts."""

import datetime as dt
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_LIFETIME: Final = dt.timedelta(days=7)
_SKEW: Final = dt.timedelta(minutes=5)
_BOTH: Final = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)


@dataclass(frozen=True)
class Identity:
    """A certificate and its key, as files.

    Attributes:
        certificate: PEM.
        key: PEM, readable by its owner alone.
    """

    certificate: Path
    key: Path


@dataclass(frozen=True)
class Authority:
    """Signs the certificates of one cluster; its key never leaves this process.

    Attributes:
        directory: Where everything is written.
        certificate: PEM of the authority itself.
    """

    directory: Path
    certificate: Path
    _own: x509.Certificate
    _key: ec.EllipticCurvePrivateKey

    @classmethod
    def new(cls, directory: Path) -> Self:
        """Make one, with its certificate in `directory/ca.crt`."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name("taskwire-test-cluster", ())
        usage = x509.KeyUsage(
            digital_signature=True,
            key_cert_sign=True,
            crl_sign=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )
        own = (
            _builder(name, name, key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        certificate = directory / "ca.crt"
        certificate.write_bytes(own.public_bytes(serialization.Encoding.PEM))
        return cls(directory, certificate, own, key)

    def issue(self, file: str, common_name: str, groups: Sequence[str] = (), addresses: Sequence[str] = ()) -> Identity:
        """Make a certificate.

        Args:
            file: Name of its files, without ending.
            common_name: Who it is to Kubernetes: the user.
            groups: The groups of that user.
            addresses: Names and IP addresses at which it serves.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_name(common_name, groups), self._own.subject, key.public_key())
        builder = builder.add_extension(x509.ExtendedKeyUsage(_BOTH), critical=False)
        if addresses:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_general(one) for one in addresses]), critical=False
            )
        signed = builder.sign(self._key, hashes.SHA256())
        identity = Identity(self.directory / f"{file}.crt", self.directory / f"{file}.key")
        identity.certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        _write_key(identity.key, key)
        return identity

    def signing_key(self, file: str) -> Path:
        """Make a key that signs the tokens of service accounts."""
        path = self.directory / f"{file}.key"
        _write_key(path, ec.generate_private_key(ec.SECP256R1()))
        return path


def _builder(subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + _LIFETIME)
    )


def _name(common_name: str, groups: Sequence[str]) -> x509.Name:
    organisations = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    return x509.Name([*organisations, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _general(address: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(address))
    except ValueError:
        return x509.DNSName(address)


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    path.touch(mode=0o600)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
    )

from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import NameOID

from cluster.certificates import Authority


def test_a_server_is_who_its_certificate_says(tmp_path: Path) -> None:
    authority = Authority.new(tmp_path)
    identity = authority.issue("server", "kube-apiserver", (), ["127.0.0.1", "kubernetes.default"])
    own = x509.load_pem_x509_certificate(identity.certificate.read_bytes())
    root = x509.load_pem_x509_certificate(authority.certificate.read_bytes())
    own.verify_directly_issued_by(root)
    names = own.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["kubernetes.default"]
    assert [str(one) for one in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]


def test_a_user_is_in_the_groups_of_the_certificate(tmp_path: Path) -> None:
    identity = Authority.new(tmp_path).issue("kubelet", "system:node:n", ["system:nodes"])
    subject = x509.load_pem_x509_certificate(identity.certificate.read_bytes()).subject
    assert [one.value for one in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)] == ["system:nodes"]
    assert [one.value for one in subject.get_attributes_for_oid(NameOID.COMMON_NAME)] == ["system:node:n"]


def test_keys_are_readable_by_their_owner_alone(tmp_path: Path) -> None:
    authority = Authority.new(tmp_path)
    for key in (authority.issue("a", "a").key, authority.signing_key("tokens")):
        assert key.stat().st_mode & 0o777 == 0o600
        assert load_pem_private_key(key.read_bytes(), None) is not None

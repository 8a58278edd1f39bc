"""Certificates in PEM: checked with their key; self-signed ones are made, kept in one file, and renewed in time."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from satellite.system.files import replace_file

_HASH = hashes.SHA256()

_VALID = timedelta(days=800)
"""Apple's systems accept no more than 825 days (support.apple.com/103769)."""

_RENEW_BEFORE = timedelta(days=60)


def keep(path: Path, names: Sequence[str]) -> None:
    """Let the file at `path` hold a key, and a certificate for `names` that lasts; blocks, raises `OSError`.

    A certificate that is there is kept while it can be: browsers that have accepted it ask again for another one.
    """
    try:
        content = path.read_bytes()
        present = checked(content, content)
    except (FileNotFoundError, ValueError):
        present = None
    if present is not None and present.not_valid_after_utc - datetime.now(UTC) > _RENEW_BEFORE:
        # IPv6 addresses change by themselves, every day where they are temporary (RFC 8981).
        lasting = {one for one in names if ":" not in one}
        if lasting <= {*names_of(present)}:
            return
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, _made(names).decode("ascii"))


def checked(content: bytes, key: bytes) -> x509.Certificate:
    """Return the first certificate in `content`; raises `ValueError` with what keeps it from being used with `key`."""
    try:
        certificate = x509.load_pem_x509_certificates(content)[0]
    except ValueError:
        raise ValueError("there is no certificate in PEM") from None
    try:
        private = serialization.load_pem_private_key(key, password=None)
    except TypeError:
        raise ValueError("the key has a passphrase") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("there is no key in PEM that is known here") from None
    if private.public_key() != certificate.public_key():
        raise ValueError("the key belongs to another certificate")
    return certificate


def fingerprint(certificate: x509.Certificate) -> str:
    """Return its SHA-256 as browsers show it, such as `3A:F0:…`."""
    return certificate.fingerprint(_HASH).hex(":").upper()


def names_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """Return the host names and addresses that a certificate is valid for."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(str(one.value) for one in found if isinstance(one, x509.DNSName | x509.IPAddress))


def _made(names: Sequence[str]) -> bytes:
    """Return a new key and its certificate, in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "satellite")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))  # for clients whose clock is late
        .not_valid_after(now + _VALID)
        .add_extension(x509.SubjectAlternativeName(list(map(_general_name, names))), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, _HASH)
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private + certificate.public_bytes(serialization.Encoding.PEM)


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)

"""The certificate of an HTTPS server: given as files, or self-signed; new connections use the latest."""

import asyncio
import logging
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from satellite.errors import ConfigError, ConfigUnreadable

_LOGGER = logging.getLogger(__name__)

_LOOK_SECONDS = 3600.0
"""How often the files are read again: other programs renew them."""

_WARN_BEFORE = timedelta(days=7)
"""How long before its end a certificate that somebody else renews needs attention."""


@dataclass(frozen=True, slots=True)
class CertificateStatus:
    """A certificate in use."""

    fingerprint: str
    """SHA-256 of the certificate as browsers show it, such as `3A:F0:…`."""

    names: tuple[str, ...]
    """Host names and addresses that it is valid for."""

    ends: str
    """When it becomes invalid, by ISO 8601."""

    self_signed: bool
    """Whether the daemon made it, so that browsers know it by its fingerprint alone."""

    message: str = ""
    """What is wrong with it; empty where there is nothing."""

    def url(self, host: str) -> str:
        """Return the address of the page that makes a browser a room, with the fingerprint, for a QR code.

        The browser shows the fingerprint in its address bar, to be compared with what it says about the certificate.
        """
        return f"https://{host}/room#sha256={self.fingerprint.replace(':', '')}"


class ServerCertificate:
    """Reads a certificate, or makes one, for an `ssl.SSLContext` that serves meanwhile."""

    def __init__(self, files: tuple[Path, Path] | None, own: Path, names: Callable[[], Sequence[str]]) -> None:
        """Use `files`, a certificate and its key; if that is None, one in the file `own`, valid for `names()`."""
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        """Has a certificate once `read` has succeeded."""

        self._files = files
        self._own = own
        self._names = names
        self._read: CertificateStatus | None = None
        self._failure = ""

    def read(self) -> None:
        """Read the files, or renew the certificate of our own where that is due; blocks.

        Raises `ConfigError` (`certificate-invalid`, `certificate-unreadable`); the certificate in use then stays.
        """
        try:
            if self._files is None:
                _kept(self._own, self._names())
            cert, key = self._files or (self._own, self._own)
            status = checked(cert, key)
            self.context.load_cert_chain(cert, key)
        except ConfigError as error:
            self._failure = str(error)
            raise
        self._read, self._failure = status, ""

    async def read_again(self) -> None:
        """Read the files again, or renew the certificate; what is wrong with it is logged, and shown in the status."""
        try:
            await asyncio.to_thread(self.read)
        except ConfigError as error:
            _LOGGER.error("the certificate in use stays: %s", error, extra={"code": error.code})

    async def follow(self) -> None:
        """Read the files again now and then, until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            await self.read_again()

    def status(self) -> CertificateStatus | None:
        """Return the certificate in use; None before there is one."""
        if (read := self._read) is None:
            return None
        message, left = self._failure, datetime.fromisoformat(read.ends) - datetime.now(UTC)
        if not message and left < _WARN_BEFORE:
            message = f"the certificate {'ends' if left > timedelta() else 'has ended'} at {read.ends}"
        return CertificateStatus(read.fingerprint, read.names, read.ends, self._files is None, message)


def checked(cert: Path, key: Path) -> CertificateStatus:
    """Return what a certificate says, after trying whether it can be used with its key; blocks.

    Raises `ConfigUnreadable` (`certificate-unreadable`) and `ConfigError` (`certificate-invalid`).
    """
    from satellite.net import pem  # takes a tenth of a second, and most houses have no certificate

    try:
        certificate = pem.checked(cert.read_bytes(), key.read_bytes())
        # In a context of its own: half of a pair that does not fit would stay in that of the server.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password="")
    except (ssl.SSLError, ValueError) as error:  # before OSError, from which SSLError derives
        raise ConfigError(
            f"the certificate {cert} cannot be used with the key {key}: {error}", code="certificate-invalid"
        ) from error
    except OSError as error:
        raise _unreadable(error, "read") from error
    ends = certificate.not_valid_after_utc.isoformat()
    return CertificateStatus(pem.fingerprint(certificate), pem.names_of(certificate), ends, self_signed=False)


def _kept(path: Path, names: Sequence[str]) -> None:
    from satellite.net import pem

    try:
        pem.keep(path, names)
    except OSError as error:
        raise _unreadable(error, "written") from error


def _unreadable(error: OSError, what: str) -> ConfigUnreadable:
    return ConfigUnreadable(
        f"{error.filename} cannot be {what}: {error.strerror or error}", code="certificate-unreadable"
    )

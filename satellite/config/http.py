"""The settings of the HTTP server: address, access and limits."""

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag

from satellite.config.base import DiskPath, Host, Network, Origin, Port, Seconds, SecretText, Settings


class CertificateFiles(Settings):
    """A certificate for HTTPS and its key, both in PEM."""

    cert: DiskPath
    """File with the certificate, followed by those that lead from it to its authority."""

    key: DiskPath
    """File with its key, without a passphrase."""


def _tls_kind(value: object) -> str:
    return "files" if isinstance(value, Mapping | CertificateFiles) else "auto"


# Chosen before it is validated: a mistake in one of the two is no mistake in the other.
Tls = Annotated[
    Annotated[CertificateFiles, Tag("files")] | Annotated[Literal["auto"], Tag("auto")], Discriminator(_tls_kind)
]


class HttpSettings(Settings):
    """HTTP server for programs and browsers: REST, WebSocket, OpenAI-compatible API and dashboard."""

    enabled: bool = True
    """Serve it."""

    host: Host = "127.0.0.1"
    """Address to listen on; all but loopback addresses require a token."""

    port: Port = 10800
    """Port to listen on."""

    tls: Tls | None = None
    """HTTPS by the certificate `{cert: FILE, key: FILE}`, or by a self-signed one (`auto`); null serves plain HTTP."""

    token: SecretText = None
    """Token that clients must send as `Authorization: Bearer`; `token_file` is safer."""

    token_file: DiskPath | None = None
    """File with the token; null takes `token`, $SATELLITE_HTTP_TOKEN, or the credential http.token."""

    allowed_hosts: tuple[Host, ...] = ()
    """Host names accepted in requests besides localhost, this machine's own name and IP addresses."""

    cors_origins: tuple[Origin, ...] = ()
    """Origins of other web pages that may use it, such as https://home.example."""

    trusted_proxies: tuple[Network, ...] = ()
    """Addresses or networks of reverse proxies whose `X-Forwarded-For` or `Forwarded` header is trusted."""

    requests_per_minute: int = Field(200, ge=1, le=1_000_000)
    """Requests per client address and minute; a tenth of it with a wrong token."""

    max_body_bytes: int = Field(20_000_000, ge=1_000, le=1_000_000_000)
    """Largest request body, in bytes."""

    max_audio_seconds: float = Field(60.0, ge=1, le=600)
    """Longest recording accepted, in seconds."""

    max_concurrent: int = Field(32, ge=1, le=1000)
    """Questions, recordings and texts processed at once; further requests are refused as busy."""

    max_connections: int = Field(1000, ge=8, le=100_000)
    """Most open connections; further ones are closed at once."""

    read_timeout_seconds: Seconds = 30.0
    """Time for a request to arrive, in seconds."""

    write_timeout_seconds: Seconds = 10.0
    """Time after which a client that does not read is disconnected, in seconds."""

    runs_kept: int = Field(100, ge=1, le=10_000)
    """Recent runs kept in memory for the dashboard."""

    keep_transcripts: bool = True
    """Keep their transcripts and answers as well."""

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            # Other names are not resolved: that would block, and the answer may change.
            return self.host == "localhost"

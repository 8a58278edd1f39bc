"""The settings of the HTTP server: where it listens, who may, and how much of it."""

from ipaddress import ip_address, ip_network
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from satellite.config.base import DiskPath, Host, Origin, Port, Seconds, Settings


def _hidden(value: Any) -> Any:
    """Wrap whatever YAML made of a token, so that no message about a wrong type shows it."""
    return value if value is None or isinstance(value, SecretStr) else SecretStr(str(value))


def _network(value: str) -> str:
    """Return `value` if it is an address or a network."""
    try:
        ip_network(value, strict=False)
    except ValueError:
        raise ValueError("expected an address or a network, such as 127.0.0.1 or 172.16.0.0/12") from None
    return value


class Http(Settings):
    """The same conversation for programs and browsers: REST, WebSocket, OpenAI-compatible API and dashboard."""

    enabled: bool = True
    """Serve it."""

    host: Host = "127.0.0.1"
    """Address to listen on; any but a loopback address needs a token."""

    port: Port = 10800
    """Port to listen on."""

    token: Annotated[SecretStr | None, BeforeValidator(_hidden)] = None
    """What clients must send as `Authorization: Bearer`; a file of its own is safer."""

    token_file: DiskPath | None = None
    """File with the token; null takes `token`, else SATELLITE_HTTP_TOKEN, else the credential http.token."""

    allowed_hosts: tuple[Host, ...] = ()
    """Names under which clients may reach it besides localhost, this machine's own name and plain addresses."""

    cors_origins: tuple[Origin, ...] = ()
    """Origins of web pages elsewhere that may use it, such as https://home.example; none by default."""

    trusted_proxies: tuple[Annotated[str, AfterValidator(_network)], ...] = ()
    """Addresses or networks of reverse proxies whose `X-Forwarded-For` or `Forwarded` says who asks."""

    requests_per_minute: int = Field(200, ge=1, le=1_000_000)
    """Requests that one address may make in a minute; a tenth of them with a wrong token."""

    max_body_bytes: int = Field(20_000_000, ge=1_000, le=1_000_000_000)
    """Largest request, bytes."""

    max_audio_seconds: float = Field(60.0, ge=1, le=600)
    """Longest recording that is taken, seconds."""

    max_concurrent: int = Field(32, ge=1, le=1000)
    """Questions, recordings and texts that are worked on at once; one more is refused as busy."""

    max_connections: int = Field(1000, ge=8, le=100_000)
    """Open connections; one more is closed at once."""

    read_timeout_seconds: Seconds = 30.0
    """How long a request may take to arrive, seconds."""

    write_timeout_seconds: Seconds = 10.0
    """How long a client may refuse to read before it is cut off, seconds."""

    runs_kept: int = Field(100, ge=1, le=10_000)
    """Recent runs that are remembered, to be shown."""

    keep_transcripts: bool = True
    """Remember with them what was heard and said."""

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

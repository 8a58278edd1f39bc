"""Who may: the token, the name by which the server was called, and the web page that called."""

import hmac
import socket
from ipaddress import ip_address
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers
from starlette.types import Scope

from satellite.config.http import HttpSettings
from satellite.config.secrets import Secret
from satellite.http.http_errors import HttpError

OPEN_PATHS = ("/", "/healthz")
"""What needs no token: it tells nothing. The page itself asks for the token."""

_OPEN_FOLDER = "/static/"
_TOKEN_IN_ADDRESS = ("/ws", "/events")
"""Where a browser cannot send a header."""


class Admission:
    """Decides about requests by their headers alone."""

    def __init__(self, settings: HttpSettings, token: Secret) -> None:
        own = socket.gethostname().lower()
        self._names = {"localhost", own, f"{own.split('.')[0]}.local", *map(str.lower, settings.allowed_hosts)}
        self._origins = set(settings.cors_origins)
        self._token = token.value.encode()

    def check(self, scope: Scope) -> None:
        """Raise `HttpError` unless the request may be answered."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        self._check_host(host)
        self._check_origin(headers.get("origin"), host)

    def check_token(self, scope: Scope) -> None:
        """Raise `HttpError` unless the client knows the token, where one is needed."""
        path: str = scope["path"]
        if not self._token or path in OPEN_PATHS or path.startswith(_OPEN_FOLDER):
            return
        scheme, _, given = Headers(scope=scope).get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            given = ""
        if not given and path in _TOKEN_IN_ADDRESS:
            given = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token", [""])[0]
        if not hmac.compare_digest(given.strip().encode("utf-8", "replace"), self._token):
            words = "the token is wrong" if given else "a token is needed, as `Authorization: Bearer TOKEN`"
            raise HttpError(words, code="http-unauthorized", headers={"WWW-Authenticate": "Bearer"})

    def _check_host(self, host: str) -> None:
        """Refuse names that are not ours: a page elsewhere can let its own name point at this machine.

        A plain address is nobody's name.
        """
        name = _hostname(host)
        try:
            ip_address(name)
        except ValueError:
            if name not in self._names:
                raise HttpError(
                    "this server is not called so; add the name to http.allowed_hosts", code="http-host-refused"
                ) from None

    def _check_origin(self, origin: str | None, host: str) -> None:
        """Refuse what a page elsewhere asks for: a browser sends it without asking us."""
        if origin is None or origin.rstrip("/").lower() in self._origins:
            return
        if urlsplit(origin).netloc.lower() != host.lower():
            raise HttpError(
                "this page may not use the server; add its origin to http.cors_origins", code="http-origin-refused"
            )


def _hostname(host: str) -> str:
    """Return the name in a Host header, without the port."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".").lower()
    except ValueError:
        return ""

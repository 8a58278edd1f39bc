"""Which requests may be answered: by the token, the name the server was called by, and the page that called it."""

import hmac
import socket
from ipaddress import ip_address
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers
from starlette.types import Scope

from satellite.config.http import HttpSettings
from satellite.config.secrets import Secret
from satellite.errors import shown
from satellite.http.error_codes import HttpError

OPEN_PATHS = ("/", "/room", "/room_worker.js", "/healthz")
"""Paths that need no token: they reveal nothing. The pages themselves ask for the token."""

_OPEN_FOLDER = "/static/"

# A browser cannot send a header with a WebSocket or an EventSource.
_TOKEN_IN_ADDRESS = ("/ws", "/room/ws", "/events")


class AccessControl:
    """Decides on requests by their headers alone."""

    def __init__(self, settings: HttpSettings, token: Secret) -> None:
        """Require `token`, unless it is empty."""
        own = socket.gethostname().lower()
        self._names = {"localhost", own, f"{own.split('.')[0]}.local", *map(str.lower, settings.allowed_hosts)}
        self._origins = set(settings.cors_origins)
        self._token = token.value.encode()

    def check(self, scope: Scope) -> None:
        """Raise `HttpError` for a host name or an origin that is not allowed."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        self._check_host(host)
        self._check_origin(headers.get("origin"), host)

    def check_token(self, scope: Scope) -> None:
        """Raise `HttpError` unless the request has the token, where one is needed."""
        path: str = scope["path"]
        if not self._token or path in OPEN_PATHS or path.startswith(_OPEN_FOLDER):
            return
        scheme, _, given = Headers(scope=scope).get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            given = ""
        if not given and path in _TOKEN_IN_ADDRESS:
            given = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token", [""])[0]
        # Not `==`: the time it takes would reveal how much of the token is right.
        if not hmac.compare_digest(given.strip().encode("utf-8", "replace"), self._token):
            needed = "a token is needed, as `Authorization: Bearer TOKEN`; the pages / and /room ask for it"
            problem = "the token is wrong" if given else needed
            raise HttpError(problem, code="http-unauthorized", headers={"WWW-Authenticate": "Bearer"})

    def _check_host(self, host: str) -> None:
        """Refuse names that are not ours: by DNS rebinding another site's name can be made to point at this machine."""
        name = _hostname(host)
        try:
            ip_address(name)  # a bare address belongs to no site
        except ValueError:
            if name not in self._names:
                problem = (
                    f"host “{shown(name)}” is not allowed; add it to http.allowed_hosts, or use the machine's address"
                )
                raise HttpError(problem, code="http-host-refused") from None

    def _check_origin(self, origin: str | None, host: str) -> None:
        """Refuse requests of another site's page: browsers send some of them without asking the server first."""
        if origin is None or origin.rstrip("/").lower() in self._origins:
            return
        if _site(origin) != host.lower():
            raise HttpError(
                "this page may not use the server; add its origin to http.cors_origins", code="http-origin-refused"
            )


def _site(origin: str) -> str:
    """Return the host and port of an origin; empty for what is none, such as `http://[`."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _hostname(host: str) -> str:
    """Return the name in a Host header, without the port."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".").lower()
    except ValueError:
        return ""

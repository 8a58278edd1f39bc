"""Checks every request before the application: access, rate, size and time; adds security headers to every answer."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import nullcontext
from http import HTTPStatus

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from satellite.config.http import HttpSettings
from satellite.errors import SatelliteError
from satellite.http.access_control import OPEN_PATHS, AccessControl
from satellite.http.error_codes import HttpError
from satellite.http.forwarded import Proxies
from satellite.http.problems import response_to
from satellite.http.rate_limit import RateLimit, Work
from satellite.tasks import begin_task

_LOGGER = logging.getLogger(__name__)

_SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; connect-src 'self'; media-src 'self' blob:; "
    "worker-src 'self' blob:; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
}

# The rest of a request that is refused early stays unread: the connection cannot serve another one.
_CLOSE = {"Connection": "close"}

_DISCARD_SECONDS = 3.0

# Not counted against the rate limit: they cost nothing, and monitoring must work while a client exceeds its limit.
_UNLIMITED = (*OPEN_PATHS, "/readyz", "/metrics")


class Guard:
    """Wraps the application; none of its exceptions reaches the server."""

    def __init__(
        self, app: ASGIApp, settings: HttpSettings, access: AccessControl, rate: RateLimit, work: Work
    ) -> None:
        self._app = app
        self._settings = settings
        self._access = access
        self._proxies = Proxies(settings.trusted_proxies)
        self._rate = rate
        self._work = work

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return
        scope["client"] = (self._proxies.client(scope), 0)
        client = _Client(scope, receive, send, self._settings)
        try:
            self._access.check(scope)
            self._check_token(scope, client)
            if scope["path"] not in _UNLIMITED and not scope["path"].startswith("/static/"):
                client.headers |= self._rate.take(client.address)
            await client.check_size()
            with self._work.one() if scope.get("method") == "POST" else nullcontext():
                # HEAD is GET without the body (RFC 9110, 9.3.2); `_Client.send` leaves that out.
                get = {**scope, "method": "GET"} if client.wants_head else scope
                await self._app(get, client.receive, client.send)
        except asyncio.CancelledError:
            # Cancelled by `_until_left` the request has just ended; any other cancellation is the server's.
            if not client.left:
                raise
        except SatelliteError as error:
            await client.fail(error)
        except Exception as error:  # the request boundary: whatever broke, the client gets an answer
            if not client.left:
                _LOGGER.exception("%s: a request failed unexpectedly", scope["path"])
                await client.fail(SatelliteError(type(error).__name__))
        finally:
            client.close()

    def _check_token(self, scope: Scope, client: "_Client") -> None:
        """Raise `HttpError` for a client without the token; those who guess are limited, and lock nobody else out."""
        try:
            self._access.check_token(scope)
        except HttpError:
            self._rate.refuse(client.address)
            raise


class _Client:
    """The client of one request: reading and writing have timeouts, and the work ends when it disconnects."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, settings: HttpSettings) -> None:
        self.address: str = scope["client"][0]
        self.headers: dict[str, str] = {}
        self.left = False
        self._scope = scope
        self._receive = receive
        self._send = send
        self._write_seconds = settings.write_timeout_seconds
        self._read_by = asyncio.get_running_loop().time() + settings.read_timeout_seconds
        self._read_seconds = settings.read_timeout_seconds
        self._bytes_left = settings.max_body_bytes
        self._too_large = f"the request is larger than {settings.max_body_bytes} bytes"
        self._abort: Callable[[], None] = scope.get("state", {}).get("abort", lambda: None)
        self._is_http = scope["type"] == "http"
        self.wants_head = scope.get("method") == "HEAD"
        self._complete = not self._is_http
        self._started = self._finished = False
        self._handler = asyncio.current_task()
        self._watch: asyncio.Task[None] | None = None

    async def check_size(self) -> None:
        """Raise `HttpError` for a request whose Content-Length is too large."""
        headers = Headers(scope=self._scope)
        length = int(headers.get("content-length", "0"))  # h11 has checked that it is a number
        if self._is_http and length > self._bytes_left:
            if "expect" not in headers:  # else the client waits for the answer before it sends the body
                await self._discard()
            raise HttpError(self._too_large, code="http-body-too-large", headers=_CLOSE)

    async def receive(self) -> Message:
        """Return what the client sends. Raises `HTTPException` for a request that is too large or too slow."""
        if self._complete:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._read_by):
                message = await self._receive()
        except TimeoutError:
            problem = f"the request did not arrive within {self._read_seconds:g} s"
            raise HTTPException(HTTPStatus.REQUEST_TIMEOUT, problem, _CLOSE) from None
        self._bytes_left -= len(message.get("body", b""))
        if self._bytes_left < 0:
            if message.get("more_body", False):
                await self._discard()
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, self._too_large, _CLOSE)
        if message["type"] == "http.request" and not message.get("more_body", False):
            self._complete = True
            if self._scope["method"] == "POST":
                self._watch = begin_task(self._until_left(), f"watch {self.address}")
        return message

    async def _discard(self) -> None:
        """Read on for a while: closing while the client still sends resets the connection, and the answer is lost."""
        try:
            async with asyncio.timeout(_DISCARD_SECONDS):
                while (await self._receive()).get("more_body", False):
                    pass
        except TimeoutError:
            return

    async def send(self, message: Message) -> None:
        """Send to the client; one that does not read is disconnected."""
        if message["type"] in ("http.response.start", "websocket.http.response.start"):
            self._started = True
            headers = MutableHeaders(scope=message)
            for name, value in (_SECURITY_HEADERS | self.headers).items():
                headers.setdefault(name, value)
            # Static files are the same for everybody: a cache may keep them, and revalidates them by their ETag.
            is_static = self._scope["path"].startswith("/static/")
            headers.setdefault("Cache-Control", "no-cache" if is_static else "no-store")
        elif message["type"] == "websocket.accept":
            self._started = True
        elif message["type"] == "http.response.body" and not message.get("more_body", False):
            self._finished = True
            self.close()
        try:
            async with asyncio.timeout(self._write_seconds):
                await self._send(message)
        except TimeoutError:
            _LOGGER.info("%s does not read, and is disconnected", self.address)
            self.left = True
            self._abort()
            raise ConnectionResetError("the client does not read") from None
        if self.wants_head and message["type"] == "http.response.start":
            await self.send({"type": "http.response.body", "body": b""})
            self.left = True  # the body that would follow may be endless
            raise ConnectionResetError("an answer to HEAD has no body")

    async def fail(self, error: SatelliteError) -> None:
        """Answer with an error; once an answer has begun, abort the connection instead."""
        if self._started:
            if not self._finished:
                self._abort()
            return
        response = response_to(self._scope, error)
        prefix = "" if self._is_http else "websocket."
        start = {
            "type": f"{prefix}http.response.start",
            "status": response.status_code,
            "headers": response.raw_headers,
        }
        try:
            await self.send(start)
            await self.send({"type": f"{prefix}http.response.body", "body": bytes(response.body)})
        except ConnectionError:
            self.left = True

    def close(self) -> None:
        """The request is over."""
        if self._watch is not None:
            self._watch.cancel()

    async def _until_left(self) -> None:
        """Cancel the work once the client has disconnected."""
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if self._handler is not None and not self._handler.done():
            self.left = True
            self._handler.cancel()

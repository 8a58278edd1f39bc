"""A local server that speaks the hub's `resolve` endpoint, large files through a storage host; it can fail at will.

As on the hub, HEAD and GET of a large file answer 302 with the file's size and SHA-256 and point to the storage, and
small files answer 307 to another place on the hub, with git's own hash as ETag.
"""

import hashlib
import os
import re
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import unquote

import pytest

from tests.waiting import PATIENCE_SECONDS

WHISPER = {
    "config.json": b'{"alignment_heads": []}',
    "model.bin": bytes(range(256)) * 4096,
    "tokenizer.json": b'{"model": {}}',
    "vocabulary.json": b"[]",
    "README.md": b"# not part of the model",
}
"""The files of a repository in the shape of a Whisper model for CTranslate2; its model.bin has 1 MiB."""

COMMIT = "0123456789abcdef0123456789abcdef01234567"
_LARGE = (".bin", ".onnx", ".gguf")
_PIECE_BYTES = 16 * 1024


@dataclass
class Fault:
    """How the content of one file goes wrong."""

    cut_after_bytes: int | None = None  # close the connection after so many bytes of an answer
    status: int | None = None  # answer this instead
    content: bytes | None = None  # send this instead, under the promises of the real content
    hold: threading.Event | None = None  # wait for this before the byte that `hold_at_byte` counts
    hold_at_byte: int = 0

    ignore_range: bool = False  # send everything from the start, whatever was asked for
    times: int = 1_000_000  # how many answers it spoils


@dataclass(frozen=True)
class Request:
    """What a client asked for."""

    method: str
    path: str
    range: str | None
    authorization: str | None


@dataclass
class HubServer:
    """The hub of a test: `repositories` maps a repository's name to its files."""

    repositories: Mapping[str, Mapping[str, bytes]]
    faults: dict[str, Fault] = field(default_factory=dict)  # by path inside the repository
    requests: list[Request] = field(default_factory=list)
    content_bytes: Counter[str] = field(default_factory=Counter)  # bytes of content sent, by path inside the repository
    sending: threading.Event = field(default_factory=threading.Event)  # set as soon as a client asks for content

    def __enter__(self) -> Self:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def become_the_hub(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HF_ENDPOINT", self.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
        monkeypatch.setenv("SSL_CERT_DIR", os.devnull)  # reading all authorities takes most of the time of a pull
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)

    @property
    def url(self) -> str:
        """What HF_ENDPOINT has to be."""
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def ranges(self) -> list[str | None]:
        """The Range of every request for content that reached the end of its redirects."""
        return [request.range for request in self.requests if request.method == "GET" and "/stored/" in request.path]


def _handler(hub: HubServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # head and body are written one after the other

        def log_message(self, format: str, *values: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            authorization = self.headers.get("Authorization")
            hub.requests.append(Request(self.command, self.path, self.headers.get("Range"), authorization))
            match = re.fullmatch(rf"/([^/]+/[^/]+)/(resolve|stored)/(?:main|{COMMIT})/(.+)", unquote(self.path))
            content = hub.repositories.get(match[1], {}).get(match[3]) if match else None
            if match is None or content is None:
                self._send_head(404, {"Content-Length": "0"})
            elif match[2] == "resolve":
                self._redirect(content, match[3])
            else:
                self._send_content(content, match[3])

        def _redirect(self, content: bytes, path: str) -> None:
            stored = self.path.replace("/resolve/", "/stored/")
            headers = {"Content-Length": "0", "X-Repo-Commit": COMMIT}
            if not path.endswith(_LARGE):
                self._send_head(307, headers | {"Location": stored})
                return
            # The same server under another host name, as the hub's storage is another host.
            headers["Location"] = hub.url.replace("127.0.0.1", "localhost") + stored
            headers["X-Linked-Etag"] = f'"{hashlib.sha256(content).hexdigest()}"'
            headers["X-Linked-Size"] = str(len(content))
            self._send_head(302, headers)

        def _send_content(self, content: bytes, path: str) -> None:
            blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{blob}"', "Accept-Ranges": "bytes"}
            if self.command == "HEAD":
                self._send_head(200, headers | {"Content-Length": str(len(content))})
                return
            fault = hub.faults.get(path, Fault())
            fault.times -= 1
            if fault.times < 0:
                fault = Fault()
            if fault.status is not None:
                self._send_head(fault.status, {"Content-Length": "0"})
                return
            start = re.fullmatch(r"bytes=(\d+)-", "" if fault.ignore_range else self.headers.get("Range", ""))
            offset = int(start[1]) if start else 0
            headers["Content-Range"] = f"bytes {offset}-{len(content) - 1}/{len(content)}"
            body = (fault.content or content)[offset:]
            self._send_head(206 if start else 200, headers | {"Content-Length": str(len(body))})
            self._send_body(body, path, fault)

        def _send_body(self, body: bytes, path: str, fault: Fault) -> None:
            hub.sending.set()
            end = len(body) if fault.cut_after_bytes is None else min(len(body), fault.cut_after_bytes)
            for start in range(0, end, _PIECE_BYTES):
                if fault.hold is not None and start >= fault.hold_at_byte:
                    fault.hold.wait(timeout=PATIENCE_SECONDS)
                piece = body[start : min(start + _PIECE_BYTES, end)]
                try:
                    self.wfile.write(piece)
                except ConnectionError:
                    self.close_connection = True
                    return
                hub.content_bytes[path] += len(piece)
            if end < len(body):
                self.close_connection = True

        def _send_head(self, status: int, headers: Mapping[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()

    return Handler

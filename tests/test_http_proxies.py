"""The client that a request counts for: behind a trusted proxy the one that it names; wrong tokens count apart."""

import socket
from collections import Counter
from contextlib import ExitStack

import httpx
import pytest
from starlette.types import Scope
from websockets.sync.client import connect

from satellite.http.forwarded import Proxies
from satellite.http.rate_limit import rate_key
from tests.http_daemon import RIGHT, TIME, TOKEN, last_run, problem, serving, ws
from tests.running_daemon import RunningDaemon
from tests.waiting import PATIENCE_SECONDS, eventually


def test_a_stranger_cannot_lock_others_out(daemon: RunningDaemon) -> None:
    with serving(daemon, requests_per_minute=20, token=TOKEN) as http:
        codes = [http.get("/status", headers={"Authorization": f"Bearer {at}"}).status_code for at in range(5)]
        assert codes == [401, 401, 429, 429, 429]
        refused = http.get("/status")
        assert problem(refused)["detail"].startswith("more than 2 requests without the right token in a minute")
        assert refused.headers["retry-after"]
        answer = http.get("/status", headers=RIGHT)
        assert (answer.status_code, answer.headers["ratelimit-remaining"]) == (200, "19")


def test_behind_a_trusted_proxy_each_client_counts_by_itself(daemon: RunningDaemon) -> None:
    with serving(daemon, requests_per_minute=2, trusted_proxies=["127.0.0.0/8"]) as http:
        for name in ("192.0.2.1", "192.0.2.2"):
            named = {"X-Forwarded-For": name}
            assert [http.get("/rooms", headers=named).status_code for _ in range(3)] == [200, 200, 429]
        assert http.post("/chat", json=TIME, headers={"X-Forwarded-For": "192.0.2.3"}).status_code == 200
        http.headers["Forwarded"] = "for=192.0.2.4"
        assert last_run(http)["room"] == "http 192.0.2.3"
        with connect(ws(http), additional_headers={"X-Forwarded-For": "192.0.2.5"}) as connection:
            for _ in range(2):
                connection.send('{"type": "hello"}')
            frames = [str(connection.recv(timeout=PATIENCE_SECONDS)) for _ in range(3)]
            assert ['"http-rate-limited"' in frame for frame in frames] == [False, False, True]


def seen(peer: str, proxies: tuple[str, ...], **headers: str) -> str:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope: Scope = {"type": "http", "client": (peer, 1), "headers": raw}
    return Proxies(proxies).client(scope)


HOUSE = ("10.0.0.0/8", "fd00::/8")


@pytest.mark.parametrize(
    ("headers", "who"),
    [
        ({}, "10.0.0.1"),
        ({"x_forwarded_for": "192.0.2.1"}, "192.0.2.1"),
        ({"x_forwarded_for": "192.0.2.1:4711"}, "192.0.2.1"),
        ({"x_forwarded_for": "6.6.6.6, 192.0.2.1, 10.0.0.2"}, "192.0.2.1"),
        ({"x_forwarded_for": "10.0.0.3, 10.0.0.2"}, "10.0.0.3"),
        ({"x_forwarded_for": "6.6.6.6, nonsense, 10.0.0.2"}, "10.0.0.2"),
        ({"x_forwarded_for": ""}, "10.0.0.1"),
        ({"forwarded": 'For="[2001:db8::1]:4711";proto=https;by=10.0.0.1'}, "2001:db8::1"),
        ({"forwarded": "for=6.6.6.6, for=192.0.2.1;host=home"}, "192.0.2.1"),
        ({"forwarded": "for=192.0.2.1, for=_hidden"}, "10.0.0.1"),
        ({"forwarded": "proto=https"}, "10.0.0.1"),
        ({"forwarded": "for=192.0.2.1", "x_forwarded_for": "192.0.2.1"}, "192.0.2.1"),
        ({"forwarded": "for=6.6.6.6", "x_forwarded_for": "192.0.2.1"}, "10.0.0.1"),
    ],
)
def test_the_client_of_a_chain_of_proxies(headers: dict[str, str], who: str) -> None:
    assert seen("10.0.0.1", HOUSE, **headers) == who


def test_nobody_but_a_trusted_proxy_is_believed() -> None:
    assert seen("192.0.2.9", HOUSE, x_forwarded_for="192.0.2.1") == "192.0.2.9"
    assert seen("10.0.0.1", (), x_forwarded_for="192.0.2.1") == "10.0.0.1"


def test_an_address_in_two_forms() -> None:
    assert seen("::ffff:10.0.0.1", HOUSE, x_forwarded_for="::ffff:192.0.2.1") == "192.0.2.1"
    assert rate_key("2001:db8::1") == rate_key("2001:db8::2:3") != rate_key("2001:db8:0:1::1")
    assert rate_key("192.0.2.1") == "192.0.2.1"
    assert rate_key("unknown") == "unknown"


@pytest.mark.parametrize(
    "path", ["/", "/healthz", "/readyz", "/status", "/metrics", "/v1/models", "/static/icon.svg", "/events"]
)
def test_head_is_answered_wherever_get_is(http: httpx.Client, path: str) -> None:
    head = http.head(path)
    assert (head.status_code, head.content) == (200, b"")
    with http.stream("GET", path) as got:
        assert head.headers["content-type"] == got.headers["content-type"]


def test_what_is_not_answered_is_not_answered_to_head_either(http: httpx.Client) -> None:
    assert http.head("/nowhere").status_code == 404
    refused = http.put("/status")
    assert refused.status_code == 405
    assert set(refused.headers["allow"].replace(" ", "").split(",")) == {"GET", "HEAD"}


def test_so_many_may_watch_and_no_more(daemon: RunningDaemon) -> None:
    with serving(daemon) as http:
        with ExitStack() as stack:
            address = ("127.0.0.1", http.base_url.port or 0)
            peers = [stack.enter_context(socket.create_connection(address, 60)) for _ in range(80)]
            for peer in peers:
                peer.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert Counter(peer.recv(12)[9:] for peer in peers) == {b"200": 64, b"503": 16}
        eventually(lambda: http.head("/events").status_code == 200)

"""HTTPS: certificates that are given, made, renewed and refused; what the daemon serves with them, and what it says."""

import asyncio
import json
import resource
import ssl
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import load_pem_x509_certificate
from websockets.asyncio.client import connect

from satellite.cli.check import examine
from satellite.cli.doctor import household
from satellite.cli.doctor.findings import Target
from satellite.config.loader import parse
from satellite.daemon import config_check
from satellite.daemon.daemon import Daemon
from satellite.errors import ConfigError
from satellite.http import uvicorn_server
from satellite.models.store import Store
from satellite.net import pem
from satellite.net.tls_certificate import ServerCertificate, checked
from tests.command_line import satellite
from tests.waiting import PATIENCE_SECONDS

NAMES = ["voice", "localhost", "127.0.0.1", "fd00::1"]


def own(folder: Path, *more: str) -> ServerCertificate:
    return ServerCertificate(None, folder / "state" / "https.pem", lambda: [*NAMES, *more])


def fingerprint(certificate: ServerCertificate) -> str:
    status = certificate.status()
    assert status is not None
    return status.fingerprint


def key(passphrase: bytes = b"") -> bytes:
    way = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    private = ec.generate_private_key(ec.SECP256R1())
    return private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, way)


def given(folder: Path) -> tuple[Path, Path]:
    """Return files with a certificate and its key, as other programs write them."""
    made = folder / "made.pem"
    pem.keep(made, NAMES)
    private, mark, certificate = made.read_text().partition("-----BEGIN CERTIFICATE")
    (folder / "cert.pem").write_text(mark + certificate)
    (folder / "key.pem").write_text(private)
    return folder / "cert.pem", folder / "key.pem"


def test_a_certificate_is_made_once_and_is_private(tmp_path: Path) -> None:
    certificate = own(tmp_path)
    assert certificate.status() is None
    certificate.read()
    file = tmp_path / "state" / "https.pem"
    assert file.stat().st_mode & 0o777 == 0o600
    status = certificate.status()
    assert status is not None
    assert (status.names, status.self_signed, status.message) == (tuple(NAMES), True, "")
    again = own(tmp_path)
    again.read()
    assert fingerprint(again) == status.fingerprint
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize(
    ("days", "more", "renewed"),
    [(800, (), False), (61, (), False), (59, (), True), (800, ("192.168.1.7",), True), (800, ("fd00::2",), False)],
)
def test_a_certificate_is_renewed_before_it_ends_and_for_new_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: int, more: tuple[str, ...], renewed: bool
) -> None:
    monkeypatch.setattr(pem, "_VALID", timedelta(days=days, minutes=1))
    certificate = own(tmp_path)
    certificate.read()
    before = fingerprint(certificate)
    monkeypatch.undo()
    later = own(tmp_path, *more)
    later.read()
    assert (fingerprint(later) != before) is renewed


@pytest.mark.parametrize(
    ("files", "code", "words"),
    [
        ({"cert.pem": None}, "certificate-unreadable", "cert.pem cannot be read: No such file"),
        ({"key.pem": None}, "certificate-unreadable", "key.pem cannot be read: No such file"),
        ({"cert.pem": b"garbage"}, "certificate-invalid", "there is no certificate in PEM"),
        ({"key.pem": b"\xff"}, "certificate-invalid", "there is no key in PEM"),
        ({"key.pem": key()}, "certificate-invalid", "the key belongs to another certificate"),
        ({"key.pem": key(b"secret")}, "certificate-invalid", "the key has a passphrase"),
    ],
)
def test_files_that_cannot_be_used_are_refused_and_reported(
    tmp_path: Path, files: dict[str, bytes | None], code: str, words: str
) -> None:
    cert, private = given(tmp_path)
    for name, content in files.items():
        (tmp_path / name).unlink() if content is None else (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=words) as refused:
        checked(cert, private)
    assert refused.value.code == code
    config = parse(f"http: {{tls: {{cert: {cert}, key: {private}}}}}")
    (missing,) = [one for one in examine(config, Store(tmp_path)) if one.key == "http.tls"]
    assert (missing.code, words in missing.text) == (code, True)
    # What cannot be read may come back: the house speaks meanwhile, without HTTP.
    problems = [where for where, _ in config_check.check(config) if where == ("http", "tls")]
    assert len(problems) == (code == "certificate-invalid")


def test_a_full_disk_is_reported_with_the_file_that_does_not_fit(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(ConfigError, match=f"{tmp_path}/https.pem cannot be written: File too large"):
            ServerCertificate(None, tmp_path / "https.pem", lambda: ["localhost"]).read()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


def test_one_file_may_hold_both_in_any_order(tmp_path: Path) -> None:
    cert, private = given(tmp_path)
    both = tmp_path / "both.pem"
    both.write_text(cert.read_text() + private.read_text())
    assert checked(both, both) == checked(cert, private)


async def test_a_bad_renewal_leaves_the_certificate_and_a_good_one_reaches_new_connections(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cert, private = given(tmp_path)
    certificate = ServerCertificate((cert, private), tmp_path / "own.pem", list)
    certificate.read()
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=certificate.context)
    port = server.sockets[0].getsockname()[1]

    async def served() -> str:
        text = await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", port))
        return pem.fingerprint(load_pem_x509_certificate(text.encode()))

    first = await served()
    assert first == fingerprint(certificate)
    private.write_bytes(key())
    await certificate.read_again()
    status = certificate.status()
    assert status is not None
    assert "belongs to another" in status.message
    assert "the certificate in use stays" in caplog.text
    assert await served() == first
    (tmp_path / "made.pem").unlink()
    given(tmp_path)
    await certificate.read_again()
    assert await served() == fingerprint(certificate) != first
    server.close()


@pytest.mark.virtual_clock
async def test_the_files_are_read_again_every_hour(tmp_path: Path) -> None:
    certificate = ServerCertificate(given(tmp_path), tmp_path / "own.pem", list)
    certificate.read()
    first = fingerprint(certificate)
    following = asyncio.create_task(certificate.follow())
    (tmp_path / "made.pem").unlink()
    given(tmp_path)
    await asyncio.sleep(3500)
    assert fingerprint(certificate) == first
    await asyncio.sleep(200)
    assert fingerprint(certificate) != first
    following.cancel()


@pytest.mark.parametrize(("days", "words"), [(8, ""), (6, "ends at"), (-0.5, "has ended at")])
def test_an_end_that_is_near_needs_attention(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: float, words: str
) -> None:
    monkeypatch.setattr(pem, "_VALID", timedelta(days=days))
    certificate = ServerCertificate(given(tmp_path), tmp_path / "own.pem", list)
    certificate.read()
    status = certificate.status()
    assert status is not None
    assert words in status.message
    assert bool(status.message) is bool(words)


@pytest.fixture
async def secure(tmp_path: Path) -> AsyncIterator[Daemon]:
    """A daemon with HTTPS, and without models."""
    config = parse(
        "zeroconf: {enabled: false}\nwyoming: {host: 127.0.0.1}\nhttp: {tls: auto, allowed_hosts: [voice.lan]}\n"
        f"models: {{directory: {tmp_path}/none}}\ncommands: {{state_directory: {tmp_path}}}\n"
    )
    async with Daemon(config, free_ports=True) as daemon:
        await daemon.ready()
        yield daemon


async def test_the_daemon_serves_https_by_a_certificate_of_its_own(secure: Daemon, tmp_path: Path) -> None:
    port = secure.ports["http"]
    trust = ssl.create_default_context(cafile=str(tmp_path / "https.pem"))
    async with httpx.AsyncClient(base_url=f"https://127.0.0.1:{port}", verify=trust, timeout=PATIENCE_SECONDS) as http:
        found = (await http.get("/certificate")).json()
        status = (await http.get("/status")).json()["certificate"]
        assert {name: found[name] for name in status} == status
        assert "voice.lan" in status["names"]
        assert found["address"] == f"https://127.0.0.1:{port}/room#sha256={status['fingerprint'].replace(':', '')}"
        assert found["qr"].startswith("data:image/svg+xml")
        assert (await http.get("/")).status_code == 200
    async with connect(f"wss://localhost:{port}/ws", ssl=trust) as socket:
        assert json.loads(await socket.recv())["type"] == "ready"
    async with httpx.AsyncClient() as plain:
        with pytest.raises(httpx.TransportError):
            await plain.get(f"http://127.0.0.1:{port}/status")
    (tmp_path / "https.pem").unlink()
    await secure.apply(secure.config)
    assert secure._certificate is not None
    assert fingerprint(secure._certificate) != status["fingerprint"]


async def test_the_fingerprint_is_told_by_commands(secure: Daemon) -> None:
    uri = f"tcp://127.0.0.1:{secure.ports['port']}"

    async def said(*words: str) -> str:
        return (await asyncio.to_thread(satellite, *words, "--uri", uri)).stdout

    assert secure._certificate is not None
    expected = fingerprint(secure._certificate)
    assert expected in (await said("certificate")).partition("█")[0]
    assert json.loads(await said("certificate", "--json"))["fingerprint"] == expected
    state: dict[str, Any] = json.loads(await said("status", "--json"))
    assert f"SHA-256{expected}" in "".join((await said("status")).split())
    (finding,) = await household.CHECKS["certificate"](Target(secure.config, state, uri))
    assert (finding.state, f"SHA-256 {expected}" in finding.seen) == ("good", True)


async def test_a_client_that_does_not_finish_its_handshake_is_disconnected(
    secure: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uvicorn_server, "FIRST_REQUEST_SECONDS", 0.1)
    await secure._http.stop()
    reader, writer = await asyncio.open_connection("127.0.0.1", await secure._http.start(0))
    assert await asyncio.wait_for(reader.read(), 30) == b""  # asyncio itself would wait for a minute
    writer.close()


async def test_without_its_certificate_the_daemon_serves_the_rest_and_says_why(tmp_path: Path) -> None:
    config = parse(
        "zeroconf: {enabled: false}\nwyoming: {host: 127.0.0.1}\n"
        f"http: {{tls: {{cert: {tmp_path}/cert.pem, key: {tmp_path}/key.pem}}}}\n"
        f"models: {{directory: {tmp_path}/none}}\ncommands: {{state_directory: {tmp_path}}}\n"
    )
    async with Daemon(config, free_ports=True) as daemon:
        (problem,) = [one for one in daemon._status.attention() if one.what == "port http"]
        assert f"{tmp_path}/cert.pem cannot be read" in problem.text
        given(tmp_path)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while "http" not in daemon.ports:
                await asyncio.sleep(0.05)

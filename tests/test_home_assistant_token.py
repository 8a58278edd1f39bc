"""Home Assistant's token and its address: where the token comes from, who sees it, and over what it travels."""

import asyncio
import logging
import ssl
import traceback
from pathlib import Path

import pytest
import trustme

from satellite.config.home_assistant import HomeAssistantSettings
from satellite.errors import ChatError, ConfigError
from satellite.skills.home_assistant.agent import HomeAssistantResponder
from tests.doubles.home_assistant import Fault, HomeAssistantServer
from tests.home import REFUSED, SILENT, TOKEN, WHY, asking, at_home, description, said, state, told, watched
from tests.relay import Relay
from tests.waiting import until

pytestmark = pytest.mark.virtual_clock


@pytest.fixture(autouse=True)
def nothing_around(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME_ASSISTANT_TOKEN", raising=False)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)


async def test_without_a_token_nobody_is_asked(caplog: pytest.LogCaptureFixture) -> None:
    async with at_home(token=None) as (house, home):
        assert await said(home) == REFUSED
        assert await said(home, WHY) is None
        await home.watch()
        assert (state(home), home.status.up) == ("no-token", False)
        assert not house.exchanges
    [line] = told(caplog)
    assert "neither token_file, token, $HOME_ASSISTANT_TOKEN nor a credential home_assistant.token" in line


async def test_a_token_that_has_gone_ends_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "gone"
    home = HomeAssistantResponder(HomeAssistantSettings(url="http://127.0.0.1:9", token_file=file))
    await home.watch()
    assert (state(home), home.status.up) == ("no-token", False)
    assert f"{file} cannot be read: No such file" in description(home)
    await home.close()
    [line] = told(caplog)
    assert str(file) in line


@pytest.mark.parametrize("fault", [Fault.CRASH, Fault.GARBAGE, Fault.FLOOD, Fault.CUT])
async def test_an_error_carries_nothing_of_it(fault: Fault) -> None:
    async with at_home() as (house, home):
        house.fault, house.repeats_token = fault, True
        with pytest.raises(ChatError) as caught:
            await home._api.converse("hello", None, "x", asyncio.Event())
        assert (caught.value.__cause__, caught.value.__context__) == (None, None)
        assert TOKEN not in "".join(traceback.format_exception(caught.value))


async def test_a_refused_token_is_told_once_and_tried_rarely(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("satellite.skills.home_assistant.agent._REFUSED_SECONDS", 60)  # in place of six hours
    caplog.set_level(logging.DEBUG)
    async with at_home() as (house, home), watched(home):
        house.token, house.repeats_token, house.login_attempts_threshold = f"{TOKEN}2", True, 3
        assert await said(home) == REFUSED
        assert state(home) == "refused"
        await asyncio.sleep(50)
        assert await said(home) == REFUSED
        assert house.refused == 1
        await asyncio.sleep(15)
        assert house.refused == 2
        house.token = TOKEN
        await asyncio.sleep(50)
        assert state(home) == "refused"
        await asyncio.sleep(15)
        assert state(home) == "half-open"
        assert await said(home) == "Turned on the light"
    [warning] = [line for line in told(caplog) if line.startswith("WARNING")]
    assert "it refuses the token from home_assistant.token; make a long-lived access token" in warning
    assert TOKEN not in caplog.text


async def test_a_ban_is_told() -> None:
    async with at_home() as (house, home):
        house.login_attempts_threshold = 0
        assert await said(home) == REFUSED
        assert "answered 403: it may have banned this machine, see ip_bans.yaml" in description(home)
        assert state(home) == "refused"


async def test_a_proxy_has_no_way_into_the_house(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with at_home() as (_, home):
        assert await said(home)


async def test_a_house_elsewhere_is_announced(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with at_home() as (house, _):
        monkeypatch.setenv("HTTP_PROXY", house.url)  # it stands in for the proxy, too
        home = asking(house, url="http://my.house.example.com")
        async with watched(home):
            await until(lambda: state(home) == "ready")
            assert await said(home)
        await home.close()
    assert "http://my.house.example.com is outside this house" in told(caplog)[0]


async def test_a_certificate_is_trusted_as_told(tmp_path: Path) -> None:
    authority, certificate, key = trustme.CA(), tmp_path / "certificate.pem", tmp_path / "key.pem"
    issued = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(str(certificate))
    issued.private_key_pem.write_to_path(str(key))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issued.configure_cert(context)
    async with at_home() as (house, _), Relay(house.port, context) as relay:
        for trust in (certificate, "any", "system"):
            home = asking(house, url=relay.url, trust=trust)
            assert (await said(home) == SILENT) == (trust == "system")
            if trust == "system":
                assert "home_assistant.trust" in description(home)
            await home.close()
    for file in (key, tmp_path / "absent"):
        with pytest.raises(ConfigError, match="cannot be used"):
            asking(HomeAssistantServer(), url="https://house", trust=file)

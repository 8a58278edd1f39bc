"""Ollama beside the service, played by the stand-in for it: absent, present, gone again; and asked for a model."""

import json
from collections.abc import Iterator

import pytest

from tests.system.machine import WITH_DOUBLES, Machine

OLLAMA = (
    f"systemd-run -q --unit ollama {WITH_DOUBLES} /opt/satellite/current/bin/python -m tests.doubles ollama"
    " --port 11434 --say 'Here speaks Ollama.' --model smollm2 --library phi3:mini"
)
PROVIDERS = "chat: {providers: [{type: ollama, model: 'phi3:mini'}, {type: local}]}"


@pytest.fixture(scope="module")
def house(service: Machine) -> Iterator[Machine]:
    """The service, with Ollama as its first provider."""
    config = "/etc/satellite/config.yaml"
    service.run(f"cp -p {config} /srv/before.yaml")
    service.run(f'echo "{PROVIDERS}" >>{config}; systemctl restart satellite')
    yield service
    service.run(f"cp -p /srv/before.yaml {config}; systemctl restart satellite")


def test_without_ollama_the_next_provider_answers(house: Machine) -> None:
    assert "Paris" in house.run("satellite ask 'What is the capital of France?'").stdout
    status = "degraded · look at provider ollama · local smollm2-135m-instruct ready · stt cpu"
    house.until(f"systemctl show -P StatusText satellite | grep -q '^{status}$'")  # it is written once a second
    house.run("sleep 5")
    log = house.run(f"journalctl -o json -p warning _PID={house.pid}").stdout.splitlines()
    assert [json.loads(line)["MESSAGE"] for line in log if "ollama" in line.lower()] != []
    assert len(log) <= 3, log


def test_the_installer_fetches_a_model_through_it(house: Machine) -> None:
    refused = house.run(f"{house.install} --model phi3:mini", check=False)
    assert "error: fetching phi3:mini with Ollama" in refused.stderr
    assert "--with-ollama --model phi3:mini" in refused.stderr
    house.run(OLLAMA)
    printed = house.run(f"{house.install} --model phi3:mini").stdout
    assert "pulling manifest" in printed
    assert "success" in printed
    assert "pulling" not in house.run(f"{house.install} --model phi3:mini").stdout


def test_it_answers_while_it_runs(house: Machine) -> None:
    pid = house.pid
    house.until("journalctl -u satellite -o cat | grep -q 'phi3:mini is loaded and ready'")
    assert "Here speaks Ollama." in house.run("satellite ask 'What is the capital of France?'").stdout
    house.until("systemctl show -P StatusText satellite | grep -q '^ready · ollama phi3:mini warm · stt cpu$'")
    house.run("systemctl stop ollama")
    assert "Paris" in house.run("satellite ask 'What is the capital of France?'").stdout
    assert house.pid == pid


def test_its_settings_are_installed(house: Machine) -> None:
    house.run("printf '#!/bin/sh\\n' >/usr/local/bin/ollama; chmod +x /usr/local/bin/ollama")
    house.run("printf '[Service]\\nExecStart=/bin/sleep inf\\n' >/etc/systemd/system/ollama.service")
    house.run(f"systemctl daemon-reload; systemctl start ollama; {house.install} --with-ollama")
    house.run("tr '\\0' '\\n' </proc/$(systemctl show -P MainPID ollama)/environ | grep -q OLLAMA_KEEP_ALIVE=-1")
    house.run("systemctl stop ollama; rm /etc/systemd/system/ollama.service /usr/local/bin/ollama")
    house.run("systemctl daemon-reload")


def test_its_installer_may_come_from_a_mirror(house: Machine) -> None:
    house.write("/srv/mirror/install.sh", "echo no space for Ollama >&2; exit 5\n")
    house.run("systemd-run -q --unit mirror python3 -m http.server 8090 --bind 127.0.0.1 -d /srv/mirror; sleep 1")
    before = house.files
    failed = house.run(
        "OLLAMA_INSTALLER=http://127.0.0.1:8090/install.sh sh /media/satellite/install.sh --with-ollama", check=False
    )
    assert "no space for Ollama" in failed.stderr
    assert "error: installing Ollama\n" in failed.stderr
    assert house.files ^ before == set()
    house.run("systemctl stop mirror; rm -r /srv/mirror")

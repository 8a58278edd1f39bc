"""Installing: a dry run, what fails and leaves nothing, and what stands in the end."""

import re

import pytest

from tests.system.machine import Machine

INSTALL = "sh /media/satellite/install.sh"
OVERRIDE = "/etc/systemd/system/satellite.service.d/override.conf"
KEYS = "/etc/satellite/credentials"
HTTP_STATUS = "curl -s -o /dev/null -w '%{http_code}'"
TOKEN = "0123456789abcdef" * 2

FAILURES = {
    "user": (
        "printf '#!/bin/sh\\nexit 9\\n' >/usr/local/sbin/useradd; chmod +x /usr/local/sbin/useradd",
        f"{INSTALL} --offline /media/offline",
        "creating the user satellite\n.*message above\n.*run this again",
    ),
    "packages": (
        "cp -r /media/offline /srv/part; rm /srv/part/wheels/numpy-*",
        f"{INSTALL} --offline /srv/part",
        "installing 0.* into /opt/satellite\n.*pip could not install.*\n.*--prepare DIR",
    ),
    "ollama": (
        "true",
        f"OLLAMA_INSTALLER=http://127.0.0.1:9/install.sh {INSTALL} --with-ollama",
        "fetching Ollama's official installer\n.*message above\n.*OLLAMA_INSTALLER=URL",
    ),
    "start": (
        f"install -D -m 644 /dev/null {OVERRIDE}; printf '[Service]\\nExecStartPre=/bin/false\\n' >{OVERRIDE}",
        f"{INSTALL} --offline /media/offline --hosted",
        "starting, and waiting until it is ready\n.*last log lines are above\n.*journalctl -u satellite",
    ),
}
"""What is done before, what is run, and the step, the cause and the remedy that are printed."""


def test_a_dry_run_changes_nothing(machine: Machine) -> None:
    before = machine.files
    printed = machine.run(f"{INSTALL} --dry-run --microphone --with-ollama --model phi3:mini").stdout
    for change in ("apt-get", "useradd", "ollama.conf", "ollama pull phi3:mini", "systemctl enable"):
        assert re.search(rf"would run: .*{change}", printed), change
    assert printed.endswith("nothing was changed: this was a dry run\n")
    assert machine.files ^ before == set()


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failure_leaves_the_machine_as_it_was(machine: Machine, failure: str) -> None:
    prepare, command, message = FAILURES[failure]
    machine.run(prepare)
    before = machine.files
    result = machine.run(command, check=False, seconds=400)
    left = machine.files ^ before
    machine.run(f"rm -rf /usr/local/sbin/useradd /srv/part {OVERRIDE.rpartition('/')[0]}")
    assert result.returncode != 0
    assert re.search(f"error: {message}", result.stderr), result.stderr
    assert "could not undo" not in result.stderr
    assert left == set()


def test_one_command_installs_all_of_it(machine: Machine) -> None:
    printed = machine.run(machine.install, seconds=400).stdout
    assert re.search(r"host 192\.168\.77\.2 +port 10600", printed)
    assert machine.status["ready"]
    assert machine.shown("StatusText") == "ready · local smollm2-135m-instruct ready · stt cpu"
    assert machine.run("systemctl is-enabled satellite").stdout == "enabled\n"
    assert machine.run("stat -c '%U:%G %a' /etc/satellite/config.yaml").stdout == "root:satellite 640\n"
    listed = "find . -type f ! -name '*.pyc' | LC_ALL=C sort"
    sources = machine.run(f"cd /media/satellite/satellite && {listed}").stdout
    assert machine.run(f"cd /opt/satellite/current/lib/python3*/site-packages/satellite && {listed}").stdout == sources
    packages = machine.run("/opt/satellite/current/bin/python -m pip list --format freeze").stdout
    assert re.findall(r"(?m)^onnxruntime[^=]*", packages) == ["onnxruntime"]
    found = machine.run("find /usr/local/share -name '*satellite*' -type f -user root -size +0").stdout.split()
    assert sorted(name.removeprefix("/usr/local/share/") for name in found) == [
        "bash-completion/completions/satellite",
        "fish/vendor_completions.d/satellite.fish",
        "man/man1/satellite.1",
        "zsh/site-functions/_satellite",
    ]
    machine.run("bash -c 'source /usr/local/share/bash-completion/completions/satellite; complete -p satellite'")


def test_a_second_run_changes_nothing(service: Machine) -> None:
    pid, files = service.pid, service.files
    assert "nothing was changed" in service.run(service.install).stdout
    assert "all are present" in service.run(f"{INSTALL} --dry-run").stdout
    service.run("mv /var/lib/satellite/models/stt /srv/stt")
    assert re.search(r"would fetch:\n +stt/tiny\.en +78\.1 MB\n", service.run(f"{INSTALL} --dry-run").stdout)
    service.run("mv /srv/stt /var/lib/satellite/models/stt")
    assert service.files ^ files == set()
    assert service.pid == pid


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "stt: {model: small.en}",
            r"\[model-missing\] stt.model: stt/small.en(.|\n)*--prepare /media/offline with --whisper",
        ),
        (
            "stt: {model: nothing.en}",
            r"\[config-invalid\] .*did you mean 'tiny.en'(.|\n)*fix /etc/satellite/config.yaml",
        ),
    ],
)
def test_a_bad_configuration_is_reported_and_stops_nothing(
    service: Machine, config: str, line: str, message: str
) -> None:
    service.run(f"echo '{line}' >>{config}")
    pid, files = service.pid, service.files
    result = service.run(f"{service.install} --hosted", check=False)
    steps = "(checking the configuration|fetching the models that are missing)"
    assert re.search(f"error: {steps}\n  cause:  .*{message}", result.stderr), result.stderr
    assert service.files ^ files == set()
    assert service.pid == pid


def test_root_follows_no_links_of_the_services_user(service: Machine) -> None:
    models = "/var/lib/satellite/models"
    look = "cat /srv/victim; stat -c '%U %G %a' /srv/victim /srv/folder; ls -A /srv/folder"
    service.run("install -m 600 /dev/null /srv/victim; mkdir -m 700 /srv/folder; echo secret >/srv/victim")
    for attack in (
        f"ln -sf /srv/victim {models}/tts/*/*.onnx.json; rm {models}/tts/*/manifest.json",
        f"rm -r {models}/stt; ln -s /srv/folder {models}/stt",
        f"rm -r {models}; ln -s /srv/folder {models}",
    ):
        service.run(f"setpriv --reuid satellite --regid satellite --clear-groups sh -c '{attack}'")
        service.run(service.install, check=False)
        assert service.run(look).stdout == "secret\nroot root 600\nroot root 700\n"
        service.run(f"find {models} -maxdepth 1 -type l -delete")
    service.run(f"rm -rf {models} /srv/victim /srv/folder; {service.install}")
    assert service.status["ready"]


def test_options_are_remembered_and_keys_are_loaded(service: Machine) -> None:
    dropins = "/etc/systemd/system/satellite.service.d"
    before = service.run(f"ls {dropins}", check=False).stdout.split()
    service.run(f"install -d -m 700 {KEYS} && echo {TOKEN} >{KEYS}/http.token; chmod 600 {KEYS}/*")
    service.run(f"{service.install} --hosted")
    assert "satellite_http.token" in service.run("ls /run/credentials/satellite.service").stdout.split()
    pid = service.pid
    service.run(service.install)
    assert service.pid == pid
    assert service.run(f"ls {dropins}").stdout.split() == sorted(["hosted.conf", *before])
    service.run(f"rm {dropins}/hosted.conf; {service.install}")
    assert service.run(f"ls {dropins}", check=False).stdout.split() == before
    assert service.pid != pid
    assert service.run(f"{HTTP_STATUS} http://127.0.0.1:10800/status").stdout == "401"
    for gone in (f"{KEYS}/http.token", KEYS):  # first the file, then its folder too
        service.run(f"rm -r {gone} && systemctl restart satellite")
        assert service.shown("StatusText").startswith("ready")
    assert service.run(f"{HTTP_STATUS} http://127.0.0.1:10800/status").stdout == "200"
    assert service.shown("NeedDaemonReload") == "no"


def test_a_token_that_only_the_service_can_read_is_assumed(service: Machine, config: str) -> None:
    service.run(f"install -d -m 700 {KEYS} && echo {TOKEN} >{KEYS}/http.token && chmod 600 {KEYS}/http.token")
    service.run(f"echo 'http: {{host: 0.0.0.0}}' >>{config}")
    for user in ("", "setpriv --reuid satellite --regid satellite --clear-groups "):
        assert "configuration: good" in service.run(f"{user}satellite check").stdout
    service.run(f"{service.install} && systemctl restart satellite")
    ask = f"{HTTP_STATUS} http://192.168.77.2:10800/status"
    assert service.run(f"{ask} -H 'Authorization: Bearer {TOKEN}'").stdout == "200"
    assert service.run(ask).stdout == "401"
    service.run(f"rm {KEYS}/http.token")
    assert "there is no token" in service.run("satellite check", check=False).stderr


def test_cuda_on_a_machine_without_a_gpu_is_an_error(service: Machine, config: str) -> None:
    before = service.files
    refused = service.run(f"{service.install} --gpu cuda", check=False)
    assert "no NVIDIA driver was found" in refused.stderr
    assert service.files ^ before == set()
    service.run(f"echo 'stt: {{device: cuda}}' >>{config}; systemctl restart satellite")
    assert service.shown("StatusText").startswith("degraded, without stt")
    log = service.run("journalctl -u satellite -o cat -p err SATELLITE_CODE=stt-not-ready").stdout
    assert "stt.device is cuda, but CTranslate2 sees no CUDA device" in log
    service.run(f"cp -p /srv/config.yaml {config}; systemctl restart satellite")

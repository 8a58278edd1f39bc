"""Installing: a dry run, what fails and leaves nothing, and what stands in the end."""

import re

import pytest

from tests.system.machine import Machine

INSTALL = "sh /media/satellite/install.sh"
USERADD_FAILS = "printf '#!/bin/sh\\nexit 9\\n' >/usr/local/sbin/useradd; chmod +x /usr/local/sbin/useradd"
OVERRIDE = "/etc/systemd/system/satellite.service.d/override.conf"
NEVER_STARTS = f"install -D -m 644 /dev/null {OVERRIDE}; printf '[Service]\\nExecStartPre=/bin/false\\n' >{OVERRIDE}"


def test_a_dry_run_does_nothing(machine: Machine) -> None:
    before = machine.files
    told = machine.run(f"{INSTALL} --dry-run --microphone --with-ollama --model phi3:mini").stdout
    for change in ("apt-get", "useradd", "ollama.conf", "ollama pull phi3:mini", "systemctl enable"):
        assert re.search(rf"would run: .*{change}", told), change
    assert told.endswith("nothing was changed: this was a dry run\n")
    assert machine.files ^ before == set()


@pytest.mark.parametrize(
    ("prepare", "command", "step", "cause", "remedy"),
    [
        (
            USERADD_FAILS,
            f"{INSTALL} --offline /media/offline",
            "making the user satellite",
            "message above",
            "run this again",
        ),
        (
            "cp -r /media/offline /srv/part; rm /srv/part/wheels/numpy-*",
            f"{INSTALL} --offline /srv/part",
            "installing 0.* into /opt/satellite",
            "pip could not install",
            "--prepare DIR",
        ),
        (
            "true",
            f"OLLAMA_INSTALLER=http://127.0.0.1:9/install.sh {INSTALL} --with-ollama",
            "fetching Ollama's official installer",
            "message above",
            "OLLAMA_INSTALLER=URL",
        ),
        (
            NEVER_STARTS,
            f"{INSTALL} --offline /media/offline --hosted",
            "starting, and waiting until it is ready",
            "last words are above",
            "journalctl -u satellite",
        ),
    ],
    ids=["user", "packages", "ollama", "start"],
)
def test_a_failure_leaves_the_machine_as_it_was(
    machine: Machine, prepare: str, command: str, step: str, cause: str, remedy: str
) -> None:
    machine.run(prepare)
    before = machine.files
    result = machine.run(command, check=False, seconds=400)
    left = machine.files ^ before
    machine.run(f"rm -rf /usr/local/sbin/useradd /srv/part; rm -rf {OVERRIDE.rpartition('/')[0]}")
    assert result.returncode != 0
    assert re.search(f"error: {step}\n  cause:  .*{cause}.*\n  remedy: .*{remedy}", result.stderr), result.stderr
    assert "could not undo" not in result.stderr
    assert left == set()


def test_one_command_installs_it(machine: Machine) -> None:
    told = machine.run(machine.install, seconds=400).stdout
    assert re.search(r"host 192\.168\.77\.2 +port 10600", told)
    assert machine.status["ready"]
    assert machine.words == "ready · local smollm2-135m-instruct ready · stt cpu"
    assert machine.run("systemctl is-enabled satellite").stdout == "enabled\n"
    assert machine.run("stat -c '%U:%G %a' /etc/satellite/config.yaml").stdout == "root:satellite 640\n"


def test_everything_is_in_the_package(service: Machine) -> None:
    listed = "find . -type f ! -name '*.pyc' | LC_ALL=C sort"
    sources = service.run(f"cd /media/satellite/satellite && {listed}").stdout
    assert "./http/pages/index.html" in sources
    assert service.run(f"cd /opt/satellite/current/lib/python3*/site-packages/satellite && {listed}").stdout == sources
    assert service.run("satellite --version").stdout.startswith("satellite ")


def test_a_second_time_it_changes_nothing(service: Machine) -> None:
    pid, files = service.pid, service.files
    assert "nothing was changed" in service.run(service.install).stdout
    assert service.files ^ files == set()
    assert service.pid == pid


@pytest.mark.parametrize(
    ("line", "cause", "remedy"),
    [
        (
            "stt: {model: small.en}",
            r"\[model-missing\] stt.model: stt/small.en",
            "--prepare /media/offline with --whisper",
        ),
        (
            "stt: {model: nothing.en}",
            r"\[config-invalid\] .*did you mean 'tiny.en'",
            "fix /etc/satellite/config.yaml",
        ),
        ("log_level: loud", r"\[config-invalid\] /etc/satellite/config.yaml:2: log_level", "fix /etc/satellite"),
    ],
)
def test_a_configuration_that_cannot_be_had_stops_nothing(
    service: Machine, config: str, line: str, cause: str, remedy: str
) -> None:
    service.run(f"echo '{line}' >>{config}")
    pid, files = service.pid, service.files
    result = service.run(f"{service.install} --hosted", check=False)
    steps = "(checking the configuration|fetching the models that are missing)"
    told = f"error: {steps}\n  cause:  .*{cause}(.|\n)*\n  remedy: .*{remedy}"
    assert re.search(told, result.stderr), result.stderr
    assert service.files ^ files == set()
    assert service.pid == pid


def test_a_configuration_that_the_daemon_may_not_read_is_opened(service: Machine) -> None:
    service.run("chown root:root /etc/satellite/config.yaml; chmod 600 /etc/satellite/config.yaml")
    assert "letting the daemon read /etc/satellite/config.yaml" in service.run(service.install).stdout
    assert service.run("stat -c '%U:%G %a' /etc/satellite/config.yaml").stdout == "root:satellite 640\n"


def test_root_follows_nothing_of_the_service_user(service: Machine) -> None:
    models = "/var/lib/satellite/models"
    service.run("install -m 600 /dev/null /srv/victim; mkdir -m 700 /srv/folder; echo secret >/srv/victim")
    for attack in (
        f"ln -sf /srv/victim {models}/tts/*/*.onnx.json; rm {models}/tts/*/manifest.json",
        f"rm -r {models}/stt; ln -s /srv/folder {models}/stt",
        f"rm -r {models}; ln -s /srv/folder {models}",
    ):
        service.run(f"setpriv --reuid satellite --regid satellite --clear-groups sh -c '{attack}'")
        before = service.run("cat /srv/victim; stat -c '%U %G %a' /srv/victim /srv/folder; ls -A /srv/folder").stdout
        service.run(service.install, check=False)
        after = service.run("cat /srv/victim; stat -c '%U %G %a' /srv/victim /srv/folder; ls -A /srv/folder").stdout
        assert after == before
        assert before.startswith("secret\nroot root 600\nroot root 700\n")
        service.run(f"find {models} -maxdepth 1 -type l -delete")
    service.run(f"rm -rf {models} /srv/victim /srv/folder; {service.install}")
    assert service.status["ready"]


def test_a_shell_completes_its_words(service: Machine) -> None:
    found = service.run("find /usr/local/share -name '*satellite*' -type f -user root -size +0").stdout.split()
    assert sorted(found) == [
        "/usr/local/share/bash-completion/completions/satellite",
        "/usr/local/share/fish/vendor_completions.d/satellite.fish",
        "/usr/local/share/man/man1/satellite.1",
        "/usr/local/share/zsh/site-functions/_satellite",
    ]
    told = service.run(
        "bash -c 'source /usr/local/share/bash-completion/completions/satellite; complete -p satellite'"
    ).stdout
    assert "satellite" in told


def test_a_dry_run_tells_the_truth(service: Machine) -> None:
    before = service.files
    assert "all are present" in service.run(f"{INSTALL} --dry-run").stdout
    service.run("mv /var/lib/satellite/models/stt /srv/stt")
    assert re.search(r"would fetch:\n +stt/tiny\.en +78\.1 MB\n", service.run(f"{INSTALL} --dry-run").stdout)
    service.run("mv /srv/stt /var/lib/satellite/models/stt")
    assert service.files ^ before == set()


def test_openings_are_remembered_and_keys_are_handed_over(service: Machine) -> None:
    keys, dropins = "/etc/satellite/credentials", "/etc/systemd/system/satellite.service.d"
    before = service.run(f"ls {dropins}", check=False).stdout.split()
    service.run(f"install -d -m 700 {keys} && echo {'0123456789abcdef' * 2} >{keys}/http.token; chmod 600 {keys}/*")
    service.run(f"{service.install} --hosted")
    assert "satellite_http.token" in service.run("ls /run/credentials/satellite.service").stdout.split()
    pid = service.pid
    service.run(service.install)
    assert service.pid == pid
    assert service.run(f"ls {dropins}").stdout.split() == sorted(["hosted.conf", *before])
    service.run(f"rm {dropins}/hosted.conf; {service.install}")
    assert service.run(f"ls {dropins}", check=False).stdout.split() == before
    assert service.pid != pid
    refused = service.run("curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:10800/status").stdout
    for gone in (f"{keys}/http.token", keys):  # first the file, then its folder too
        service.run(f"rm -r {gone} && systemctl restart satellite")
        assert service.words.startswith("ready")
    told = service.run("curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:10800/status").stdout
    assert (refused, told) == ("401", "200")
    assert service.run("systemctl show -P NeedDaemonReload satellite").stdout == "no\n"


def test_a_token_that_only_the_service_gets_is_believed(service: Machine, config: str) -> None:
    token, keys = "0123456789abcdef" * 2, "/etc/satellite/credentials"
    service.run(f"install -d -m 700 {keys} && echo {token} >{keys}/http.token && chmod 600 {keys}/http.token")
    service.run(f"echo 'http: {{host: 0.0.0.0}}' >>{config}")
    for user in ("", "setpriv --reuid satellite --regid satellite --clear-groups "):
        assert "configuration: good" in service.run(f"{user}satellite check").stdout
    service.run(f"{service.install} && systemctl restart satellite")
    ask = "curl -s -o /dev/null -w '%{http_code}' http://192.168.77.2:10800/status"
    assert service.run(f"{ask} -H 'Authorization: Bearer {token}'").stdout == "200"
    assert service.run(ask).stdout == "401"
    service.run(f"rm {keys}/http.token")
    assert "there is no token" in service.run("satellite check", check=False).stderr


def test_exactly_one_onnxruntime_is_there(service: Machine) -> None:
    listed = service.run("/opt/satellite/current/bin/python -m pip list --format freeze").stdout
    assert [line.split("==")[0] for line in listed.splitlines() if line.startswith("onnxruntime")] == ["onnxruntime"]


def test_cuda_that_is_demanded_and_absent_is_an_error(service: Machine, config: str) -> None:
    before = service.files
    refused = service.run(f"{service.install} --gpu cuda", check=False)
    assert "the NVIDIA driver is not there" in refused.stderr
    assert service.files ^ before == set()
    service.run(f"echo 'stt: {{device: cuda}}' >>{config}; systemctl restart satellite")
    assert service.words.startswith("degraded, without stt")
    told = service.run("journalctl -u satellite -o cat -p err SATELLITE_CODE=stt-not-ready").stdout
    assert "stt.device is cuda, but CTranslate2 sees no CUDA device" in told
    service.run(f"cp -p /srv/config.yaml {config}; systemctl restart satellite")

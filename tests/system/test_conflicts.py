"""What stands in the way of an installation, and who lies in wait for root: told at once, and nothing is left of it."""

import re

import pytest

from tests.system.machine import Machine

INSTALL = "sh /media/satellite/install.sh --offline /media/offline"
CONFIG = "/etc/satellite/config.yaml"
LISTEN = (
    "systemd-run -q --unit other python3 -m http.server {port} && "
    "until python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", {port}))'; do sleep 0.1; done"
)
PLANTED = "import os\nopen('/run/planted', 'a').write(f'{__name__} as {os.getuid()}')\nraise ImportError\n"
LONG_WORK = "into /opt/satellite"


@pytest.mark.parametrize(
    ("prepare", "cause", "remedy", "undo"),
    [
        (
            "useradd -m -u 1500 -s /bin/bash satellite",
            "a user satellite that does not belong to this service: ID 1500, home /home/satellite, shell /bin/bash",
            "usermod -l",
            "userdel -r satellite",
        ),
        (
            "useradd --system -d /var/lib/satellite -s /bin/bash satellite",
            "shell /bin/bash",
            "usermod -l",
            "userdel satellite",
        ),
        ("groupadd satellite", "a group satellite", "groupmod -n", "groupdel satellite"),
        (
            "printf '#!/bin/sh\\n' >/usr/local/bin/satellite",
            "there is another /usr/local/bin/satellite",
            "take it away",
            "rm /usr/local/bin/satellite",
        ),
        (
            "ln -s /usr/bin/true /usr/local/bin/satellite",
            "there is another /usr/local/bin/satellite",
            "take it away",
            "rm /usr/local/bin/satellite",
        ),
        (
            "printf '[Service]\\nExecStart=/bin/true\\n' >/etc/systemd/system/satellite.service",
            "there is another /etc/systemd/system/satellite.service",
            "take it away",
            "rm /etc/systemd/system/satellite.service",
        ),
        ("systemctl mask satellite", "is masked", "systemctl unmask satellite", "systemctl unmask satellite"),
        (
            "install -d -o nobody /opt/satellite",
            "/opt/satellite can be changed by other users: drwxr-xr-x nobody root",
            "chown root:root",
            "rm -r /opt/satellite",
        ),
        (
            "install -d -m 777 /etc/satellite",
            "/etc/satellite can be changed by other users",
            "chmod 755",
            "rm -r /etc/satellite",
        ),
        (
            "install -d -o nobody /var/lib/satellite",
            "/var/lib/satellite belongs to nobody",
            "move it away",
            "rm -r /var/lib/satellite",
        ),
        (LISTEN.format(port=10600), r"uses a port: 0\.0\.0\.0 port 10600 \(Address already", "ss -ltnp", "true"),
        (
            f"install -D -m 644 /dev/null {CONFIG}; echo 'wyoming: {{stt_port: 10301}}' >{CONFIG}; "
            + LISTEN.format(port=10301),
            r"uses a port: 0\.0\.0\.0 port 10301",
            "ss -ltnp",
            "rm -r /etc/satellite",
        ),
        (
            f"install -D -m 644 /dev/null {CONFIG}; echo 'log_level: loud' >{CONFIG}",
            rf"\[config-invalid\] {CONFIG}:1: log_level",
            f"fix {CONFIG}",
            "rm -r /etc/satellite",
        ),
        (
            f"install -D -o nobody -m 600 /dev/null {CONFIG}",
            rf"\[config-invalid\] {CONFIG}: cannot be read",
            f"fix {CONFIG}",
            "rm -r /etc/satellite",
        ),
        (
            "mkdir /opt/satellite && mount -t tmpfs -o size=300m,mode=755 tmpfs /opt/satellite",
            "only .* MB are free for /opt/satellite",
            "free 1500 MB",
            "umount /opt/satellite; rmdir /opt/satellite",
        ),
        (
            "mkdir /var/lib/satellite && mount -t tmpfs -o size=100m tmpfs /var/lib/satellite",
            "only .* MB are free for /var/lib/satellite",
            r"free \d+ MB",
            "umount /var/lib/satellite; rmdir /var/lib/satellite",
        ),
    ],
)
def test_what_is_in_the_way_is_told_before_the_long_work(
    machine: Machine, prepare: str, cause: str, remedy: str, undo: str
) -> None:
    machine.run(prepare)
    before = machine.files
    result = machine.run(INSTALL, check=False)
    left = machine.files ^ before
    machine.run(f"{undo}; systemctl stop other; systemctl daemon-reload", check=False)
    assert result.returncode == 1
    assert re.search(f"  cause:  .*{cause}(.|\n)*  remedy: .*{remedy}", result.stderr), result.stderr
    assert "could not undo" not in result.stderr
    assert LONG_WORK not in result.stdout
    assert left == set()


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        ('--prepare ""', "--prepare has an empty value"),
        ("--prepare wheels", "--prepare 'wheels' is not an absolute path"),
        ("--prepare /srv/../etc", "is not a plain path"),
        ("--prepare /etc", "/etc contains something else"),
        ("--prepare /", "/ contains something else"),
        ('--offline ""', "--offline has an empty value"),
        ("--offline media/offline", "is not an absolute path"),
        ("--offline /srv", "/srv was not made by --prepare"),
        ('--whisper ""', "--whisper has an empty value"),
        ("--whisper '../x;y'", "is not a model's name"),
        ("--voice --upgrade", "is not a model's name"),
        ("--prepare /srv/new --dry-run", "--dry-run with --prepare"),
    ],
)
def test_odd_values_are_refused(machine: Machine, arguments: str, cause: str) -> None:
    before = machine.files
    result = machine.run(f"cd /srv && sh /media/satellite/install.sh {arguments}", check=False)
    assert result.returncode == 1
    assert cause in result.stderr
    assert machine.files ^ before == set()


def test_what_was_prepared_for_another_machine_is_refused(machine: Machine) -> None:
    machine.run("cp -r /media/offline /srv/other")
    record = machine.run("cat /srv/other/prepared").stdout.strip()
    before = machine.files
    for content, cause in (
        (re.sub(r"^\S+", "3.99", record), "is for Python 3.99 on"),
        (re.sub(r"^(\S+) \S+", r"\1 sparc", record), "on sparc; here is Python 3"),
        (re.sub(r"\S+$", "0", record), "is for another version of satellite"),
        (record.replace("systemd", "mic"), "lacks the packages for 'systemd'"),
        ("", "was not made by --prepare"),
    ):
        machine.run(f"printf '%s\\n' '{content}' >/srv/other/prepared")
        result = machine.run("sh /media/satellite/install.sh --offline /srv/other", check=False)
        assert cause in result.stderr, result.stderr
    machine.run("chmod o+w /srv/other/wheels")
    result = machine.run("sh /media/satellite/install.sh --offline /srv/other", check=False)
    assert "everyone may write to files in /srv/other" in result.stderr
    machine.run("rm -r /srv/other")
    assert {
        line for line in machine.files ^ before if " /srv/other" not in f" {line}" and "/srv d" not in line
    } == set()


def test_root_runs_nothing_that_lies_about(machine: Machine) -> None:
    machine.run("mkdir -m 777 /srv/trap")
    names = ("ensurepip", "venv", "socket", "platform", "sitecustomize", "pip", "encodings", "satellite", "runpy", "os")
    for name in names:
        machine.run(f"cat >/srv/trap/{name}.py <<'PLANTED'\n{PLANTED}PLANTED")
    for name in ("python3", "find", "getent", "id", "apt-get", "setpriv", "systemctl", "tac"):
        machine.run(
            f"printf '#!/bin/sh\\necho %s >>/run/planted\\n' {name} >/srv/trap/{name}; chmod +x /srv/trap/{name}"
        )
    for arguments in (
        "--dry-run",
        "--dry-run --upgrade --whisper small.en",
        "--uninstall",
        "--uninstall --purge",
        "--prepare /srv/none",
        "--offline /media/offline --gpu cuda",
        "--offline /media/offline --whisper nothing",
    ):
        machine.run(
            f"cd /srv/trap && PIP_RETRIES=0 PATH=/srv/trap:.:$PATH PYTHONPATH=/srv/trap HOME=/srv/trap "
            f"PYTHONHOME=/srv/trap sh /media/satellite/install.sh {arguments}",
            check=False,
        )
    machine.run("rm -rf /srv/trap /srv/none")
    machine.run("! cat /run/planted")


@pytest.mark.parametrize("place", ["scripts/install-tools.sh", "satellite", "."])
def test_sources_that_everybody_may_change_are_not_run(machine: Machine, place: str) -> None:
    machine.run(f"cp -r /media/satellite /srv/clone && chmod o+w /srv/clone/{place}")
    result = machine.run("sh /srv/clone/install.sh --dry-run", check=False)
    machine.run("rm -r /srv/clone")
    assert "everyone may write to" in result.stderr
    assert "chmod -R o-w /srv/clone" in result.stderr


def test_a_configuration_of_root_alone_is_opened_to_the_daemon(machine: Machine) -> None:
    machine.run(f"umask 077; mkdir -p /etc/satellite; echo 'log_level: info' >{CONFIG}")
    before = machine.files
    machine.run(LISTEN.format(port=10600))
    result = machine.run(INSTALL, check=False)
    assert "letting the daemon read" in result.stdout
    assert "port 10600" in result.stderr
    assert machine.files ^ before == set()
    machine.run("systemctl stop other; rm -r /etc/satellite", check=False)


def test_two_at_once_are_refused(machine: Machine) -> None:
    machine.run("systemd-run -q --unit first flock /run/satellite-install.lock sleep inf")
    machine.until("! flock -n /run/satellite-install.lock true")
    result = machine.run(INSTALL, check=False)
    machine.run("systemctl stop first; systemctl reset-failed first", check=False)
    assert "it is already running" in result.stderr


def test_an_interruption_is_called_that(machine: Machine) -> None:
    before = machine.files
    machine.run(f"systemd-run -q --unit interrupted --collect -p KillMode=process sh -c 'exec {INSTALL}'")
    machine.until("pgrep -f '[r]eleases/.*pip install.*packages.txt'")
    machine.run("kill -INT $(systemctl show -P MainPID interrupted)")
    machine.until("! systemctl is-active interrupted")
    told = machine.run("journalctl -u interrupted -o cat").stdout
    assert re.search("error: installing .*\n  cause:  interrupted\n  remedy: run this again", told), told
    assert machine.files ^ before == set()
    machine.run("! pgrep -f '[o]pt/satellite'")


def test_what_was_killed_is_taken_back_by_the_next_run(machine: Machine) -> None:
    before = machine.files
    machine.run(f"systemd-run -q --unit killed --collect sh -c 'exec {INSTALL}'")
    machine.until("pgrep -f '[r]eleases/.*pip install.*packages.txt'")
    machine.run("systemctl kill -s KILL killed")
    machine.until("! systemctl is-active killed; ! pgrep -f '[o]pt/satellite'")
    assert machine.files ^ before != set()
    told = machine.run("sh /media/satellite/install.sh --uninstall").stdout
    assert "undoing an earlier run that was interrupted" in told
    assert machine.files ^ before == set()

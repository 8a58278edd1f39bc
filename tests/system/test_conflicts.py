"""What prevents an installation is reported before the long work, and leaves nothing; root runs nothing of others."""

import re

import pytest

from tests.system.machine import Machine

CONFIG = "/etc/satellite/config.yaml"
UNIT = "/etc/systemd/system/satellite.service"
LISTEN = (
    "systemd-run -q --unit other python3 -m http.server {port} && "
    "until python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", {port}))'; do sleep 0.1; done"
)
PLANTED = "import os\nopen('/run/planted', 'a').write(f'{__name__} as {os.getuid()}')\nraise ImportError\n"
LONG_WORK = "into /opt/satellite"
WRITE = f"install -D -m 644 /dev/null {CONFIG}; echo '{{text}}' >{CONFIG}"

CONFLICTS = {
    "user": (
        "useradd -m -u 1500 -s /bin/bash satellite",
        "a user satellite .*: ID 1500, home /home/satellite, shell /bin/bash\n.*usermod -l",
    ),
    "shell": ("useradd --system -d /var/lib/satellite -s /bin/bash satellite", "shell /bin/bash\n.*usermod -l"),
    "group": ("groupadd satellite", "a group satellite.*\n.*groupmod -n"),
    "command": (
        "echo '#!/bin/sh' >/usr/local/bin/satellite",
        "there is another /usr/local/bin/satellite\n.*move it away",
    ),
    "link": ("ln -s /usr/bin/true /usr/local/bin/satellite", "there is another /usr/local/bin/satellite\n"),
    "unit": (f"printf '[Service]\\nExecStart=/bin/true\\n' >{UNIT}", f"there is another {UNIT}\n.*move it away"),
    "mask": ("systemctl mask satellite", "is masked\n.*systemctl unmask satellite"),
    "program": (
        "install -d -o nobody /opt/satellite",
        "/opt/satellite can be changed by other users: drwxr-xr-x nobody root\n.*chown root:root",
    ),
    "settings": ("install -d -m 777 /etc/satellite", "/etc/satellite can be changed by other users.*\n.*chmod 755"),
    "state": ("install -d -o nobody /var/lib/satellite", "/var/lib/satellite belongs to nobody\n.*move it away"),
    "port": (LISTEN.format(port=10600), r"uses a port: 0\.0\.0\.0 port 10600 \(Address already.*\n.*ss -ltnp"),
    "configured port": (
        f"{WRITE.format(text='wyoming: {stt_port: 10301}')}; {LISTEN.format(port=10301)}",
        r"uses a port: 0\.0\.0\.0 port 10301",
    ),
    "mistake": (
        WRITE.format(text="log_level: loud"),
        rf"\[config-invalid\](.|\n)*{CONFIG}:1: log_level.*\n.*fix {CONFIG}",
    ),
    "unreadable": (
        f"install -D -o nobody -m 600 /dev/null {CONFIG}",
        rf"\[config-invalid\] {CONFIG}: cannot be read.*\n.*fix {CONFIG}",
    ),
    "full": (
        "mkdir /opt/satellite && mount -t tmpfs -o size=300m,mode=755 tmpfs /opt/satellite",
        "only .* MB are free for /opt/satellite\n.*free 1500 MB",
    ),
    "no room for models": (
        "mkdir /var/lib/satellite && mount -t tmpfs -o size=100m tmpfs /var/lib/satellite",
        r"only .* MB are free for /var/lib/satellite.*\n.*free \d+ MB",
    ),
}
"""What is done before, and the cause and the remedy that are printed."""

UNDO = f"""
systemctl stop other
umount -q /opt/satellite /var/lib/satellite
rm -rf /opt/satellite /etc/satellite /var/lib/satellite /usr/local/bin/satellite {UNIT}
userdel -r satellite || groupdel satellite
systemctl daemon-reload
"""


@pytest.mark.parametrize("conflict", CONFLICTS)
def test_a_conflict_is_reported_before_the_long_work(machine: Machine, conflict: str) -> None:
    prepare, message = CONFLICTS[conflict]
    machine.run(prepare)
    before = machine.files
    result = machine.run(machine.install, check=False)
    left = machine.files ^ before
    machine.run(UNDO, check=False)
    assert result.returncode == 1
    assert re.search(f"  cause:  .*{message}", result.stderr), result.stderr
    assert "could not undo" not in result.stderr
    assert LONG_WORK not in result.stdout
    assert left == set()


def test_odd_values_are_refused(machine: Machine) -> None:
    before = machine.files
    for arguments, cause in (
        ('--prepare ""', "--prepare has an empty value"),
        ("--prepare wheels", "--prepare 'wheels' is not an absolute path"),
        ("--prepare /srv/../etc", "is not a plain path"),
        ("--prepare /etc", "/etc contains something else"),
        ("--prepare /", "/ contains something else"),
        ("--offline media/offline", "is not an absolute path"),
        ("--offline /srv", "/srv was not made by --prepare"),
        ("--whisper '../x;y'", "is not a model's name"),
        ("--voice --upgrade", "is not a model's name"),
        ("--prepare /srv/new --dry-run", "--dry-run with --prepare"),
    ):
        result = machine.run(f"cd /srv && sh /media/satellite/install.sh {arguments}", check=False)
        assert result.returncode == 1
        assert cause in result.stderr
    assert machine.files ^ before == set()


def test_packages_prepared_for_another_machine_are_refused(machine: Machine) -> None:
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
    changed = {line.split()[0] for line in machine.files ^ before}
    assert {path for path in changed if not path.startswith("/srv")} == set()


def test_root_runs_nothing_of_the_current_folder_or_path(machine: Machine) -> None:
    for module in ("ensurepip", "venv", "socket", "platform", "sitecustomize", "pip", "encodings", "satellite", "os"):
        machine.write(f"/srv/trap/{module}.py", PLANTED)
    for program in ("python3", "find", "getent", "id", "apt-get", "setpriv", "systemctl", "tac"):
        machine.write(f"/srv/trap/{program}", f"#!/bin/sh\necho {program} >>/run/planted\n")
    machine.run("chmod 755 /srv/trap/*; chmod 777 /srv/trap")
    for arguments in (
        "--dry-run --upgrade --whisper small.en",
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
    machine.run("rm -rf /srv/trap /srv/none; ! cat /run/planted")


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
    result = machine.run(machine.install, check=False)
    machine.run("systemctl stop other")
    assert "letting the daemon read" in result.stdout
    assert "port 10600" in result.stderr  # so it could be read
    assert machine.files ^ before == set()
    machine.run("rm -r /etc/satellite")


def test_a_second_installer_at_the_same_time_is_refused(machine: Machine) -> None:
    machine.run("systemd-run -q --unit first flock /run/satellite-install.lock sleep inf")
    machine.until("! flock -n /run/satellite-install.lock true")
    result = machine.run(machine.install, check=False)
    machine.run("systemctl stop first; systemctl reset-failed first", check=False)
    assert "it is already running" in result.stderr


def test_an_interrupted_installation_leaves_nothing(machine: Machine) -> None:
    before = machine.files
    machine.run(f"systemd-run -q --unit interrupted --collect -p KillMode=process sh -c 'exec {machine.install}'")
    machine.until("pgrep -f '[r]eleases/.*pip install.*packages.txt'")
    machine.run("kill -INT $(systemctl show -P MainPID interrupted)")
    machine.until("! systemctl is-active interrupted")
    log = machine.run("journalctl -u interrupted -o cat").stdout
    assert re.search("error: installing .*\n  cause:  interrupted\n  remedy: run this again", log), log
    assert machine.files ^ before == set()
    machine.run("! pgrep -f '[o]pt/satellite'")


def test_the_next_run_undoes_one_that_was_killed(machine: Machine) -> None:
    before = machine.files
    machine.run(f"systemd-run -q --unit killed --collect sh -c 'exec {machine.install}'")
    machine.until("pgrep -f '[r]eleases/.*pip install.*packages.txt'")
    machine.run("systemctl kill -s KILL killed")
    machine.until("! systemctl is-active killed; ! pgrep -f '[o]pt/satellite'")
    assert machine.files ^ before != set()
    printed = machine.run("sh /media/satellite/install.sh --uninstall").stdout
    assert "undoing an earlier run that was interrupted" in printed
    assert machine.files ^ before == set()

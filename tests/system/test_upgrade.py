"""Upgrading, also to what does not work, and removing; the last of all."""

import re

import pytest

from tests.system.machine import Machine

STATE = "readlink /opt/satellite/current; ls /opt/satellite/releases; cat /etc/systemd/system/satellite.service"


@pytest.fixture
def newer(service: Machine) -> str:
    """What upgrades to sources that are a copy of these."""
    service.run("rm -rf /srv/newer && cp -r /media/satellite /srv/newer")
    return f"{service.install.replace('/media/satellite', '/srv/newer')} --upgrade"


def test_an_upgrade_that_fails_is_taken_back(service: Machine, newer: str) -> None:
    before = service.run(STATE).stdout
    service.run("echo 'raise SystemExit(3)' >>/srv/newer/satellite/daemon/serving.py")
    service.run("sed -i 's/^Description=.*/Description=broken/' /srv/newer/systemd/satellite.service")
    files = service.files
    assert "--upgrade" in service.run(newer.replace(" --upgrade", ""), check=False).stderr
    result = service.run(newer, check=False, seconds=400)
    assert result.returncode == 1
    assert "the daemon did not become ready" in result.stderr
    assert service.run(STATE).stdout == before
    assert service.files ^ files == set()
    service.until("satellite status")
    assert "Paris" in service.run("satellite ask 'What is the capital of France?'").stdout


def test_an_upgrade(service: Machine, newer: str) -> None:
    before = service.run("cksum /etc/satellite/config.yaml; ls -R /var/lib/satellite/models").stdout
    service.run("echo 'describe-name: v99.0' >/srv/newer/.git_archival.txt")
    old = service.run("satellite --version").stdout.split()[1]
    printed = service.run(newer, seconds=400).stdout
    new = service.status["version"]
    assert re.fullmatch(r"99\.0\+[0-9a-f]{8}", new)
    assert service.run("satellite --version").stdout == f"satellite {new}\n"
    assert f"upgraded: {old}-local-chat-systemd-cpu -> {new}-local-chat-systemd-cpu" in printed
    assert service.run("cksum /etc/satellite/config.yaml; ls -R /var/lib/satellite/models").stdout == before
    assert len(service.run("ls /opt/satellite/releases").stdout.split()) == 2


def test_what_was_stopped_and_disabled_stays_so(service: Machine, newer: str) -> None:
    service.run("systemctl disable --now satellite; echo '# another' >>/srv/newer/satellite/daemon/serving.py")
    printed = service.run(newer, seconds=400).stdout
    assert "it was stopped, and stays stopped" in printed
    assert "it was disabled, and stays disabled" in printed
    states = "systemctl show -P ActiveState -P UnitFileState satellite | tr '\\n' ' '"
    assert service.run(states).stdout.split() == ["inactive", "disabled"]
    assert "nothing was changed" in service.run(newer).stdout
    assert service.run(states).stdout.split() == ["inactive", "disabled"]
    service.run("systemctl enable --now satellite")
    assert service.shown("StatusText").startswith("ready")


def test_files_of_others_stay(service: Machine) -> None:
    others = "/opt/satellite/mine /opt/satellite/releases/mine /etc/satellite/notes"
    service.run(f"touch {others}; usermod -c other satellite")
    service.run("echo mine >/usr/local/share/zsh/site-functions/_satellite")
    printed = service.run("sh /media/satellite/install.sh --uninstall --purge").stdout
    for line in (
        "/opt/satellite stays",
        "/etc/satellite stays",
        "_satellite belongs to something else",
        "was not made by this installer, and stays",
    ):
        assert line in printed, printed
    service.run(f"ls {others} /usr/local/share/zsh/site-functions/_satellite; id satellite")
    service.run("! ls -d /etc/satellite/config.yaml /var/lib/satellite /opt/satellite/current /usr/local/bin/satellite")
    service.run(f"rm {others} /usr/local/share/zsh/site-functions/_satellite; userdel satellite")
    service.run("rmdir /opt/satellite/releases /opt/satellite /etc/satellite")
    service.run("rmdir /usr/local/share/zsh/site-functions /usr/local/share/zsh")


def test_files_of_another_program_of_that_name_stay(machine: Machine) -> None:
    foreign = "/etc/satellite/config.yaml /var/lib/satellite/data"
    machine.run(f"mkdir /etc/satellite /var/lib/satellite; touch {foreign}")
    machine.run("sh /media/satellite/install.sh --uninstall --purge")
    machine.run(f"ls {foreign}; rm -r /etc/satellite /var/lib/satellite")
    machine.run(machine.install, seconds=600)


def test_it_is_gone_without_a_trace(service: Machine) -> None:
    override = "/etc/systemd/system/satellite.service.d/override.conf"
    service.run(f"install -D -m 644 /dev/null {override}")
    service.run("sh /media/satellite/install.sh --uninstall")
    service.run(f"test -e /etc/satellite/config.yaml && test -e {override}")
    service.run("! systemctl cat satellite && ! ls -d /opt/satellite /usr/local/bin/satellite")
    service.run("sh /media/satellite/install.sh --uninstall --purge")
    service.run("! id satellite && ! ls -d /etc/satellite /var/lib/satellite && ! pgrep -f '[s]atellite/current'")
    assert "satellite" not in service.run("find /etc /opt /usr /var/lib -name '*satellite*'").stdout
    service.run("sh /media/satellite/install.sh --uninstall --purge")

"""Upgrading, also to what does not work, and removing; the last of all."""

import pytest

from tests.system.machine import Machine

STATE = "readlink /opt/satellite/current; ls /opt/satellite/releases; cat /etc/systemd/system/satellite.service"


@pytest.fixture
def newer(service: Machine) -> str:
    """What upgrades to sources that are a copy of these."""
    service.run("rm -rf /srv/newer && cp -r /media/satellite /srv/newer")
    return f"{service.install.replace('/media/satellite', '/srv/newer')} --upgrade"


def test_an_upgrade_that_fails_is_taken_back(service: Machine, newer: str) -> None:
    """The version that worked goes on, and nothing of the new one is left."""
    before = service.run(STATE).stdout
    service.run("echo 'raise SystemExit(3)' >>/srv/newer/satellite/serving.py")
    service.run("sed -i 's/^Description=.*/Description=broken/' /srv/newer/systemd/satellite.service")
    files = service.files
    assert "--upgrade" in service.run(newer.replace(" --upgrade", ""), check=False).stderr
    result = service.run(newer, check=False, seconds=400)
    assert result.returncode == 1
    assert "the daemon does not get ready" in result.stderr
    assert service.run(STATE).stdout == before
    assert service.files ^ files == set()
    service.until("satellite status")
    assert "Paris" in service.run("satellite ask 'What is the capital of France?'").stdout


def test_an_upgrade(service: Machine, newer: str) -> None:
    """The new version answers; configuration and models stay, and so does the release before, for a way back."""
    before = service.run("cksum /etc/satellite/config.yaml; ls -R /var/lib/satellite/models").stdout
    service.run("sed -i 's/^__version__ = .*/__version__ = \"99.0\"/' /srv/newer/satellite/__init__.py")
    service.run(newer, seconds=400)
    assert service.status["version"] == "99.0"
    assert service.run("cksum /etc/satellite/config.yaml; ls -R /var/lib/satellite/models").stdout == before
    assert len(service.run("ls /opt/satellite/releases").stdout.split()) == 2


def test_it_is_gone_without_a_trace(service: Machine) -> None:
    """First the service, then, when asked, everything; what an administrator added to the unit is configuration too."""
    override = "/etc/systemd/system/satellite.service.d/override.conf"
    service.run(f"install -D -m 644 /dev/null {override}")
    service.run("sh /media/satellite/install.sh --uninstall")
    service.run(f"test -e /etc/satellite/config.yaml && test -e {override}")
    service.run("! systemctl cat satellite && ! ls -d /opt/satellite /usr/local/bin/satellite")
    service.run("sh /media/satellite/install.sh --uninstall --purge")
    service.run("! id satellite && ! ls -d /etc/satellite /var/lib/satellite && ! pgrep -f '[s]atellite/current'")
    assert "satellite" not in service.run("find /etc /opt /usr /var/lib -name '*satellite*'").stdout
    service.run("sh /media/satellite/install.sh --uninstall --purge")

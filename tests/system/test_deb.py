"""The Debian package: built of the last commit on a bare Debian, installed, upgraded, removed and purged."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.machine import REPOSITORY, Machine

SUITE = os.environ.get("SUITE", "bookworm")


@pytest.fixture(scope="module")
def package() -> Path:
    """The package of the last commit; kept until there is another commit."""
    commit = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=REPOSITORY, text=True).strip()
    folder = Path(os.environ["SATELLITE_SYSTEM_TESTS"]) / "deb"
    if not (folder / commit).is_dir():
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run(["scripts/in-bare-debian", "make", "deb"], cwd=REPOSITORY, check=True, timeout=1500)
        shutil.copytree(REPOSITORY / ".cache" / "bare" / SUITE / "root" / "satellite" / "dist", folder / commit)
    (built,) = (folder / commit).glob("*.deb")
    return built


@pytest.fixture(scope="module")
def debian(offline: Path, package: Path) -> Iterator[Machine]:
    """A machine of its own, with the package in /srv and no service yet."""
    with Machine(Path(os.environ["SATELLITE_SYSTEM_TESTS"]) / "root", offline=offline) as booted:
        shutil.copy(package, booted.root / "srv" / "satellite.deb")
        yield booted


def test_it_is_not_installed_over_the_installers(debian: Machine) -> None:
    unit = "/etc/systemd/system/satellite.service"
    debian.run(f"touch {unit}")
    refused = debian.run("dpkg -i /srv/satellite.deb", check=False)
    assert "install.sh --uninstall" in refused.stderr
    debian.run(f"rm {unit}; dpkg --purge satellite-voice; ! ls -d /opt/satellite /etc/satellite")


def test_installed_it_serves(debian: Machine) -> None:
    told = debian.run("dpkg -i /srv/satellite.deb").stdout
    assert "satellite models pull configured" in told
    assert debian.run("systemctl is-enabled satellite").stdout == "enabled\n"
    pid = debian.pid
    debian.run("cp -r /media/offline/models /var/lib/satellite/ && chown -R satellite: /var/lib/satellite/models")
    debian.until("satellite status")
    assert debian.pid == pid
    assert "Paris" in debian.run("satellite ask 'What is the capital of France?'").stdout
    assert "there is another satellite.service" in debian.run("sh /media/satellite/install.sh", check=False).stderr


def test_its_files_are_where_debian_looks(debian: Machine) -> None:
    files = debian.run("dpkg -L satellite-voice").stdout.splitlines()
    assert {
        "/usr/bin/satellite",
        "/usr/share/man/man1/satellite.1.gz",
        "/usr/share/bash-completion/completions/satellite",
        "/usr/share/zsh/vendor-completions/_satellite",
        "/usr/share/fish/vendor_completions.d/satellite.fish",
        "/usr/lib/sysusers.d/satellite-voice.conf",
        "/usr/lib/tmpfiles.d/satellite-voice.conf",
        "/opt/satellite/current/share/satellite/systemd/hosted.conf",
    } <= set(files)
    assert "/etc/satellite/config.yaml" in debian.run("dpkg-query -W -f '${Conffiles}' satellite-voice").stdout
    assert debian.run("stat -c '%U %a' /etc/satellite/credentials").stdout == "root 700\n"
    assert debian.run("satellite --version").stdout.startswith("satellite ")


def test_an_upgrade_keeps_the_configuration(debian: Machine) -> None:
    debian.run("echo 'log_level: debug' >>/etc/satellite/config.yaml")
    pid = debian.pid
    debian.run(
        "dpkg-deb -R /srv/satellite.deb /srv/newer && sed -i 's/^Version: .*/Version: 99.0/' /srv/newer/DEBIAN/control"
    )
    debian.run("dpkg-deb --root-owner-group -Zgzip -z1 -b /srv/newer /srv/newer.deb && dpkg -i /srv/newer.deb")
    assert debian.run("dpkg-query -W -f '${Version}' satellite-voice").stdout == "99.0"
    assert "log_level: debug" in debian.run("cat /etc/satellite/config.yaml").stdout
    debian.until("satellite status")
    assert debian.pid != pid


def test_removed_it_leaves_what_is_the_households_and_purged_nothing(debian: Machine) -> None:
    debian.run("dpkg --remove satellite-voice")
    debian.run(
        "! systemctl cat satellite && ! ls -d /opt/satellite /usr/bin/satellite && ! pgrep -f '[s]atellite/current'"
    )
    debian.run("ls /etc/satellite/config.yaml /var/lib/satellite/models")
    debian.run("dpkg --purge satellite-voice && ! ls -d /etc/satellite /var/lib/satellite")
    left = debian.run("find /etc /usr /var/lib -name '*satellite*' ! -path '/var/lib/dpkg/*'").stdout
    assert left == ""

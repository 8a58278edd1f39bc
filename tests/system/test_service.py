"""The service on a real systemd, from the installation to the day it is removed; in this order."""

import json
import re
from typing import Any

import pytest

from tests.system.machine import Machine

INSTALL = "sh /media/satellite/install.sh --offline /media/offline"
CONFIG = "/etc/satellite/config.yaml"


def status(machine: Machine) -> dict[str, Any]:
    """Return what the daemon tells of itself."""
    described: dict[str, Any] = json.loads(machine.run("satellite status --json").stdout)
    return described


def words(machine: Machine) -> str:
    """Return the line in `systemctl status`."""
    return machine.run("systemctl show -P StatusText satellite").stdout.strip()


def pid(machine: Machine) -> str:
    """Return the daemon's process."""
    return machine.run("systemctl show -P MainPID satellite").stdout.strip()


def test_a_dry_run_does_nothing(machine: Machine) -> None:
    """It says what would be done."""
    told = machine.run(f"{INSTALL} --dry-run").stdout
    assert "would run: useradd" in told
    assert "nothing was changed" in told
    machine.run("! id satellite && ! ls -d /opt/satellite /etc/satellite /var/lib/satellite")


def test_a_failure_leaves_the_machine_as_it_was(machine: Machine) -> None:
    """The step, the cause and the remedy are named."""
    before = machine.run("getent passwd; find /etc /opt /var/lib -newer /etc/hostname -type f | sort").stdout
    result = machine.run("sh /media/satellite/install.sh --offline /nowhere", check=False)
    assert result.returncode == 1
    assert re.search(r"error: installing .*\n  cause:  pip .*\n  remedy: .*--prepare", result.stderr)
    machine.run("! id satellite && ! ls -d /opt/satellite /etc/satellite /var/lib/satellite")
    after = machine.run("getent passwd; find /etc /opt /var/lib -newer /etc/hostname -type f | sort").stdout
    assert after == before


def test_one_command_installs_it(machine: Machine) -> None:
    """Then it is ready, and one is told what to type into Home Assistant."""
    told = machine.run(INSTALL, seconds=300).stdout
    assert re.search(r"host \d+\.\d+\.\d+\.\d+ +port 10600", told)
    assert status(machine)["ready"]
    assert words(machine).startswith("ready · local smollm2-135m-instruct")
    assert words(machine).endswith("stt cpu")
    assert machine.run("systemctl is-enabled satellite").stdout == "enabled\n"


def test_a_second_time_it_changes_nothing(machine: Machine) -> None:
    """The daemon is not even restarted."""
    before = pid(machine)
    assert "nothing was changed" in machine.run(INSTALL).stdout
    assert pid(machine) == before


def test_the_engines_work_inside_the_sandbox(machine: Machine) -> None:
    """A question is answered, the answer is spoken, and its sound is understood."""
    assert "Paris" in machine.run("satellite ask 'What is the capital of France?'").stdout
    machine.run("satellite say 'What is the capital of France?' -o /tmp/question.wav")
    heard = json.loads(machine.run("satellite ask /tmp/question.wav -o /tmp/answer.wav --json").stdout)
    assert "capital of France" in heard["transcript"]
    assert heard["audio_seconds"] > 0.5
    assert all(stage["state"] in ("ready", "idle") for stage in status(machine)["stages"])


def test_the_doctor_finds_nothing(machine: Machine) -> None:
    """And when the daemon is down, it says so, and how to mend it."""
    assert "checks are good" in machine.run("satellite doctor").stdout
    machine.run("systemctl stop satellite")
    result = machine.run("satellite doctor --json", check=False)
    assert result.returncode == 1
    bad = [check for check in json.loads(result.stdout)["checks"] if check["state"] == "bad"]
    assert [(check["what"], check["remedy"].split(";")[0]) for check in bad] == [
        ("daemon", "systemctl start satellite")
    ]
    machine.run("systemctl start satellite")


def test_the_sandbox_is_tight(machine: Machine) -> None:
    """At most 1.5 by `systemd-analyze security`."""
    told = machine.run("systemd-analyze security satellite.service --no-pager").stdout
    score = re.search(r"exposure level for satellite.service: ([\d.]+)", told)
    assert score is not None
    assert float(score[1]) <= 1.5


def test_the_journal_has_fields(machine: Machine) -> None:
    """A run is found by its fields, with the right priority, and without what was said."""
    machine.run("satellite ask 'What is the capital of France?'")
    runs = machine.until(
        "journalctl -u satellite -o json SATELLITE_RUN=$(journalctl -u satellite -F SATELLITE_RUN -n 1 | head -1)"
    )
    record = json.loads(runs.splitlines()[-1])
    assert (record["PRIORITY"], record["SYSLOG_IDENTIFIER"]) == ("6", "satellite")
    assert int(record["SATELLITE_MS"]) >= 0
    everything = machine.run("journalctl -u satellite -o json").stdout
    assert "capital" not in everything
    assert "Paris" not in everything


def test_a_good_configuration_is_taken_without_a_restart(machine: Machine) -> None:
    """A new room is dialled, and what needs a restart is named."""
    before = pid(machine)
    machine.run(f"cp {CONFIG} /srv/config.yaml")
    room = "rooms: [{name: attic, uri: 'tcp://127.0.0.1:10799'}]"
    machine.run(f'echo "{room}" >>{CONFIG}; echo "stt: {{beam_size: 2}}" >>{CONFIG}; systemctl reload satellite')
    machine.until("systemctl show -P StatusText satellite | grep -q 'needs a restart: stt.beam_size'")
    assert [room["room"] for room in status(machine)["rooms"]] == ["attic"]
    assert "0 of 1 room" in words(machine)
    assert pid(machine) == before


def test_a_bad_configuration_is_refused(machine: Machine) -> None:
    """`systemctl reload` fails, the reason is in the journal and in the status, and the old one stays."""
    before = pid(machine)
    machine.run(f'echo "log_level: loud" >>{CONFIG}')
    assert machine.run("systemctl reload satellite", check=False).returncode != 0
    machine.until("systemctl show -P StatusText satellite | grep -q 'configuration refused: .*log_level'")
    machine.run("journalctl -u satellite -p err -o cat | grep -q 'refused, the old one stays.*log_level'")
    assert [room["room"] for room in status(machine)["rooms"]] == ["attic"]
    machine.run(f"cp /srv/config.yaml {CONFIG} && systemctl reload satellite")
    machine.until("! systemctl show -P StatusText satellite | grep -q configuration")
    assert status(machine)["rooms"] == []
    assert pid(machine) == before


@pytest.mark.parametrize(("signal", "seconds"), [("KILL", 60), ("STOP", 120)])
def test_it_comes_back(machine: Machine, signal: str, seconds: float) -> None:
    """After a crash, and when it hangs: the watchdog notices."""
    before = pid(machine)
    machine.run("systemctl reset-failed satellite")
    machine.run(f"kill -{signal} {before}")
    machine.until(f"test $(systemctl show -P MainPID satellite) != {before} && satellite status", seconds)
    assert words(machine).startswith("ready")
    if signal == "STOP":
        machine.run("journalctl -u satellite -o cat | grep -q 'Watchdog timeout'")


def test_it_stops_in_time(machine: Machine) -> None:
    """Politely, with status 0."""
    machine.run("systemctl stop satellite", seconds=15)
    assert machine.run("systemctl show -P Result satellite").stdout == "success\n"
    machine.run("systemctl start satellite")


def test_an_upgrade_that_fails_is_taken_back(machine: Machine) -> None:
    """The version that worked goes on, and nothing of the new one is left."""
    before = machine.run(
        "readlink /opt/satellite/current; ls /opt/satellite/releases; cat /etc/systemd/system/satellite.service"
    )
    machine.run("cp -r /media/satellite /srv/broken && echo 'raise SystemExit(3)' >>/srv/broken/satellite/serving.py")
    machine.run("sed -i 's/^Description=.*/Description=broken/' /srv/broken/systemd/satellite.service")
    broken = INSTALL.replace("/media/satellite", "/srv/broken")
    assert "--upgrade" in machine.run(broken, check=False).stderr
    result = machine.run(f"{broken} --upgrade", check=False, seconds=300)
    assert result.returncode == 1
    assert "the daemon does not get ready" in result.stderr
    after = machine.run(
        "readlink /opt/satellite/current; ls /opt/satellite/releases; cat /etc/systemd/system/satellite.service"
    )
    assert after.stdout == before.stdout
    assert status(machine)["ready"]


def test_an_upgrade(machine: Machine) -> None:
    """The new version answers; configuration and models stay."""
    machine.run("cp -r /media/satellite /srv/newer")
    machine.run("sed -i 's/^__version__ = .*/__version__ = \"99.0\"/' /srv/newer/satellite/__init__.py")
    machine.run(f"{INSTALL.replace('/media/satellite', '/srv/newer')} --upgrade", seconds=300)
    assert status(machine)["version"] == "99.0"
    machine.run(f"cmp {CONFIG} /srv/config.yaml")


def test_it_is_gone_without_a_trace(machine: Machine) -> None:
    """First the service, then, when asked, everything."""
    machine.run("sh /media/satellite/install.sh --uninstall")
    machine.run(f"test -e {CONFIG} && ! systemctl cat satellite && ! ls -d /opt/satellite /usr/local/bin/satellite")
    machine.run("sh /media/satellite/install.sh --uninstall --purge")
    machine.run("! id satellite && ! ls -d /etc/satellite /var/lib/satellite && ! pgrep -f '[s]atellite/current'")
    assert "satellite" not in machine.run("find /etc /opt /usr /var/lib -name '*satellite*'").stdout

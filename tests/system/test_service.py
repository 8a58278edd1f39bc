"""The service while it runs: its sandbox, the journal, a new configuration, crashes, hangs, and its end."""

import json
import re

from tests.system.machine import Machine

TALK = f'while :; do satellite say "{"This sentence takes its time to be spoken. " * 40}" -o /tmp/talk.wav; done'

DESCRIBE = """
import json, socket
with socket.create_connection(("127.0.0.1", 10600), 10) as peer:
    peer.sendall(json.dumps({"type": "describe"}).encode() + b"\\n")
    line = peer.makefile("rb").readline()
print(json.loads(line)["type"])
"""

TAB = """
. /usr/local/share/bash-completion/completions/satellite
COMP_WORDS=(satellite rooms mute "") COMP_CWORD=3
$(complete -p satellite | sed 's/.* -F \\([^ ]*\\) .*/\\1/') satellite
echo "${COMPREPLY[@]}"
"""
"""Press the key after `satellite rooms mute `."""

HOLD_BUSIEST_THREAD = """
import ctypes, os, pathlib, sys, time
ATTACH, ALL = 16, 0x40000000  # PTRACE_ATTACH, __WALL
process = sys.argv[1]
def used():
    tasks = [task for task in pathlib.Path(f"/proc/{process}/task").iterdir() if task.name != process]
    return {task.name: sum(map(int, (task / "stat").read_text().rpartition(")")[2].split()[11:13])) for task in tasks}
ticks = 0
while ticks < 5:  # of 100 a second: at work, also where other programs take most of the cores
    before = used()
    time.sleep(0.5)
    ticks, thread = max((now - before.get(name, now), name) for name, now in used().items())
assert ctypes.CDLL(None).ptrace(ATTACH, int(thread), None, None) == 0
os.waitpid(int(thread), ALL)
print("held", flush=True)
os.waitpid(int(thread), ALL)  # until it is killed
"""


def processes(machine: Machine) -> list[str]:
    """Return the numbers of the service's processes: the daemon, and espeak and the chat model beside it."""
    return machine.run("cat /sys/fs/cgroup$(systemctl show -P ControlGroup satellite)/cgroup.procs").stdout.split()


def test_a_question_is_answered(service: Machine) -> None:
    assert service.run(f"python3 -c '{DESCRIBE}'").stdout == "info\n"
    assert "Paris" in service.run("satellite ask 'What is the capital of France?'").stdout
    service.run("satellite say 'What is the capital of France?' -o /tmp/question.wav")
    heard = json.loads(service.run("satellite ask /tmp/question.wav -o /tmp/answer.wav --json").stdout)
    assert "capital of France" in heard["transcript"]
    assert heard["audio_seconds"] > 0.5
    assert all(stage["state"] in ("ready", "idle") for stage in service.status["stages"])
    service.run("! ls -d /var/lib/satellite/.cache")  # libraries keep nothing of their own, such as what they report


def test_the_doctor_finds_nothing(service: Machine) -> None:
    assert "checks are good" in service.run("satellite doctor").stdout
    service.run("systemctl stop satellite")
    result = service.run("satellite doctor --json", check=False)
    assert result.returncode == 1
    bad = [check for check in json.loads(result.stdout)["checks"] if check["state"] == "bad"]
    assert [(check["what"], check["remedy"].split(";")[0]) for check in bad] == [
        ("daemon", "systemctl start satellite")
    ]
    service.run("systemctl start satellite")


def test_the_sandbox_is_tight(service: Machine) -> None:
    analysis = service.run("systemd-analyze security satellite.service --no-pager").stdout
    score = re.search(r"exposure level for satellite.service: ([\d.]+)", analysis)
    assert score is not None
    assert float(score[1]) <= 1.5
    assert service.run("systemd-analyze verify /etc/systemd/system/satellite.service").stderr == ""
    assert "voice of the house" not in service.run("cat /proc/[0-9]*/cmdline | tr '\\0' ' '").stdout


def test_the_journal_has_fields(service: Machine) -> None:
    service.run("satellite ask 'What is the capital of France?'")
    run = service.until(
        "journalctl -u satellite -o json SATELLITE_MS=$(journalctl -u satellite -F SATELLITE_MS | head -1)"
    )
    record = json.loads(run.splitlines()[-1])
    assert (record["PRIORITY"], record["SYSLOG_IDENTIFIER"]) == ("6", "satellite")
    named = f"run {record['SATELLITE_RUN']} in {record['SATELLITE_ROOM']}: "
    assert re.fullmatch(f"{named}(done|cancelled) in {record['SATELLITE_MS']} ms .*", record["MESSAGE"])
    everything = service.run("journalctl -u satellite -o json").stdout
    assert "capital" not in everything
    assert "Paris" not in everything


def test_a_good_configuration_is_taken_without_a_restart(service: Machine, config: str) -> None:
    before = service.pid
    room = "rooms: [{name: attic, uri: 'tcp://127.0.0.1:10799'}]"
    service.run(f'echo "{room}" >>{config}; echo "stt: {{beam_size: 3}}" >>{config}; systemctl reload satellite')
    service.until("systemctl show -P StatusText satellite | grep -q 'needs a restart: stt.beam_size'")
    assert [room["room"] for room in service.status["rooms"]] == ["attic"]
    assert "0 of 1 room" in service.shown("StatusText")
    service.write("/srv/tab", TAB)
    anybody = "setpriv --reuid nobody --regid nogroup --clear-groups"  # who cannot read the configuration
    assert service.run(f"{anybody} bash /srv/tab").stdout == "attic\n"
    service.run(f'echo "log_level: loud" >>{config}')
    assert service.run("systemctl reload satellite", check=False).returncode != 0
    service.until("systemctl show -P StatusText satellite | grep -q 'configuration refused: .*log_level'")
    refused = "journalctl -u satellite -p err -o cat SATELLITE_CODE=config-invalid"
    service.run(f"{refused} | grep -q 'refused, the old one stays.*log_level'")
    service.run("systemctl status satellite | grep -q 'configuration refused'")
    assert [room["room"] for room in service.status["rooms"]] == ["attic"]
    service.run(f"cp -p /srv/config.yaml {config}; systemctl reload satellite")
    service.until("! systemctl show -P StatusText satellite | grep -q configuration")
    assert service.status["rooms"] == []
    assert service.pid == before


def test_it_comes_back_after_a_crash(service: Machine) -> None:
    before = service.pid
    service.run("systemctl reset-failed satellite")
    service.run(f"kill -SEGV {before}")
    service.until(f"test $(systemctl show -P MainPID satellite) != {before} && satellite status")
    assert service.shown("StatusText").startswith("ready")
    assert service.shown("LimitCORE") == "0"


def test_nothing_is_left_of_it_when_it_is_killed(service: Machine) -> None:
    service.run("satellite ask 'What is the capital of France?'")
    before, main = processes(service), service.pid
    assert int(service.run("pgrep -c -f '[e]speak_process'").stdout) >= 1
    assert len(before) > 1
    service.run(f"kill -KILL {main}")
    service.until(f"! ps -o pid=,args= -p {','.join(before)}")
    service.until("systemctl is-active satellite && satellite status")
    service.run("satellite say 'What is the capital of France?' -o /tmp/question.wav")


def test_an_espeak_that_is_killed_is_started_again(service: Machine) -> None:
    service.run("satellite say 'It is there.' -o /tmp/there.wav")
    before = service.pid
    espeak = service.run(f"pgrep -P {before} -f '[e]speak_process'").stdout.strip()
    service.run(f"kill -KILL {espeak}")
    service.run("satellite say 'What is the capital of Germany?' -o /tmp/question.wav")
    heard = json.loads(service.run("satellite ask /tmp/question.wav -o /tmp/answer.wav --json").stdout)
    assert "capital of Germany" in heard["transcript"]
    assert service.pid == before
    again = service.run(f"pgrep -P {before} -f '[e]speak_process'").stdout.split()
    assert len(again) == 1
    assert espeak not in again


def test_why_it_does_not_listen_is_in_the_journal(service: Machine) -> None:
    service.run("systemctl stop satellite; systemd-run -q --unit other python3 -m http.server 10300")
    service.until("python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", 10300))'")
    service.run("systemctl start --no-block satellite")
    service.until(
        "journalctl -u satellite -p err -o cat SATELLITE_CODE=cannot-listen"
        " | grep 'cannot listen on 0.0.0.0:10300: .*is another server running there?'"
    )
    restarts = service.shown("NRestarts")
    service.run("systemctl stop other")
    service.until("systemctl is-active satellite")
    service.until("python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", 10300))'")
    assert service.shown("NRestarts") == restarts


def test_restarting_it_often_locks_nobody_out(service: Machine) -> None:
    for _ in range(12):
        service.run("systemctl restart --no-block satellite; sleep 0.2")
    service.until("systemctl is-active satellite")
    service.run("mv /opt/satellite/current /opt/satellite/away; systemctl kill -s KILL satellite")
    service.until("test $(systemctl show -P NRestarts satellite) -ge 3")
    service.run("mv /opt/satellite/away /opt/satellite/current")
    service.until("systemctl is-active satellite && satellite status")


def test_it_comes_back_when_its_event_loop_hangs(service: Machine) -> None:
    before = service.pid
    service.run(f"kill -STOP {before}")
    service.until(f"test $(systemctl show -P MainPID satellite) != {before} && satellite status", 240)
    assert service.shown("StatusText").startswith("ready")
    service.run("journalctl -u satellite -o cat | grep -q 'Watchdog timeout'")


def test_it_comes_back_when_an_engine_hangs(service: Machine, config: str) -> None:
    before = service.pid
    limits = "deadlines: {load_seconds: 8, stt_seconds: 8, tts_seconds: 8}"
    service.run(f"echo '{limits}' >>{config} && systemctl reload satellite")
    service.run(f"systemd-run -q --unit talk -E HOME=/root sh -c '{TALK}'")
    service.run(f"systemd-run -q --unit hold python3 -c '{HOLD_BUSIEST_THREAD}' {before}")
    service.until("journalctl -u hold -o cat | grep -q held")
    service.until(
        f"journalctl -p err -o cat _PID={before} | grep -q 'tts has been busy with one call for .*: it hangs'"
    )
    assert service.run(f"python3 -c '{DESCRIBE}'").stdout == "info\n"
    service.until(f"test $(systemctl show -P MainPID satellite) != {before} && satellite status", 240)
    assert service.shown("StatusText").startswith("ready")
    service.run(f"journalctl -o cat _PID={before} | grep -q 'Fatal Python error: Aborted'")
    service.run("systemctl stop talk hold; systemctl reset-failed talk hold", check=False)


def test_it_stops_in_time(service: Machine) -> None:
    service.run(f"systemd-run -q --unit talk -E HOME=/root sh -c '{TALK}'; sleep 3")
    before = processes(service)
    service.run("systemctl stop satellite", seconds=15)
    assert service.shown("Result") == "success"
    assert service.run("journalctl -u satellite -o cat -n 3 SYSLOG_IDENTIFIER=satellite").stdout.endswith("stopped\n")
    service.run(f"! ps -o pid=,args= -p {','.join(before)}")
    service.run("! pgrep -f '[s]atellite/current' && ! pgrep -f '[l]lama_server'")
    service.run("systemctl stop talk; systemctl start satellite", check=False)


def test_a_second_signal_ends_it_at_once(service: Machine) -> None:
    before = service.pid
    service.run(f"kill -STOP {before} && kill -TERM {before} && kill -INT {before} && kill -CONT {before}")
    service.until(f"test $(systemctl show -P MainPID satellite) != {before} && satellite status")
    assert "second signal: exiting at once" in service.run(f"journalctl -o cat _PID={before}").stdout


def test_no_error_went_unforeseen(service: Machine) -> None:
    """After all that the tests above did to it."""
    journal = service.run("journalctl -u satellite -o cat").stdout
    assert "Traceback (most recent call last)" not in journal, journal[journal.index("Traceback") :][:3000]

"""The command line's help and its completion."""

import argparse
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from satellite.cli import room_names
from satellite.cli.arguments import SHELLS, parser
from satellite.cli.main import _COMMANDS, main
from satellite.config import loader
from satellite.wire.client import DEFAULT_URI
from tests.command_line import SATELLITE, free_port, satellite
from tests.waiting import PATIENCE_SECONDS


def commands(top: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    for action in top._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield command
                yield from commands(command)


@pytest.mark.parametrize("command", list(commands(parser())), ids=lambda command: str(command.prog))
def test_every_command_shows_an_example(command: argparse.ArgumentParser) -> None:
    _, *examples = (command.epilog or "").splitlines()
    assert examples
    for example in examples:
        words = shlex.split(re.split(r" (?:\||>|&&) ", example)[0])
        words = words[words.index("satellite") + 1 :]
        assert command.prog.split()[1] in words
        assert parser().parse_args(words).action == command.prog.split()[1]


def test_the_defaults_told_are_the_defaults() -> None:
    assert f"{loader.SYSTEM_CONFIG}, if it exists" in " ".join(parser().format_help().split())
    status = next(command for command in commands(parser()) if command.prog == "satellite status")
    assert DEFAULT_URI in " ".join(status.format_help().split())


def test_every_command_does_something() -> None:
    assert {command.prog.split()[1] for command in commands(parser())} == _COMMANDS.keys()


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_has_its_completion(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert all(word in script for word in ("announce", "doctor", "metrics", "discover", "satellite room-names"))


ROOMS = {"kitchen", r"living\ room", "office"}


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("sta", {"status"}),
        ("status --w", {"--watch"}),
        ("rooms d", {"discover", "devices"}),
        ("models p", {"pull", "path"}),
        ("say --output spoken", {"spoken.wav"}),
        *((f"rooms {action} ''", ROOMS) for action in ("forget", "ask", "stop", "mute", "volume", "play", "broadcast")),
        ("rooms call kitchen o", {"office"}),
        ("rooms ask kitchen o", set()),
        ("announce kitchen l", {r"living\ room"}),
        (r"rooms mute living\\\ r", {r"living\ room"}),
        (r"rooms mute \"liv", {"living room"}),
        ("announce kitchen --no", {"--no-chime"}),
        ("room-", set()),
    ],
)
def test_a_real_bash_completes(line: str, wanted: set[str], tmp_path: Path) -> None:
    (tmp_path / "spoken.wav").touch()
    (tmp_path / "config.yaml").write_text(
        f"microphone: default\nhost_room: {{name: office}}\nwyoming: {{port: {free_port()}}}\nrooms:\n"
        "  - {name: kitchen, uri: 'tcp://[::1]'}\n  - {name: living room}\n  - {name: [1]}\n"
    )
    program = tmp_path / "satellite"
    program.write_text(f'#!/bin/sh\nexec {shlex.join(SATELLITE)} --config "{tmp_path}/config.yaml" "$@"\n')
    program.chmod(0o755)
    press = (
        f"PATH={tmp_path}:$PATH; COMP_WORDS=(satellite {line}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); "
        "$(complete -p satellite | sed 's/.* -F \\([^ ]*\\) .*/\\1/') satellite; "
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    told = subprocess.run(
        ["bash", "--norc", "-c", f"{satellite('completion', 'bash').stdout}\n{press}"],
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE_SECONDS,
        cwd=tmp_path,
    ).stdout
    assert set(told.split("\n")) - {""} == wanted


@pytest.mark.parametrize(
    "configuration", ["", "rooms: 3", "rooms: [", "wyoming: {host: [], port: x}", "- a", "a: &a [*a]", "wyoming: 5"]
)
def test_the_names_of_rooms_never_fail(configuration: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(configuration)
    for file in ("config.yaml", "missing"):
        told = satellite("--config", str(tmp_path / file), "room-names")
        assert (told.returncode, told.stdout, told.stderr) == (0, "", "")
    assert room_names.SYSTEM_CONFIG == loader.SYSTEM_CONFIG

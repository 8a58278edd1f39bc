"""The command line's help and its completion."""

import argparse
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from satellite.cli.arguments import SHELLS, parser
from satellite.cli.main import _COMMANDS, main
from satellite.config import loader
from satellite.wire.client import DEFAULT_URI
from tests.command_line import satellite
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
    assert all(word in script for word in ("announce", "doctor", "metrics", "discover"))


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["sta"], {"status"}),
        (["status", "--w"], {"--watch"}),
        (["rooms", "d"], {"discover", "devices"}),
        (["models", "p"], {"pull", "path"}),
        (["say", "--output", "spoken"], {"spoken.wav"}),
    ],
)
def test_a_real_bash_completes(words: list[str], wanted: set[str], tmp_path: Path) -> None:
    script = satellite("completion", "bash").stdout
    (tmp_path / "spoken.wav").touch()
    line = ["satellite", *words]
    press = (
        f"COMP_WORDS=({' '.join(line)}); COMP_CWORD={len(line) - 1}; "
        f"$(complete -p satellite | sed 's/.* -F \\([^ ]*\\) .*/\\1/') satellite {line[-1]} {line[-2]}; "
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    told = subprocess.run(
        ["bash", "--norc", "-c", f"{script}\n{press}"],
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE_SECONDS,
        cwd=tmp_path,
    ).stdout
    assert set(told.split()) == wanted

"""Build step of the distribution: the manual page and the shells' completions, made from the command line's parser."""

import argparse
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_COMPLETIONS = {
    "bash": "bash-completion/completions/satellite",
    "zsh": "zsh/site-functions/_satellite",
    "fish": "fish/vendor_completions.d/satellite.fish",
}


class CustomBuildHook(BuildHookInterface[Any]):
    """Writes them to build/share, from where pyproject.toml takes them."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Make the files; an editable installation does without."""
        if version == "editable":
            return
        share = Path(self.root, "build", "share")
        for shell, target in _COMPLETIONS.items():
            command = [sys.executable, "-m", "satellite", "completion", shell]
            _write(share / target, subprocess.check_output(command, cwd=self.root, text=True))
        sys.path.insert(0, self.root)
        from satellite.cli.arguments import parser

        _write(share / "man/man1/satellite.1", "\n".join(_manual(parser(), self.metadata.version)) + "\n")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _manual(top: argparse.ArgumentParser, version: str) -> Iterator[str]:
    """Yield the lines of satellite(1), in roff."""
    yield f'.TH SATELLITE 1 "" "satellite {version}" "satellite manual"'
    yield from (".SH NAME", r"satellite \- a fast, private voice for the home")
    yield from (".SH SYNOPSIS", ".B satellite", r"[\fIOPTION\fR]... \fICOMMAND\fR [\fIARGUMENT\fR]...")
    yield from (".SH DESCRIPTION", *_paragraphs(top.description))
    yield ".SH OPTIONS"
    yield from _actions(top)
    yield ".SH COMMANDS"
    yield from _commands(top)
    yield from (".SH EXIT STATUS", *_paragraphs(top.epilog))
    yield from (
        ".SH FILES",
        ".TP",
        ".I /etc/satellite/config.yaml",
        "The configuration, unless --config names another.",
    )


def _commands(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Yield the commands below `parser`, and those below them."""
    for group in parser._actions:
        if isinstance(group, argparse._SubParsersAction):
            for listed in group._choices_actions:  # without the hidden ones
                command = group.choices[listed.dest]
                yield from (f".SS {_escape(command.prog)}", *_paragraphs(command.description))
                yield from _actions(command)
                yield from (".PP", ".nf", *map(_escape, (command.epilog or "").splitlines()), ".fi")
                yield from _commands(command)


def _actions(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Yield the options and arguments of `parser`, as its help has them."""
    formatter = parser._get_formatter()
    for action in parser._actions:
        if not isinstance(action, argparse._SubParsersAction | argparse._HelpAction):
            yield from (".TP", rf"\fB{_escape(formatter._format_action_invocation(action))}\fR")
            yield _escape(formatter._expand_help(action) if action.help else action.dest)


def _paragraphs(text: str | None) -> Iterator[str]:
    for paragraph in (text or "").split("\n\n"):
        yield from (".PP", *map(_escape, paragraph.splitlines()))


def _escape(text: str) -> str:
    text = text.replace("\\", r"\e").replace("-", r"\-")
    return r"\&" + text if text.startswith((".", "'")) else text

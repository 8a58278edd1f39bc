"""`satellite completion`: the completion scripts of the shells."""

import argparse
from pathlib import Path

import shtab

from satellite.cli.arguments import parser

_BASH = r"""
# $1: the word as it was typed, maybe with a quote or backslashes, which the completed one has too
_satellite_rooms() {
  local name word=$1 quote=
  case $word in
    [\"\']*) quote=${word:0:1} word=${word:1} ;;
    *) word=${word//\\/} ;;
  esac
  satellite room-names 2>/dev/null </dev/null | while IFS= read -r name; do
    [[ $name == "$word"* ]] || continue
    [[ $quote ]] || name=$(printf %q "$name")
    printf '%s\n' "$name"
  done
}
"""

_ZSH = """
_satellite_rooms() {
  local -a rooms=("${(@f)$(satellite room-names 2>/dev/null </dev/null)}")
  compadd "$@" -a rooms
}
"""

_ROOM = {
    "bash": "_satellite_rooms",
    "zsh": "_satellite_rooms",
    "fish": "(satellite room-names 2>/dev/null </dev/null)",
    "preamble": {"bash": _BASH, "zsh": _ZSH},
}


def run(args: argparse.Namespace) -> int:
    """Print the script for a shell; it completes files, folders and the names of rooms as such."""
    top = parser()
    _complete_values(top)
    script = shtab.complete(top, args.shell)
    # In zsh shtab takes an argument that may be given several times for one that may be missing.
    print(script.replace('"(*)::', '"*:') if args.shell == "zsh" else script)
    return 0


def _complete_values(command: argparse.ArgumentParser) -> None:
    several = False
    for action in command._actions:  # argparse has no public way to list them, and shtab does the same
        if isinstance(action, argparse._SubParsersAction):
            for name in action.choices:
                _complete_values(action.choices[name])
        elif several and not action.option_strings:  # no shell can know where it begins
            action.help = argparse.SUPPRESS
        elif action.metavar == "ROOM":
            several = action.nargs == "*"
            action.complete = _ROOM  # type: ignore[attr-defined]  # shtab reads it
        elif action.type is Path:
            action.complete = shtab.DIRECTORY if action.metavar == "DIR" else shtab.FILE  # type: ignore[attr-defined]

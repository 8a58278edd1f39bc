"""Build step of the distribution: the manual page and the shells' completions, made from the command line's parser."""

import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_TARGETS = {
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
        for shell, target in _TARGETS.items():
            _write(share / target, self._python("-m", "satellite", "completion", shell))
        manual = ("--module", "satellite.cli.arguments", "--function", "parser", "--format", "single-commands-section")
        about = (
            "--project-name",
            "satellite",
            "--version",
            self.metadata.version,
            "--manual-title",
            "satellite manual",
        )
        about += ("--description", "a fast, private voice for the home")
        _write(
            share / "man/man1/satellite.1",
            self._python("-c", "from argparse_manpage.cli import main; main()", *manual, *about),
        )

    def _python(self, *arguments: str) -> str:
        return subprocess.run(
            [sys.executable, *arguments], cwd=self.root, check=True, stdout=subprocess.PIPE, text=True
        ).stdout


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)

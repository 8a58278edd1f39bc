"""What the documentation says can be done, can be done: its links lead somewhere, its commands and settings exist."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from satellite.cli.arguments import parser
from satellite.config.loader import parse

ROOT = Path(__file__).parent.parent
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]


MENTIONED = (["say"], ["announce"], ["ask"], ["models"], ["completion"], ["models", "pull"])
"""What stands for a command without being one."""


def parses(words: list[str]) -> bool:
    """Return whether the command line takes `words`."""
    try:
        parser().parse_args(words)
    except SystemExit as end:
        return end.code in (0, None)  # such as --version
    return True


def commands(text: str) -> Iterator[list[str]]:
    """Yield the words behind `satellite` of every command in a page, in blocks and between backticks."""
    blocks = re.findall(r"^\$ (.*)", text, re.MULTILINE)
    inline = re.findall(r"`((?:sudo |\.venv/bin/)?satellite [a-z-][^`]*)`", text)
    for line in [*blocks, *inline]:
        for part in re.split(r"\s+(?:\\?\||&&|>)\s+|; |\s{2,}#", line):
            words = shlex.split(part, comments=True)
            while words and words[0] in ("sudo", "-u"):
                words = words[2 if words[0] == "-u" else 1 :]
            if words and words[0].rpartition("/")[2] == "satellite" and "…" not in part:
                yield words[1:]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Every one to a file beside it."""
    for target in re.findall(r"\]\((?!https?://)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_exist(page: Path) -> None:
    """The command line takes each as it stands there."""
    for words in commands(page.read_text()):
        assert words in MENTIONED or parses(words), words


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=lambda page: page.name)
def test_files_of_the_source_exist(page: Path) -> None:
    """Every Python file that is named, by its name alone or by its place in the package or the repository."""
    files = [file for folder in ("satellite", "tests", "bench", "scripts") for file in (ROOT / folder).rglob("*.py")]
    places = {str(file.relative_to(ROOT)) for file in files} | {"conftest.py", "hatch_build.py"}
    places |= {place.removeprefix("satellite/") for place in places} | {file.name for file in files}
    assert set(re.findall(r"(?<![\w./])(?:\w+/)*\w+\.py\b", page.read_text())) - places == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_settings_exist(page: Path) -> None:
    """Every block of configuration is one, together with those before it."""
    whole: dict[str, object] = {}
    for indent, text in re.findall(r"^( *)```yaml\n(.*?)```", page.read_text(), re.DOTALL | re.MULTILINE):
        whole |= yaml.safe_load(re.sub(rf"^{indent}", "", text, flags=re.MULTILINE))
        parse(yaml.safe_dump(whole))


def test_every_page_is_linked_from_the_first() -> None:
    """Nothing is written that nobody finds."""
    first = (ROOT / "README.md").read_text()
    assert all(f"](docs/{page.name})" in first for page in (ROOT / "docs").glob("*.md"))

"""The documentation is true: its links, commands, settings and files exist, its configurations are valid."""

import re
import shlex
import tomllib
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel, TypeAdapter

from satellite.cli.arguments import parser
from satellite.config.loader import parse
from satellite.config.settings import Config
from satellite.daemon.config_check import without_files

ROOT = Path(__file__).parent.parent
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("bench/*.md"))]
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
each_current_page = pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"])

PARSER = parser()

MENTIONED = (["say"], ["tune"], ["announce"], ["ask"], ["models"], ["completion"], ["models", "pull"])
"""Names of commands, without the arguments that they need."""

NOT_SETTINGS = {"chat.completions", "http.token", "home_assistant.token", "microphone.conf"}
"""What has a section's name before a dot and is something else, such as a credential."""

ODD_WORDS = r"\b(shall|amid|anew|mends?|mended|hush|hushed|mourn|whoever|lest|be it only)\b"
"""Words that plain technical English does without."""

LARGEST_PICTURE_BYTES = 150_000


@cache
def anchors(page: Path) -> frozenset[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    seen: Counter[str] = Counter()
    found = set()
    for heading in re.findall(r"^#+ +(.*)", text, re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", re.sub(r"\[(.*?)\]\(.*?\)", r"\1", heading).lower()).replace(" ", "-")
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return frozenset(found)


def parses(words: list[str]) -> bool:
    try:
        PARSER.parse_args(words)
    except SystemExit as end:
        return end.code in (0, None)  # such as --version
    return True


def command_lines(text: str) -> Iterator[str]:
    """Yield every line that a page tells its reader to type, in blocks and between backticks."""
    text = text.replace("\\\n", " ")
    yield from re.findall(r"^ *\$ (.*)", text, re.MULTILINE)
    for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
        yield from block.splitlines()
    yield from re.findall(
        r"`((?:sudo |\.venv/bin/)?(?:satellite [a-z-]|make [a-z]|(?:\./)?install\.sh --)[^`]*)`", text
    )


def commands(text: str) -> Iterator[list[str]]:
    """Yield the words of every simple command in a page, `sudo` and its user left out."""
    for line in command_lines(text):
        without_comment = re.split(r"\s{2,}#", line)[0]
        for part in re.split(r"\s+(?:\\?\||&&|>)\s+|; ", without_comment):
            words = shlex.split(part, comments=True)
            while words and words[0] in ("sudo", "-u"):
                words = words[2 if words[0] == "-u" else 1 :]
            if words and "…" not in part:
                yield [words[0].rpartition("/")[2], *words[1:]]


def setting_exists(name: str) -> bool:
    """Return whether `name`, such as `chat.max_tokens`, is a key of the configuration."""
    kinds: list[type[BaseModel]] = [Config]
    for key in name.split("."):
        fields = [kind.model_fields[key] for kind in kinds if key in kind.model_fields]
        if not fields:
            return False
        kinds = [model for field in fields for model in models(field.annotation)]
    return True


def models(kind: object) -> Iterator[type[BaseModel]]:
    """Yield the sections that a type consists of."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield kind
    for part in getattr(kind, "__args__", ()):
        yield from models(part)


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\((?!https?://)([^)#]*)#?([^)]*)\)", page.read_text()):
        there = page.parent / target if target else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), f"{target}#{anchor}"


@each_page
def test_commands_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    usage = (ROOT / "install.sh").read_text().partition("USAGE")[2].partition("\nUSAGE")[0]
    for program, *words in commands(page.read_text()):
        if program == "satellite":
            assert words in MENTIONED or parses(words), words
        elif program == "make":
            assert words[0] in targets, words
        elif program == "install.sh":
            options = {word.strip("[]") for word in words if word.strip("[]").startswith("--")}
            assert options <= {*re.findall(r"--[a-z-]+", usage), "--help"}, words


@each_current_page
def test_files_of_the_source_exist(page: Path) -> None:
    files = [file for folder in ("satellite", "tests", "bench", "scripts") for file in (ROOT / folder).rglob("*.py")]
    places = {str(file.relative_to(ROOT)) for file in files} | {"conftest.py", "hatch_build.py"}
    places |= {place.removeprefix("satellite/") for place in places} | {file.name for file in files}
    assert set(re.findall(r"(?<![\w./])(?:\w+/)*\w+\.py\b", page.read_text())) - places == set()
    for script in re.findall(r"(?<![\w/])scripts/[\w.-]*\w", page.read_text()):
        assert (ROOT / script).exists(), script


@each_page
def test_blocks_of_configuration_are_valid(page: Path) -> None:
    text = page.read_text()
    whole: dict[str, object] = {}
    for indent, block in re.findall(r"^( *)```yaml\n(.*?)```", text, re.DOTALL | re.MULTILINE):
        whole |= yaml.safe_load(re.sub(rf"^{indent}", "", block, flags=re.MULTILINE))
        parse(yaml.safe_dump(whole), check=without_files)
    for section in re.findall(r"`(\w+: \{[^`…]*\})`", text):
        for name, values in yaml.safe_load(section).items():
            if name in Config.model_fields:
                TypeAdapter(Config.__annotations__[name]).validate_python(values)


@each_current_page
def test_settings_exist(page: Path) -> None:
    for name in re.findall(r"`([a-z_]+(?:\.[a-z_]+)+)(?::[^`]*)?`", page.read_text()):
        if name.partition(".")[0] in Config.model_fields and name not in NOT_SETTINGS:
            assert setting_exists(name), name


def test_every_page_is_linked_from_the_first() -> None:
    first = (ROOT / "README.md").read_text()
    assert all(f"](docs/{page.name})" in first for page in (ROOT / "docs").glob("*.md"))


def test_figures_are_in_one_place() -> None:
    rows: Counter[str] = Counter()
    for page in PAGES:
        for line in re.findall(r"^\|.*\|$", page.read_text(), re.MULTILINE):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if sum(bool(re.match(r"\d", cell)) for cell in cells) >= 2:
                rows[" | ".join(cells)] += 1
    assert rows
    assert [row for row, count in rows.items() if count > 1] == []


def test_the_picture_is_small_and_sharp() -> None:
    content = (ROOT / "docs" / "dashboard.png").read_bytes()
    assert content.startswith(b"\x89PNG")
    assert len(content) < LARGEST_PICTURE_BYTES
    assert int.from_bytes(content[16:20]) >= 800  # its width


def test_names_of_the_architecture_exist() -> None:
    sources = {file: file.read_text() for file in (ROOT / "satellite").rglob("*.py")}
    for owner, name in re.findall(r"`([A-Za-z_]+)\.([a-z_]+)`", (ROOT / "ARCHITECTURE.md").read_text()):
        if name in ("py", "tflite") or owner in ("WhisperModel", *Config.model_fields):
            continue
        homes = [text for file, text in sources.items() if file.stem == owner or f"class {owner}" in text]
        assert any(re.search(rf"def {name}\b", text) for text in homes), f"{owner}.{name}"


def test_words_are_plain() -> None:
    files = [file for kind in ("*.py", "*.js", "*.html") for file in (ROOT / "satellite").rglob(kind)]
    files += [ROOT / "install.sh", ROOT / "config.yaml.example", *(ROOT / "scripts").glob("*.sh")]
    texts = {file: file.read_text() for file in (*files, *(ROOT / "systemd").iterdir())}
    texts |= {page: re.sub(r'["“`][^"”`]*["”`]', "", page.read_text()) for page in PAGES}  # without quotations
    odd = {str(file.relative_to(ROOT)) for file, text in texts.items() if re.search(ODD_WORDS, text, re.IGNORECASE)}
    assert odd == set()


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    needed = [*project["dependencies"], *extras["local-chat"], *extras["mic"], *extras["systemd"]]
    table = (ROOT / "ARCHITECTURE.md").read_text().partition("| package | why |\n| --- | --- |")[2].partition("\n\n")[0]
    named = ", ".join(re.findall(r"^\| ([^|(]+)", table, re.MULTILINE)).lower()
    assert {name.strip() for name in named.split(",")} == {re.split(r"[^\w.-]", one)[0].lower() for one in needed}

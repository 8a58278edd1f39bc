"""What is published: sdist and wheel, their version, and the lists of packages that they are installed with."""

import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent

UNPACKING: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
"""Debian 12's Python 3.11.2 has no filters yet; 3.12 warns where none is named."""
LISTS = ROOT / "requirements"
UNTRACKED = shutil.ignore_patterns(
    *(".git", ".venv", ".cache", "build", "dist", "__pycache__", ".*_cache", ".hypothesis", "_version.py")
)
SHARED = (
    "bash-completion/completions/satellite",
    "zsh/site-functions/_satellite",
    "fish/vendor_completions.d/satellite.fish",
    "man/man1/satellite.1",
)


class Built(NamedTuple):
    """A repository with the tag v9.8.7, and what was built of it."""

    repository: Path
    commit: str
    sdist: Path
    wheel: Path


def run(*command: str, folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def git(folder: Path, *arguments: str) -> str:
    return run("git", "-c", "user.name=test", "-c", "user.email=test@localhost", *arguments, folder=folder).strip()


def version_of(folder: Path) -> str:
    """Return the version that a build of the sources in `folder` would have."""
    return run(sys.executable, "-m", "hatchling", "version", folder=folder).strip()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Both distributions, as `python -m build` makes them of a tagged commit; the wheel comes out of the sdist."""
    repository = tmp_path_factory.mktemp("release") / "satellite"
    shutil.copytree(ROOT, repository, ignore=UNTRACKED)
    git(repository, "init", "--quiet")
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "--message", "Release")
    git(repository, "tag", "v9.8.7")
    run(sys.executable, "-m", "build", "--no-isolation", ".", folder=repository)
    sdist, wheel = sorted((repository / "dist").iterdir(), key=lambda path: path.suffix)
    return Built(repository, git(repository, "rev-parse", "HEAD"), sdist, wheel)


@pytest.mark.slow
def test_the_version_is_that_of_the_tag(built: Built) -> None:
    assert built.sdist.name == "satellite_voice-9.8.7.tar.gz"
    assert built.wheel.name == "satellite_voice-9.8.7-py3-none-any.whl"
    command = "from satellite.cli.arguments import parse; parse(['--version'])"
    printed = run(sys.executable, "-c", f"import sys; sys.path.insert(0, {str(built.wheel)!r})\n{command}", folder=ROOT)
    found = re.fullmatch(r"satellite 9\.8\.7 \(([0-9a-f]{7,})\)\n", printed)
    assert found, printed
    assert built.commit.startswith(found[1])


@pytest.mark.slow
def test_all_other_sources_have_a_version(built: Built, tmp_path: Path) -> None:
    clone, archive, copy = tmp_path / "clone", tmp_path / "archive", tmp_path / "copy"
    git(tmp_path, "clone", "--quiet", str(built.repository), str(clone))
    git(clone, "commit", "--quiet", "--allow-empty", "--message", "Go on")
    assert re.fullmatch(r"9\.8\.7\.post1\.dev1\+g[0-9a-f]{7,}", version_of(clone))
    git(built.repository, "archive", "--output", str(tmp_path / "archive.tar"), "v9.8.7")
    shutil.unpack_archive(tmp_path / "archive.tar", archive, **UNPACKING)
    assert version_of(archive) == "9.8.7"
    shutil.copytree(built.repository, copy, ignore=UNTRACKED)
    assert version_of(copy) == "0.0"


@pytest.mark.slow
def test_the_wheel_has_everything_that_runs(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as wheel:
        files = {re.sub(r"^[^/]+\.data/data/", "", name) for name in wheel.namelist()}
        page = next(wheel.read(name).decode() for name in wheel.namelist() if name.endswith("/satellite.1"))
        scripts = [wheel.read(name) for name in wheel.namelist() if name.endswith(SHARED[:3])]
    package = {
        str(path.relative_to(built.repository))
        for path in (built.repository / "satellite").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    units = {f"share/satellite/systemd/{path.name}" for path in (ROOT / "systemd").iterdir()}
    assert package | units | {f"share/{name}" for name in SHARED} <= files
    assert {"satellite/py.typed", "satellite/_version.py", "share/doc/satellite/config.yaml.example"} <= files
    assert not {name for name in files if name.startswith(("tests", "bench", "scripts"))}
    commands = [f"satellite {action}" for action in ("run", "check", "ask", "say", "rooms", "announce", "models pull")]
    assert [b"satellite room-names" in script for script in scripts] == 3 * [True]
    assert "room\\-names" not in page
    for text in (r"satellite \- ", '"satellite 9.8.7"', r"\-\-config", *commands):
        assert text in page


@pytest.mark.slow
def test_the_sdist_has_everything_that_the_repository_has(built: Built) -> None:
    tracked = set(git(built.repository, "ls-files").splitlines())
    with tarfile.open(built.sdist) as tar:
        modes = {member.name.partition("/")[2]: member.mode for member in tar if member.isfile()}
    assert {name for name in tracked if not name.startswith(".ci/")} <= modes.keys()
    assert {f"build/share/{name}" for name in SHARED} | {"satellite/_version.py", "PKG-INFO"} <= modes.keys()
    assert modes["install.sh"] & 0o111


@pytest.mark.slow
def test_tests_run_from_the_sdist(built: Built, tmp_path: Path) -> None:
    shutil.unpack_archive(built.sdist, tmp_path, **UNPACKING)
    folder = tmp_path / "satellite_voice-9.8.7"
    tests = [f"tests/test_{name}.py" for name in ("config", "docs", "layers", "scripts", "audio")]
    assert " passed" in run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests, folder=folder)
    assert version_of(folder) == "9.8.7"


def test_every_package_is_pinned_with_its_hashes() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = {"base": project["project"]["dependencies"], "build": project["build-system"]["requires"]}
    wanted |= project["project"]["optional-dependencies"]
    wanted["bench"] = tomllib.loads((ROOT / "bench" / "pyproject.toml").read_text())["project"]["dependencies"]
    base = pinned("base") | pinned("cpu")
    for use, lines in wanted.items():
        for requirement in map(Requirement, lines):
            if requirement.name == project["project"]["name"]:
                assert all(pinned(extra).items() <= pinned(use).items() for extra in requirement.extras)
                continue
            version = (base | pinned(use)).get(canonicalize_name(requirement.name))
            assert version, f"{requirement} is not in requirements/{use}.txt: run scripts/lock.py"
            assert requirement.specifier.contains(version), f"{requirement}: {version}"
    for path in LISTS.iterdir():
        text = path.read_text()
        assert "://" not in text
        assert all("--hash=sha256:" in pin for pin in re.findall(r"^\S+==(?:.*\\\n)*.*", text, re.MULTILINE))


def test_one_onnxruntime_is_installed_at_a_time() -> None:
    found = {path.stem: {"onnxruntime", "onnxruntime-gpu"} & pinned(path.stem).keys() for path in LISTS.iterdir()}
    assert {use: names for use, names in found.items() if names} == {"cpu": {"onnxruntime"}, "gpu": {"onnxruntime-gpu"}}


def pinned(use: str) -> dict[str, str]:
    return dict(re.findall(r"^(\S+)==([^ ;\\]+)", (LISTS / f"{use}.txt").read_text(), re.MULTILINE))

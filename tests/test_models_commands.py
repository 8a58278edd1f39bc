"""`satellite models` as people and programs see it: output, errors and exit statuses."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from satellite.cli.main import main
from satellite.cli.models import progress_bars
from satellite.models import catalogue
from satellite.models.spec import Kind
from satellite.models.store import Store
from tests.hub_server import WHISPER, HubServer
from tests.waiting import PATIENCE_SECONDS

Run = Callable[..., int]


@pytest.fixture(autouse=True)
def _whisper_base(hub: HubServer) -> None:
    hub.repositories = {"Systran/faster-whisper-base": WHISPER}


@pytest.fixture
def models(tmp_path: Path) -> Run:
    """Run `satellite models` with an empty folder and return the exit status."""

    def run(*words: str) -> int:
        file = tmp_path / "config.yaml"
        file.write_text(f"models: {{directory: {tmp_path}}}")
        return main(["--config", str(file), "models", *words])

    return run


def test_list_shows_the_demo_set_with_licences(models: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert models("list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + len(catalogue.DEMO)
    assert any("wake/openwakeword" in line and "CC BY-NC-SA 4.0" in line and " no " in line for line in lines)
    assert any("wake/microwakeword" in line and "Apache-2.0" in line and " yes " in line for line in lines)


def test_list_as_json_marks_what_is_here(models: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert models("pull", "stt/base") == 0
    capsys.readouterr()
    assert models("list", "--all", "--json") == 0
    listed = {f"{entry['kind']}/{entry['name']}": entry for entry in json.loads(capsys.readouterr().out)}
    assert len(listed) == sum(len(catalogue.names(kind)) for kind in Kind)
    base, tiny = listed["stt/base"], listed["stt/tiny.en"]
    assert Path(base["path"]).is_dir()
    assert (base["present"], base["size_is_exact"]) == (True, False)
    assert (tiny["present"], tiny["size_is_exact"], tiny["path"]) == (False, True, None)


def test_pull_then_path(models: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert models("pull", "base") == 0
    assert models("pull", "stt/base", "--json") == 0
    assert models("path", "stt/base") == 0
    output, errors = capsys.readouterr()
    folder = str(tmp_path / "stt" / "base")
    first, *middle, last = output.splitlines()
    assert first == f"stt/base: fetched, {folder}"
    assert json.loads("".join(middle)) == [{"model": "stt/base", "path": folder, "fetched": False}]
    assert last == folder
    assert errors == ""


def test_pull_repairs_what_is_damaged(models: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert models("pull", "base") == 0
    file = tmp_path / "stt" / "base" / "model.bin"
    for damaged, report in ((bytes(file.stat().st_size), "was damaged, fetched again"), (b"cut", "fetched")):
        file.write_bytes(damaged)
        capsys.readouterr()
        assert models("pull", "base") == 0
        assert capsys.readouterr().out.startswith(f"stt/base: {report}, ")
    assert models("pull", "base") == 0
    assert "already here, and sound" in capsys.readouterr().out


def test_bar_is_drawn_for_a_terminal_only() -> None:
    spec = catalogue.find(Kind.STT, "base")
    for terminal in (True, False):
        screen = io.StringIO()
        with progress_bars(Console(file=screen, force_terminal=terminal)) as progress:
            progress(spec, 50, 100)
            progress(spec, 100, 100)
        assert ("stt/base" in screen.getvalue()) is terminal
        assert bool(screen.getvalue()) is terminal


def test_pull_takes_the_folder_of_the_option(models: Run, tmp_path: Path) -> None:
    assert models("pull", "stt/base", "--directory", str(tmp_path / "other")) == 0
    assert Store(tmp_path / "other").installed()
    assert not Store(tmp_path).installed()


@pytest.mark.parametrize(
    ("words", "status", "error"),
    [
        (["pull", "stt/bsae"], 2, "error: [model-unknown] unknown stt model 'bsae'; did you mean 'base'"),
        (["path", "siwis"], 2, "error: [model-unknown] unknown model 'siwis'; did you mean 'fr_FR-siwis-low'"),
        (["path", "stt/base"], 1, "error: [model-missing] stt/base is not in "),
        (["pull", "stt/small"], 1, "error: [model-download-failed] cannot fetch Systran/faster-whisper-small from "),
    ],
)
def test_errors_are_one_line(
    models: Run, capsys: pytest.CaptureFixture[str], words: list[str], status: int, error: str
) -> None:
    assert models(*words) == status
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.startswith(error)
    assert errors.count("\n") == 1


def test_unknown_name_stops_a_pull_before_it_starts(hub: HubServer, models: Run) -> None:
    assert models("pull", "stt/base", "stt/bsae") == 2
    assert hub.requests == []


@pytest.mark.slow
def test_root_pulls_as_the_owner_of_the_folder(tmp_path: Path) -> None:
    owned = tmp_path / "models"
    owned.mkdir()
    if os.geteuid() == 0:
        os.chown(owned, 54321, 54322)
    code = (
        "import os, pathlib, sys; from satellite.cli.models import _become_owner; "
        "_become_owner(pathlib.Path(sys.argv[1])); print(os.getuid(), os.geteuid(), os.getegid(), os.getgroups())"
    )
    told = subprocess.run(
        [sys.executable, "-c", code, str(owned / "not" / "there")],
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE_SECONDS,
    ).stdout
    owner = owned.stat()
    assert told.startswith(f"{owner.st_uid} {owner.st_uid} {owner.st_gid} ")
    assert os.geteuid() != 0 or told == "54321 54321 54322 [54322]\n"

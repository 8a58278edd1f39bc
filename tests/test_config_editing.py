"""The configuration's file is changed as a whole, keeps owner and permissions, and is never left invalid."""

import os
import stat
from pathlib import Path

import pytest

from satellite.config.editing import check_editable, edit
from satellite.config.room_entries import with_room
from satellite.daemon import config_check
from satellite.errors import ConfigError

NOBODY = 65534


def added(name: str, file: Path) -> Path:
    return edit(file, lambda text: with_room(text, {"name": name, "uri": "tcp://192.0.2.1:1"}), config_check.check)


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
def test_owner_mode_and_link_stay_and_there_is_a_backup(tmp_path: Path, mode: int) -> None:
    file, link = tmp_path / "real.yaml", tmp_path / "config.yaml"
    file.write_bytes("# café\r\nlog_level: info\r\n".encode())
    file.chmod(mode)
    if os.geteuid() == 0:
        os.chown(file, NOBODY, NOBODY)
    link.symlink_to(file)
    before = file.read_bytes()
    assert added("kitchen", link).read_bytes() == before
    assert link.is_symlink()
    assert file.read_bytes().startswith(before)
    assert b"rooms:\r\n  - name: kitchen\r\n" in file.read_bytes()
    for one in (file, tmp_path / "real.yaml.bak"):
        assert stat.S_IMODE(one.stat().st_mode) == mode
        assert one.stat().st_uid in (NOBODY, os.geteuid())
    assert file.stat().st_uid == (NOBODY if os.geteuid() == 0 else os.geteuid())
    assert sorted(one.name for one in tmp_path.iterdir()) == ["config.yaml", "real.yaml", "real.yaml.bak"]


@pytest.mark.parametrize(
    "text", ["log_level: loud\n", "rooms: [{name: Kitchen, uri: 'tcp://b:1'}]\n", "a: [\n", "\xff"]
)
def test_a_content_that_the_loader_refuses_is_never_written(tmp_path: Path, text: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=str(file)):
        added("kitchen", file)
    assert file.read_bytes() == text.encode("latin-1")
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_that_is_missing_is_explained(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="satellite config --example"):
        check_editable(tmp_path / "config.yaml")


def test_a_failure_while_writing_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("log_level: info\n")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigError, match="No space left"):
        added("kitchen", file)
    assert file.read_text() == "log_level: info\n"
    assert list(tmp_path.iterdir()) == [file]

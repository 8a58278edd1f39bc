"""A minimal Debian in a folder, booted by systemd-nspawn: a real systemd, with cgroups and files of its own."""

import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parent.parent.parent

_PARTS = (
    *("install.sh", "scripts", "systemd", "pyproject.toml", "hatch_build.py", "requirements", "config.yaml.example"),
    *("README.md", "LICENSE", "satellite"),
)
"""What of the repository an installation needs."""

WITH_DOUBLES = "--setenv=PYTHONPATH=/media/doubles"
"""For `systemd-run`: lets Python import `tests.doubles`, which no installation has."""

_LEFT_OUT = (
    *("/proc", "/sys", "/dev", "/run", "/tmp", "/var/tmp", "/var/log", "/var/backups", "/var/lib/systemd", "/media"),
    "/etc/*-",
)
"""Folders that change by themselves, and the copies that useradd keeps of what it changes."""

_BOOT_SECONDS = 120
_INSIDE = "/usr/lib/systemd/systemd"

# A mount namespace of its own, so that nothing outlives the process: /run for nspawn's locks, which must be on a tmpfs,
# and cgroups of version 2, also on hosts that use version 1.
_BOOT = """
set -e
mount -t tmpfs tmpfs /run
umount -R /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir "/sys/fs/cgroup/$2"
echo $$ >"/sys/fs/cgroup/$2/cgroup.procs"
shift 2
exec systemd-nspawn --quiet --boot --register=no --keep-unit --console=pipe "$@"
"""


class Machine:
    """Use it as `with`; inside, it runs."""

    install = "sh /media/satellite/install.sh --offline /media/offline"
    """What installs the service."""

    def __init__(self, system: Path, *, offline: Path | None = None, index: bool = False) -> None:
        """Boot a copy of `system` with the sources, and the folder `offline`, in /media, and a network of its own.

        With `index` it has this machine's network instead, and this machine's way to a package index.
        """
        self._system = system
        self._offline = offline
        self._index = index
        self._pip = _pip_settings() if index else {}
        self._folder = Path(tempfile.mkdtemp(prefix="satellite-system-"))
        self.root = self._folder / "root"
        """Where its files are on this machine."""

        self._name = self._folder.name.replace("_", "-").rstrip("-")
        self._process: subprocess.Popen[bytes] | None = None
        self._leader = 0

    def __enter__(self) -> "Machine":
        try:
            self._boot()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            if self._leader:
                with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
                    subprocess.run(["kill", "-s", "RTMIN+4", str(self._leader)], check=False)  # systemd: power off
                    self._process.wait(30)
            self._process.kill()
            self._process.wait(30)
        _remove_cgroup(self._name)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _boot(self) -> None:
        subprocess.run(["cp", "-a", "--reflink=auto", str(self._system), str(self.root)], check=True)
        sources = self._folder / "sources"
        sources.mkdir()
        for part in _PARTS:
            if (REPOSITORY / part).is_dir():
                shutil.copytree(REPOSITORY / part, sources / part, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(REPOSITORY / part, sources / part)
        doubles = self._folder / "doubles"
        shutil.copytree(REPOSITORY / "tests" / "doubles", doubles / "tests" / "doubles")
        command = [str(self.root), self._name, f"--directory={self.root}", f"--machine={self._name}"]
        command += [f"--bind-ro={sources}:/media/satellite", f"--bind-ro={doubles}:/media/doubles"]
        if self._offline:
            command.append(f"--bind-ro={self._offline}:/media/offline")
        if self._index:
            command += [f"--bind-ro={one.resolve()}:{one}" for one in _shared(self._pip)]
            command.append("--resolv-conf=off")
        else:
            command.append("--private-network")
        with (self._folder / "console").open("wb") as console:
            self._process = subprocess.Popen(
                ["unshare", "--mount", "sh", "-c", _BOOT, "boot", *command],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
            )
        end = time.monotonic() + _BOOT_SECONDS
        while time.monotonic() < end:
            assert self._process.poll() is None, (self._folder / "console").read_text()
            self._leader = self._leader or _child(self._process.pid)
            if self._leader and self.run("systemctl is-system-running --wait", check=False).stdout.strip():
                if not self._index:
                    self.run("ip link add lan type veth peer name far && ip addr add 192.168.77.2/24 dev lan")
                    self.run("ip link set lan up && ip link set far up")
                return
            time.sleep(0.2)
        raise AssertionError("the machine did not boot")

    def run(self, command: str, *, check: bool = True, seconds: float = 180) -> subprocess.CompletedProcess[str]:
        result = subprocess.run(
            ["nsenter", "--target", str(self._leader), "--all", "--", "sh", "-c", f"cd / && {command}"],
            capture_output=True,
            text=True,
            timeout=seconds,
            stdin=subprocess.DEVNULL,
            env={"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "LANG": "C.UTF-8", **self._pip},
        )
        assert result.returncode == 0 or not check, f"{command}: {result.stdout}\n{result.stderr}"
        return result

    @property
    def status(self) -> dict[str, Any]:
        described: dict[str, Any] = json.loads(self.run("satellite status --json", check=False).stdout)
        return described

    def shown(self, name: str) -> str:
        """Return a property of the service in systemd."""
        return self.run(f"systemctl show -P {name} satellite").stdout.strip()

    @property
    def pid(self) -> str:
        return self.shown("MainPID")

    def write(self, path: str, text: str) -> None:
        (file := self.root / path.removeprefix("/")).parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    @property
    def files(self) -> frozenset[str]:
        """Everything on the disk, with kind, rights, owner and size, but what the system writes by itself."""
        left_out = " -o ".join(f"-path '{place}'" for place in _LEFT_OUT)
        found = self.run(f"find / -xdev \\( {left_out} \\) -prune -o -printf '%p %y %m %u:%g %s\\n'").stdout
        return frozenset(found.splitlines())

    def until(self, command: str, seconds: float = 120) -> str:
        """Run a command until it succeeds, and return what it prints."""
        end = time.monotonic() + seconds
        while True:
            result = self.run(command, check=False)
            if result.returncode == 0:
                return result.stdout.strip()
            assert time.monotonic() < end, f"{command}: {result.stdout}\n{result.stderr}"
            time.sleep(0.2)


def _pip_settings() -> dict[str, str]:
    """Return pip's settings on this machine, from files and variables, as variables."""
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
    settings = (line.partition("=") for line in reversed(listed.stdout.splitlines()))
    return {f"PIP_{name.rpartition('.')[2].upper().replace('-', '_')}": value.strip("'") for name, _, value in settings}


def _shared(pip: dict[str, str]) -> list[Path]:
    """Return the files and folders of this machine that pip needs: an index in a folder has its files beside it."""
    words = [word for value in pip.values() for word in value.split()]
    places = {Path(word.removeprefix("file://")).parent if word.startswith("file://") else Path(word) for word in words}
    places |= {Path("/etc/hosts"), Path("/etc/resolv.conf")}
    return sorted(place for place in places if place.is_absolute() and place.exists())


def _child(process: int) -> int:
    for below in _descendants(process):
        with contextlib.suppress(OSError):
            if Path(f"/proc/{below}/cmdline").read_bytes().split(b"\0")[0].decode() == _INSIDE:
                return below
    return 0


def _descendants(process: int) -> Iterator[int]:
    with contextlib.suppress(OSError):
        for child in Path(f"/proc/{process}/task/{process}/children").read_text().split():
            yield int(child)
            yield from _descendants(int(child))


def _remove_cgroup(name: str) -> None:
    """Remove the machine's cgroups, the innermost first; they are empty."""
    script = (
        "umount -R /sys/fs/cgroup; mount -t cgroup2 cgroup2 /sys/fs/cgroup; "
        'find "/sys/fs/cgroup/$0" -depth -type d -exec rmdir {} + 2>/dev/null'
    )
    subprocess.run(["unshare", "--mount", "sh", "-c", script, name], capture_output=True, check=False)

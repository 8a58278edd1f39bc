"""A minimal Debian in a folder, booted by systemd-nspawn: a real systemd, with cgroups and files of its own."""

import contextlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent.parent

_PARTS = (
    "install.sh",
    "scripts",
    "systemd",
    "pyproject.toml",
    "constraints.txt",
    "config.yaml.example",
    "README.md",
    "LICENSE",
    "satellite",
)
"""What of the repository an installation needs."""

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
exec systemd-nspawn --quiet --private-network --directory "$1" --machine "$2" --boot \
    --register=no --keep-unit --console=pipe --bind-ro "$3:/media/satellite" --bind-ro "$4:/media/offline"
"""


class Machine:
    """Use it as `with`; inside, it runs."""

    def __init__(self, cache: Path) -> None:
        """Boot a copy of `cache`/root, with the sources and `cache`/offline to be read."""
        self._cache = cache
        self._folder = Path(tempfile.mkdtemp(prefix="satellite-system-"))
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
        root = self._folder / "root"
        subprocess.run(["cp", "-a", "--reflink=auto", str(self._cache / "root"), str(root)], check=True)
        sources = self._folder / "sources"
        sources.mkdir()
        for part in _PARTS:
            if (REPOSITORY / part).is_dir():
                shutil.copytree(REPOSITORY / part, sources / part, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(REPOSITORY / part, sources / part)
        places = [str(root), self._name, str(sources), str(self._cache / "offline")]
        with (self._folder / "console").open("wb") as console:
            self._process = subprocess.Popen(
                ["unshare", "--mount", "sh", "-c", _BOOT, "boot", *places],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
            )
        end = time.monotonic() + _BOOT_SECONDS
        while time.monotonic() < end:
            assert self._process.poll() is None, (self._folder / "console").read_text()
            self._leader = self._leader or _child(self._process.pid)
            if self._leader and self.run("systemctl is-system-running --wait", check=False).stdout.strip():
                self.run("ip link add lan type veth peer name far && ip addr add 192.168.77.2/24 dev lan")
                self.run("ip link set lan up && ip link set far up")
                return
            time.sleep(0.2)
        raise AssertionError("the machine did not boot")

    def run(self, command: str, *, check: bool = True, seconds: float = 120) -> subprocess.CompletedProcess[str]:
        """Run a shell command as root inside."""
        result = subprocess.run(
            ["nsenter", "--target", str(self._leader), "--all", "--", "sh", "-c", f"cd / && {command}"],
            capture_output=True,
            text=True,
            timeout=seconds,
            stdin=subprocess.DEVNULL,
            env={"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "LANG": "C.UTF-8"},
        )
        assert result.returncode == 0 or not check, f"{command}: {result.stdout}\n{result.stderr}"
        return result

    def until(self, command: str, seconds: float = 60) -> str:
        """Run a command until it succeeds, and return what it prints."""
        end = time.monotonic() + seconds
        while True:
            result = self.run(command, check=False)
            if result.returncode == 0:
                return result.stdout.strip()
            assert time.monotonic() < end, f"{command}: {result.stdout}\n{result.stderr}"
            time.sleep(0.2)


def _child(process: int) -> int:
    """Return the systemd that was started below `process`, 0 while there is none."""
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

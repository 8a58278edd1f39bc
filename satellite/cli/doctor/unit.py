"""The systemd service, if it is installed on this machine: its user, its state, and the commands for it."""

import os
import pwd
import re
import shutil
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import satellite
from satellite.config.secrets import SERVICE_FOLDER, Secret
from satellite.config.settings import Config
from satellite.models.store import Store
from satellite.system.child_process import start

_UNITS = (Path("/etc/systemd/system/satellite.service"), Path("/usr/lib/systemd/system/satellite.service"))
"""Where install.sh and the Debian package install the unit."""

_SOURCES = Path("/opt/satellite/current/.sources")
"""The file in which install.sh records its own folder."""

_LISTEN = "0A"
_ERRORS_SHOWN = 3

TYPE_IT = "the command waits for it: paste it, then Enter and Ctrl-D"
"""How the commands of `put_secret` are completed."""

RESTART = "sudo systemctl restart satellite"


def installed() -> bool:
    """Return whether the service is installed."""
    return any(unit.exists() for unit in _UNITS)


def typed(remedy: str) -> str:
    """Return `remedy` as this user types it: without sudo for root, since a small system may not have it."""
    return re.sub(r"\bsudo (?=\S)", "", remedy) if os.geteuid() == 0 else remedy


def command(arguments: str, config: Path | None = None) -> str:
    """Return a `satellite` command as it is typed: with sudo for the service, else with the program of this process."""
    if config is None and installed():
        return f"sudo satellite {arguments}"
    own = "satellite" if shutil.which("satellite") else sys.argv[0]
    return f"{own} --config {config} {arguments}" if config else f"{own} {arguments}"


def installer(arguments: str) -> str:
    """Return the command that runs install.sh, or words where its folder is unknown."""
    folders = [Path(satellite.__file__).parent.parent]
    if _SOURCES.exists():
        folders.insert(0, Path(_SOURCES.read_text(encoding="utf-8").strip()))
    script = next((folder / "install.sh" for folder in folders if (folder / "install.sh").exists()), None)
    return f"sudo sh {script} {arguments}".strip() if script else f"in the sources: sudo ./install.sh {arguments}"


def log(arguments: str = "-n 20") -> str:
    """Return the command that shows the daemon's log."""
    return f"sudo journalctl -u satellite {arguments}" if installed() else "see what the daemon printed in its terminal"


def restart() -> str:
    """Return the command that restarts the daemon."""
    return RESTART if installed() else "stop the daemon, and start it again: satellite run"


@cache
def account() -> pwd.struct_passwd | None:
    """Return the user of the service, None where there is no service."""
    if not installed():
        return None
    try:
        return pwd.getpwnam("satellite")
    except KeyError:
        return None


def asks_as_service() -> bool:
    """Return whether this process can access files with the rights of the service."""
    return os.geteuid() == 0 and account() is not None


def is_stranger() -> bool:
    """Return whether there is a service whose files this user may not read."""
    own = account()
    return own is not None and os.geteuid() not in (0, own.pw_uid)


@contextmanager
def as_user(*, wanted: bool = True) -> Iterator[None]:
    """Switch root to the user of the service inside the `with`, so that files are accessed with the daemon's rights."""
    own = account()
    if own is None or os.geteuid() != 0 or not wanted:
        yield
        return
    groups, home = os.getgroups(), os.environ.get("HOME", "/root")
    # Groups first and the user last: without root's user ID the process may not change its groups any more.
    os.setgroups([own.pw_gid])
    os.setegid(own.pw_gid)
    os.seteuid(own.pw_uid)
    os.environ["HOME"] = own.pw_dir
    try:
        yield
    finally:
        # And back in reverse, for the same reason.
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)
        os.environ["HOME"] = home


def secret(find: Callable[[], Secret]) -> Secret:
    """Return what `find` finds in the service; root also searches the folder of systemd's credentials."""
    with as_user():
        found = find()
    if found.value or not asks_as_service() or not SERVICE_FOLDER.is_dir():
        return found
    # systemd gives a service copies of these files in a folder that it alone may read, so the originals are read here.
    os.environ["CREDENTIALS_DIRECTORY"] = str(SERVICE_FOLDER)
    try:
        return find()
    finally:
        del os.environ["CREDENTIALS_DIRECTORY"]


def put_secret(file: Path | None, credential: str) -> str:
    """Return the command that stores a key or a token, which it reads from standard input."""
    if file is not None:
        install = "sudo install -D -m 640 -g satellite" if installed() else "install -m 600"
        return f"{install} /dev/stdin {file}"
    return f"sudo install -D -m 600 /dev/stdin {SERVICE_FOLDER / credential}"


def store(config: Config) -> Store:
    """Return the daemon's models."""
    with as_user():
        return Store(config.models.directory)


def readable(folder: Path) -> str:
    """Return the command that lets the daemon read a folder and all that is in it."""
    if installed():
        return f"sudo chown -R satellite:satellite {folder} && sudo chmod -R u+rwX {folder}"
    return f"chmod -R u+rwX {folder}"


def listening() -> dict[int, set[int]]:
    """Return the TCP ports that are listened at on this machine, each with the IDs of the users who do."""
    found: dict[int, set[int]] = {}
    for sockets in _sockets().values():
        for port, user in sockets:
            found.setdefault(port, set()).add(user)
    return found


def _sockets() -> dict[str, list[tuple[int, int]]]:
    """Return the port and the user ID of each listening socket, by inode."""
    found: dict[str, list[tuple[int, int]]] = {}
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        if not table.exists():
            continue
        for line in table.read_text(encoding="ascii").splitlines()[1:]:
            fields = line.split()
            if fields[3] == _LISTEN:
                found.setdefault(fields[9], []).append((int(fields[1].rpartition(":")[2], 16), int(fields[7])))
    return found


def holder(port: int) -> tuple[str, str]:
    """Return which process listens at `port`, and the command that ends it; only root sees those of other users."""
    inodes = {f"socket:[{inode}]" for inode, ports in _sockets().items() if any(one == port for one, _ in ports)}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(str(file.readlink()) in inodes for file in (process / "fd").iterdir()):
                name = (process / "comm").read_text(encoding="utf-8").strip()
                unit = (process / "cgroup").read_text(encoding="utf-8").strip().rpartition("/")[2]
                end = f"sudo systemctl stop {unit}" if unit.endswith(".service") else f"sudo kill {process.name}"
                return f"{name} (process {process.name}) has it", end
        except OSError:  # it has just ended, or belongs to another user
            continue
    return "another program has it", "sudo satellite doctor" if os.geteuid() else f"ss -ltnp 'sport = :{port}'"


async def state() -> tuple[str, str]:
    """Return systemd's ActiveState of the service and its Result."""
    shown = await output("systemctl", "show", "--property", "ActiveState,Result", "satellite.service")
    properties = dict(line.partition("=")[::2] for line in shown.splitlines())
    return properties.get("ActiveState", ""), properties.get("Result", "")


async def last_errors() -> str:
    """Return the last errors in the journal since the service was started, in one line."""
    # Only of this start: errors of an earlier one may have been repaired since.
    since = await output("systemctl", "show", "--property", "InvocationID", "--value", "satellite.service")
    match = (f"_SYSTEMD_INVOCATION_ID={since}",) if since else ("-u", "satellite")
    lines = await output("journalctl", "-q", "-p", "err", "-n", str(_ERRORS_SHOWN), "-o", "cat", *match)
    return "; ".join(line.strip() for line in lines.splitlines()[-_ERRORS_SHOWN:] if line.strip())


async def output(*command: str) -> str:
    """Return what a program prints; empty where there is no such program."""
    try:
        process = await start(*command, stdout=PIPE, stderr=DEVNULL)
    except OSError:
        return ""
    try:
        return (await process.communicate())[0].decode(errors="replace").strip()
    finally:
        await process.end()

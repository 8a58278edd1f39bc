"""The steps of install.sh that are written in Python: `python -m satellite.cli.installing TASK ...`.

`defaults [KIND/NAME ...]` runs on a bare Python. All but `addresses` and `pull` need only the packages that read the
configuration.
"""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from satellite.net.proxies import without_proxies

if TYPE_CHECKING:
    import ollama

    from satellite.models.spec import ModelSpec
    from satellite.models.store import Store

_STARTING_SECONDS = 10.0
"""How long an Ollama that has just been started may take to answer."""


def main(arguments: list[str]) -> int:
    """Do one task and return the exit status: 0, or 1 with the reason printed."""
    task, *values = arguments
    if task == "defaults":
        return _defaults([value for value in values if value])
    tasks = {"addresses": _addresses, "ports": _ports, "models": _models, "room": _room, "pull": _pull}
    return tasks[task](*values)


def _addresses(config: str) -> int:
    """Print the addresses and the port at which the network sees the daemon."""
    from satellite.daemon.config_check import load
    from satellite.wire.discovery import current_addresses

    wyoming = load(Path(config)).wyoming
    addresses = current_addresses(wyoming.host).addresses
    for address in addresses:
        print(f"    host {address}   port {wyoming.port}")
    if not addresses:
        print(f"    port {wyoming.port}; this host has no address in a network yet")
    return 0


def _ports(config: str) -> int:
    """Print the daemon's addresses that another program uses; return 1 if there are any.

    An address that this host does not have (yet) is not printed: the daemon waits for it.
    """
    from satellite.daemon.config_check import load
    from satellite.net.binding import taken

    reasons = taken(load(Path(config)).listening())
    print(", ".join(reasons))
    return 1 if reasons else 0


def _models(config: str) -> int:
    """Print the models that the configuration names and that are not here, each with its size."""
    _, missing = _missing(config)
    _print_models(missing)
    return 0


def _room(config: str) -> int:
    """Print how many megabytes the missing models take while they are fetched, and their folder."""
    store, missing = _missing(config)
    # Wheels are unpacked after they were fetched: the largest model is there twice for a moment.
    packed = max((spec.wheel_bytes for spec in missing), default=0)
    print(round((sum(spec.size_bytes for spec in missing) + packed) / 1e6), store.directory)
    return 0


def _missing(config: str) -> "tuple[Store, list[ModelSpec]]":
    from satellite.daemon.config_check import load
    from satellite.models.spec import LocalSource, PackageSource
    from satellite.models.store import Store, wanted_models

    settings = load(Path(config))
    store = Store(settings.models.directory)
    wanted = [spec for spec in wanted_models(settings) if not isinstance(spec.source, LocalSource | PackageSource)]
    return store, [spec for spec in wanted if not store.present(spec)]


def _defaults(chosen: list[str]) -> int:
    """Print the models of a new configuration with the `chosen` ones, as `kind/name`."""
    from satellite.models import catalogue

    models = {spec.kind: spec for spec in catalogue.DEMO}
    _print_models(list((models | {(spec := catalogue.lookup(name)).kind: spec for name in chosen}).values()))
    return 0


def _print_models(specs: "list[ModelSpec]") -> None:
    from satellite.models.downloads import megabytes

    for spec in specs:
        print(f"    {spec.reference}   {megabytes(spec.size_bytes)}")


def _pull(name: str) -> int:
    """Let Ollama (of this machine, or $OLLAMA_HOST) fetch a model unless it has it, and print the progress."""
    with without_proxies():
        import ollama

    try:
        with ollama.Client(trust_env=False) as client:
            present = _known(client)
            if not {name, f"{name}:latest"} & present:
                for part in client.pull(name, stream=True):
                    _show(part.status or "", part.completed or 0, part.total or 0)
    except (ConnectionError, ollama.ResponseError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _known(client: "ollama.Client") -> set[str]:
    """Return the names of its models, once it answers; raises `ConnectionError` when it does not."""
    # install.sh has started its service a moment ago.
    deadline = time.monotonic() + _STARTING_SECONDS
    while True:
        try:
            return {str(model.model) for model in client.list().models}
        except ConnectionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def _show(doing: str, done: int, of: int) -> None:
    share = f" {100 * done // of} %" if of else ""
    if sys.stdout.isatty():
        print(f"\r\033[K    {doing}{share}", end="" if doing != "success" else "\n", flush=True)
    elif done == of:
        print(f"    {doing}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

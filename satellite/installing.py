"""What install.sh leaves to Python: `python -m satellite.installing addresses CONFIG | pull NAME`."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from satellite.proxies import without_proxies

if TYPE_CHECKING:
    import ollama

_STARTING_SECONDS = 10.0
"""How long an Ollama that was started just now may take to answer."""


def main(arguments: list[str]) -> int:
    """Do one of them and return the exit status: 0, or 1 with the reason on standard error."""
    task, value = arguments
    return {"addresses": _addresses, "pull": _pull}[task](value)


def _addresses(config: str) -> int:
    """Print under which addresses and port the network sees the daemon."""
    from satellite.configfile import load
    from satellite.wire.discovery import own_addresses

    wyoming = load(Path(config)).wyoming
    for address in own_addresses(wyoming.host) or wyoming.host:
        print(f"    host {address}   port {wyoming.port}")
    return 0


def _pull(name: str) -> int:
    """Let Ollama (of this machine, or $OLLAMA_HOST) fetch a model unless it has it, and print how far it is."""
    with without_proxies():
        import ollama

    client = ollama.Client(trust_env=False)
    try:
        present = _models(client)
        if not {name, f"{name}:latest"} & present:
            for part in client.pull(name, stream=True):
                _show(part.status or "", part.completed or 0, part.total or 0)
    except (ConnectionError, ollama.ResponseError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _models(client: "ollama.Client") -> set[str]:
    """Return the names of the models that it has, once it answers; raises `ConnectionError` when it does not."""
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

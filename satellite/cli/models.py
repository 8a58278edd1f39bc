"""`satellite models list | pull | path`: the actions."""

import argparse
import json
import os
import pwd
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from satellite.config.settings import Config
from satellite.models import catalogue
from satellite.models.demo_set import MICROWAKEWORD
from satellite.models.downloads import megabytes
from satellite.models.spec import Kind, ModelSpec
from satellite.models.store import Store, default_directory, wanted_models

_MANY_LANGUAGES = 7


def run(arguments: argparse.Namespace, config: Config) -> None:
    """Do what `arguments` ask; `--directory` wins over the configured folder. Raises `ModelError`."""
    store = Store(arguments.directory or config.models.directory or default_directory())
    actions = {"list": _list, "pull": _pull, "path": _path}
    if arguments.models_action == "pull":
        arguments.specs = [spec for name in arguments.names for spec in _named(name, config)]
    actions[arguments.models_action](store, arguments)


def _list(store: Store, arguments: argparse.Namespace) -> None:
    shown = {spec.reference: spec for spec in (*catalogue.DEMO, MICROWAKEWORD, *store.installed())}
    if arguments.all:
        everything = (catalogue.find(kind, name) for kind in Kind for name in catalogue.names(kind))
        shown |= {spec.reference: spec for spec in everything}
    order = list(Kind)
    specs = sorted(shown.values(), key=lambda spec: order.index(spec.kind))
    if arguments.json:
        print(json.dumps([_described(store, spec) for spec in specs], indent=2, ensure_ascii=False))
    else:
        _print_table(store, specs)


def _named(name: str, config: Config) -> Sequence[ModelSpec]:
    """Return what `name` stands for; raises `ModelError` for a name that does not exist."""
    if name == "demo":
        return catalogue.DEMO
    return wanted_models(config) if name == "configured" else [catalogue.lookup(name)]


def _pull(store: Store, arguments: argparse.Namespace) -> None:
    from satellite.cli.progress import TerminalProgress

    _become_owner(store.directory)
    results = []
    with TerminalProgress() as progress:
        for spec in arguments.specs:  # all names were looked up before the first byte is fetched
            before = store.seen(spec)
            damaged = store.present(spec)
            folder = store.pull(spec, progress)
            fetched = store.seen(spec) != before
            results.append({"model": spec.reference, "path": str(folder), "fetched": fetched})
            if not arguments.json:
                done = ("was damaged, fetched anew" if damaged else "fetched") if fetched else "already here, and sound"
                print(f"{spec.reference}: {done}, {folder}", flush=True)
    if arguments.json:
        print(json.dumps(results, indent=2, ensure_ascii=False))


def _become_owner(directory: Path) -> None:
    """Let root be the user to whom the folder belongs, for good.

    Root would follow whatever links that user put there, and leave files that the daemon may not read.
    """
    if os.geteuid() != 0:
        return
    while not directory.exists():
        directory = directory.parent
    owner = directory.stat()
    if owner.st_uid != 0:
        try:
            os.environ["HOME"] = pwd.getpwuid(owner.st_uid).pw_dir
        except KeyError:  # a user of another system, as in a container's volume
            os.environ["HOME"] = "/"
        os.setgroups([owner.st_gid])
        os.setgid(owner.st_gid)
        os.setuid(owner.st_uid)


def _path(store: Store, arguments: argparse.Namespace) -> None:
    spec = catalogue.lookup(arguments.name)
    folder = store.path(spec)
    if arguments.json:
        print(json.dumps({"model": spec.reference, "path": str(folder)}, ensure_ascii=False))
    else:
        print(folder)


def _described(store: Store, spec: ModelSpec) -> dict[str, Any]:
    present = store.present(spec)
    return {
        "kind": spec.kind,
        "name": spec.name,
        "description": spec.description,
        "licence": spec.licence,
        "languages": spec.languages,
        "size_bytes": spec.size_bytes or None,
        "size_is_exact": spec.size_is_exact,
        "source": spec.origin,
        "present": present,
        "path": str(store.path(spec)) if present else None,
    }


def _print_table(store: Store, specs: list[ModelSpec]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console.width = 200  # nothing is cut where a program or a file reads it
    table = Table(box=None, pad_edge=False)
    table.add_column("model", no_wrap=True)
    for heading in ("here", "size", "licence", "languages", "description"):
        table.add_column(heading)
    for spec in specs:
        about = "" if spec.size_is_exact else "~"
        table.add_row(
            spec.reference,
            "yes" if store.present(spec) else "no",
            about + megabytes(spec.size_bytes) if spec.size_bytes else "",
            spec.licence,
            f"{len(spec.languages)} languages" if len(spec.languages) > _MANY_LANGUAGES else " ".join(spec.languages),
            spec.description,
        )
    console.print(table)
    if console.is_terminal:
        console.print(f"\nin {store.directory}; `satellite models pull NAME` fetches one, `pull demo` the demo set")

"""`satellite models list | pull | path`."""

import argparse
import json
import os
import pwd
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich import progress
from rich.console import Console
from rich.table import Table

from satellite.config.settings import Config
from satellite.daemon import config_check
from satellite.models import catalogue
from satellite.models.demo_set import MICROWAKEWORD
from satellite.models.downloads import Progress, megabytes
from satellite.models.spec import Kind, ModelSpec
from satellite.models.store import Store, default_directory, wanted_models

_MANY_LANGUAGES = 7


def run(args: argparse.Namespace) -> int:
    """Do what the args ask; `--directory` wins over the configured folder. Raises `ModelError`."""
    config = config_check.load(args.config)
    store = Store(args.directory or config.models.directory or default_directory())
    match args.models_action:
        case "list":
            _list(store, args)
        case "pull":
            # All names are looked up before the first byte is fetched.
            _pull(store, [spec for name in args.names for spec in _named(name, config)], json_output=args.json)
        case "path":
            _path(store, args)
    return 0


@contextmanager
def progress_bars(console: Console | None = None) -> Iterator[Progress]:
    """Draw one bar a model on standard error, none where that is not a terminal.

    Yields what `Store.pull` takes as its progress.
    """
    console = console or Console(stderr=True)
    text, bar = progress.TextColumn("{task.description}"), progress.BarColumn()
    columns = (text, bar, progress.DownloadColumn(), progress.TimeRemainingColumn())
    tasks: dict[str, progress.TaskID] = {}
    with progress.Progress(*columns, console=console, disable=not console.is_terminal) as bars:

        def show(spec: ModelSpec, done_bytes: int, total_bytes: int) -> None:
            if spec.reference not in tasks:
                tasks[spec.reference] = bars.add_task(spec.reference, total=total_bytes)
            bars.update(tasks[spec.reference], completed=done_bytes, total=total_bytes)

        yield show


def pull_demo_models(store: Store, language: str, console: Console) -> None:
    """Fetch what the demo set of a language lacks, with a progress bar; raises `ModelError`."""
    missing = [spec for spec in catalogue.demo_set(language) if not store.present(spec)]
    if not missing:
        return
    console.print(f"fetching the demo models into {store.directory}")
    with progress_bars(console) as bars:
        for spec in missing:
            store.pull(spec, bars)


def _list(store: Store, args: argparse.Namespace) -> None:
    shown = {spec.reference: spec for spec in (*catalogue.DEMO, MICROWAKEWORD, *store.installed())}
    if args.all:
        everything = (catalogue.find(kind, name) for kind in Kind for name in catalogue.names(kind))
        shown |= {spec.reference: spec for spec in everything}
    order = list(Kind)
    specs = sorted(shown.values(), key=lambda spec: order.index(spec.kind))
    if args.json:
        print(json.dumps([_described(store, spec) for spec in specs], indent=2, ensure_ascii=False))
    else:
        _print_table(store, specs)


def _named(name: str, config: Config) -> Sequence[ModelSpec]:
    """Return the models that `name` means; raises `ModelError` for a name that does not exist."""
    if name == "demo":
        return catalogue.DEMO
    if name == "demo-fr":
        return catalogue.demo_set("fr")
    return wanted_models(config) if name == "configured" else [catalogue.lookup(name)]


def _pull(store: Store, specs: Sequence[ModelSpec], *, json_output: bool) -> None:
    _become_owner(store.directory)
    results = []
    with progress_bars() as bars:
        for spec in specs:
            # `pull` hashes what is there, so only a comparison shows whether it has replaced anything.
            before = store.seen(spec)
            damaged = store.present(spec)
            folder = store.pull(spec, bars)
            fetched = store.seen(spec) != before
            results.append({"model": spec.reference, "path": str(folder), "fetched": fetched})
            if not json_output:
                done = (
                    ("was damaged, fetched again" if damaged else "fetched") if fetched else "already here, and sound"
                )
                print(f"{spec.reference}: {done}, {folder}", flush=True)
                if "non-commercial" in spec.licence:
                    print(f"{spec.reference}: its licence is {spec.licence}", flush=True)
    if json_output:
        print(json.dumps(results, indent=2, ensure_ascii=False))


def _become_owner(directory: Path) -> None:
    """Turn root into the owner of the folder, until the process ends.

    As root it would follow whatever links that user has put there, and leave files that the daemon may not read.
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


def _path(store: Store, args: argparse.Namespace) -> None:
    spec = catalogue.lookup(args.name)
    folder = store.path(spec)
    if args.json:
        print(json.dumps({"model": spec.reference, "path": str(folder)}, ensure_ascii=False))
    else:
        print(folder)


def _described(store: Store, spec: ModelSpec) -> dict[str, object]:
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

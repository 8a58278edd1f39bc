"""The arguments of `satellite models list | pull | path`."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions of `satellite models` to its parser."""
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--json", action="store_true", help="print one JSON document")
    shared.add_argument("--directory", type=Path, metavar="DIR", help="folder of the models (default: as configured)")
    actions = parser.add_subparsers(dest="models_action", required=True, metavar="ACTION")

    def add(name: str, summary: str, example: str) -> argparse.ArgumentParser:
        epilog = f"example:\n  satellite models {example}"
        raw = argparse.RawDescriptionHelpFormatter
        return actions.add_parser(name, parents=[shared], help=summary, epilog=epilog, formatter_class=raw)

    listing = add("list", "show models, their licences and whether they are here", "list --all")
    listing.add_argument(
        "--all", action="store_true", help="the whole catalogue, not only the demo set and what is here"
    )

    pulling = add("pull", "fetch models", "pull stt/small.en tts/fr_FR-siwis-medium")
    pulling.add_argument(
        "names", nargs="+", metavar="NAME", help="kind/name, a name that only one kind has, `demo`, or `configured`"
    )

    where = add("path", "print the folder of a model that is here", "path stt/tiny.en")
    where.add_argument("name", metavar="NAME", help="kind/name, or a name that only one kind has")

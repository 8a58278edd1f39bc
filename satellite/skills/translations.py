"""Our own sentences in every language, and patterns of orders to the house, read from `translations.yaml`."""

import importlib.resources
from collections.abc import Mapping
from functools import cache

import yaml

from satellite.languages import in_language


@cache
def translations() -> Mapping[str, Mapping[str, str]]:
    """Return the texts of every language by their names."""
    file = importlib.resources.files("satellite.skills") / "translations.yaml"
    # libyaml takes 5 ms, the parser in Python 50 ms, which the first answer would wait for.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return dict(yaml.load(file.read_text(encoding="utf-8"), Loader=loader))  # both are safe loaders


def translated(name: str, language: str | None) -> str | None:
    """Return a text in a language such as `fr` or `fr_FR`; None where that language lacks it."""
    return (in_language(translations(), language) or {}).get(name)

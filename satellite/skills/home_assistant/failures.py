"""Why Home Assistant does not do what it is asked, and who hears so: only a person who gave an order."""

import re
from enum import StrEnum
from functools import cache

from satellite.errors import ChatError
from satellite.languages import in_language, translated_or_english, translations


class Failure(StrEnum):
    """The causes, as the status names them."""

    NO_TOKEN = "no-token"
    REFUSED = "refused"
    """It does not accept the token, or has banned this machine."""

    STARTING = "starting"
    UNREACHABLE = "unreachable"
    SILENT = "silent"
    """It accepted the question and did not answer in time."""

    FAILING = "failing"
    """It answers with an error, or with what is no answer of Home Assistant's."""

    UNABLE = "unable"
    """It works, but lacks an integration for this one thing; never a state of the connection."""


_CAUSES = {
    "chat-refused": Failure.REFUSED,
    "chat-not-ready": Failure.STARTING,
    "chat-unreachable": Failure.UNREACHABLE,
    "chat-timeout": Failure.SILENT,
}

_SENTENCES = {
    Failure.NO_TOKEN: "home_assistant_refused",
    Failure.REFUSED: "home_assistant_refused",
    Failure.STARTING: "home_assistant_starting",
    Failure.UNABLE: "home_assistant_unable",
}

_NEVER = r"(?!)"


def cause(error: ChatError) -> Failure:
    """Return what `error` means."""
    return _CAUSES.get(error.code, Failure.FAILING)


def sentence(failure: Failure, language: str | None) -> str:
    """Return what to say of a failure in a language such as `fr` or `fr_FR`; in English without a translation."""
    return translated_or_english(_SENTENCES.get(failure, "home_assistant_silent"), language)


def is_order(text: str, language: str | None) -> bool:
    """Return whether `text` orders something of the house, in a language such as `en_GB`, in any if it is None."""
    text = " ".join(text.replace(",", " ").split())
    if language is None:
        return any(order.match(text) for order in _orders().values())
    order = in_language(_orders(), language)
    return order is not None and order.match(text) is not None


@cache
def _orders() -> dict[str, re.Pattern[str]]:
    # Greedy parts are bounded, and the end is looked for from the last word boundary: time is linear in the text.
    return {
        language: re.compile(
            rf"(?:{texts.get('order_begins', _NEVER)})\b|(?:.*\W)?(?:{texts.get('order_ends', _NEVER)})\W*$",
            re.IGNORECASE,
        )
        for language, texts in translations().items()
    }

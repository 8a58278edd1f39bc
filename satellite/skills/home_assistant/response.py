"""What Home Assistant returned for a sentence: something to say, or that it is a question for the chat model."""

import html
import re
from dataclasses import dataclass

from satellite.skills.home_assistant.failures import Failure, is_order, sentence

_FAILURES = ("failed_to_handle", "unknown")
_NO_TARGETS = "no_valid_targets"
_UNSPEAKABLE = re.compile(r"(?:Unknown intent|Error handling) \w+$")
"""Texts meant for its log, but sent as speech: it understood something for which it has no integration."""

_TAG = re.compile(r"<[^>]*>")


@dataclass(frozen=True, slots=True)
class ConversationResult:
    """The result of one sentence."""

    speech: str
    error: str | None
    """Home Assistant's code for why it was not done or answered; None if it was."""

    conversation: str | None
    """Home Assistant's name for the conversation."""

    @property
    def is_unspeakable(self) -> bool:
        """Whether it failed, with a text that is meant for a log."""
        return self.error is not None and _UNSPEAKABLE.match(self.speech) is not None


def parsed(document: object) -> ConversationResult | None:
    """Return the result in what `/api/conversation/process` sent; None if it is something else."""
    if not isinstance(document, dict) or not isinstance(response := document.get("response"), dict):
        return None
    error: str | None = None
    # `error` is also how questions that are not understood come back.
    if response.get("response_type") == "error":
        data = response.get("data")
        error = str(data.get("code")) if isinstance(data, dict) else "unknown"
    elif response.get("response_type") not in ("action_done", "query_answer"):
        return None
    conversation = document.get("conversation_id")
    return ConversationResult(
        _spoken(response.get("speech")), error, conversation if isinstance(conversation, str) else None
    )


def what_to_say(result: ConversationResult, text: str, language: str | None) -> str | None:
    """Return what to say to the sentence `text`; None if Home Assistant has not understood it.

    Silence is an answer where something was done, and none where something failed.
    """
    if result.error is None:
        return result.speech
    if not result.speech:
        return None
    if result.is_unspeakable:
        return sentence(Failure.UNABLE, language)
    # Home Assistant takes most questions about the world for questions about a device: "there is no such device" is
    # an answer to an order only.
    if result.error in _FAILURES or (result.error == _NO_TARGETS and is_order(text, language)):
        return result.speech
    return None


def _spoken(speech: object) -> str:
    """Return the text to speak: `plain` if there is one, else `ssml` without its tags."""
    said = {}
    for kind, form in (speech if isinstance(speech, dict) else {}).items():
        words = form.get("speech") if isinstance(form, dict) else None
        said[kind] = words if isinstance(words, str) else ""
    plain = said.get("plain", "").strip()
    return plain or html.unescape(" ".join(_TAG.sub(" ", said.get("ssml", "")).split()))

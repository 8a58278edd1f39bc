"""What an answer of Home Assistant means: something to say, or that somebody else should answer."""

import html
import re
from dataclasses import dataclass
from typing import Any

from satellite.skills.home_assistant.orders import is_order
from satellite.skills.home_assistant.problems import Trouble, sentence

_FAILURES = ("failed_to_handle", "unknown")
_NO_TARGETS = "no_valid_targets"
_UNSPEAKABLE = re.compile(r"(?:Unknown intent|Error handling) \w+$")
"""What Home Assistant means for its log, but sends: it has understood something that it has no integration for."""

_TAG = re.compile(r"<[^>]*>")


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer to a sentence."""

    speech: str
    error: str | None
    """The code of what kept it from being done or answered; None if it was."""

    conversation: str | None
    """Home Assistant's name for the conversation."""

    @property
    def is_unspeakable(self) -> bool:
        """Whether it could not be done, and the words are those of a log."""
        return self.error is not None and _UNSPEAKABLE.match(self.speech) is not None


def parsed(document: Any) -> Answer | None:
    """Return the answer in what `/api/conversation/process` sent; None if it is something else."""
    response = document.get("response") if isinstance(document, dict) else None
    if not isinstance(response, dict):
        return None
    error: str | None = None
    if response.get("response_type") == "error":
        data = response.get("data")
        error = str(data.get("code")) if isinstance(data, dict) else "unknown"
    elif response.get("response_type") not in ("action_done", "query_answer"):
        return None
    conversation = document.get("conversation_id")
    return Answer(_spoken(response.get("speech")), error, conversation if isinstance(conversation, str) else None)


def what_to_say(answer: Answer, text: str, language: str | None) -> str | None:
    """Return what to say to the sentence `text`; None if Home Assistant has not understood it.

    Silence is an answer where something was done, and none where something failed. "There is no such device" is said
    to an order alone: of most questions about the world, Home Assistant thinks that they are about a device.
    """
    if answer.error is None:
        return answer.speech
    if not answer.speech:
        return None
    if answer.is_unspeakable:
        return sentence(Trouble.UNABLE, language)
    if answer.error in _FAILURES or (answer.error == _NO_TARGETS and is_order(text, language)):
        return answer.speech
    return None


def _spoken(speech: Any) -> str:
    """Return the words: `plain` where there are any, else `ssml` without its tags."""
    said = {}
    for kind, form in (speech if isinstance(speech, dict) else {}).items():
        words = form.get("speech") if isinstance(form, dict) else None
        said[kind] = words if isinstance(words, str) else ""
    plain = said.get("plain", "").strip()
    return plain or html.unescape(" ".join(_TAG.sub(" ", said.get("ssml", "")).split()))

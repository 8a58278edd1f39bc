"""What a chat provider's states are called, and what each means: one table for the status, the pages and the doctor."""

from dataclasses import dataclass
from enum import StrEnum

from satellite.errors import ChatError


class Tone(StrEnum):
    """What a state means for the next question."""

    GOOD = "good"
    """It is answered at once."""

    WAIT = "wait"
    """It is answered, or soon will be; nothing is wrong that does not mend itself."""

    BAD = "bad"
    """It is not answered, or badly, until somebody does something."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """What there is to know of a state."""

    tone: Tone
    words: str
    """For people, who see more of it in what a provider says of itself."""


MEANINGS = {
    "ready": Meaning(Tone.GOOD, "it answers"),
    "warm": Meaning(Tone.GOOD, "the model is loaded, to stay, and has read the beginning of the prompt"),
    "released": Meaning(Tone.GOOD, "unloaded until it is needed, as keepalive.when says"),
    "other-name": Meaning(Tone.GOOD, "it answers, and Ollama lists it under the name of a model that shares its file"),
    "on-cpu": Meaning(Tone.WAIT, "it answers, on the CPU, though there is a GPU"),
    "unknown": Meaning(Tone.WAIT, "it has not been looked at yet"),
    "not-loaded": Meaning(Tone.WAIT, "it is not loaded yet"),
    "loading": Meaning(Tone.WAIT, "the model is being loaded"),
    "unloaded": Meaning(Tone.WAIT, "another client has unloaded the model, or is loading it differently"),
    "other-context": Meaning(Tone.WAIT, "another client has loaded the model with a shorter context than num_ctx"),
    "foreign-keep-alive": Meaning(Tone.WAIT, "another client has set an end to the model's stay"),
    "partly-on-cpu": Meaning(Tone.WAIT, "part of the model does not fit on the GPU, and is slow"),
    "runner-died": Meaning(Tone.WAIT, "the model's process had died, and was started again"),
    "slow": Meaning(Tone.WAIT, "a question has waited longer for its first word than chat.first_token_seconds"),
    "recovering": Meaning(Tone.WAIT, "it had failed, and answers again; the next question decides"),
    "rate-limited": Meaning(Tone.WAIT, "it has asked to be left alone for a while"),
    "no-key": Meaning(Tone.WAIT, "it is not used, for want of a key"),
    "refused": Meaning(Tone.BAD, "it refuses the key"),
    "unreachable": Meaning(Tone.BAD, "nothing listens at its address"),
    "silent": Meaning(Tone.BAD, "it takes connections, and does not answer"),
    "model-missing": Meaning(Tone.BAD, "it does not have the model"),
    "failing": Meaning(Tone.BAD, "it answers with errors, or cannot load the model"),
    "failed": Meaning(Tone.BAD, "the model could not be loaded into the daemon"),
    "misconfigured": Meaning(Tone.BAD, "its settings cannot be used"),
}
"""By the state's name, the best first."""

COMING = frozenset({"loading", "not-loaded", "released", "unknown", "unloaded", "other-context"})
"""States of a provider that does not answer at once, with which nothing is wrong."""

_AFTER = {
    "chat-unreachable": "unreachable",
    "chat-timeout": "silent",
    "chat-slow": "slow",
    "chat-unknown-model": "model-missing",
    "chat-rate-limited": "rate-limited",
    "chat-refused": "refused",
    "chat-misconfigured": "misconfigured",
}


def state_after(error: ChatError) -> str:
    """Return the state of a provider that has just failed with `error`."""
    return _AFTER.get(error.code, "failing")


def tone_of(state: str) -> Tone:
    """Return what a state means for the next question."""
    return MEANINGS[state].tone

"""Whether a state is good, passing or bad, of anything but a chat provider, for the dashboard and the terminal."""

from satellite.net.provider_states import Tone

_GOOD = frozenset({"closed", "connected", "done", "found", "idle", "ready"})
_WAIT = frozenset(
    {"cancelled", "cold", "connecting", "degraded", "half-open", "loading", "running", "starting", "unknown", "untried"}
)


def tone(state: str) -> Tone:
    """Return the tone of a state of a stage, a responder, a room, a run or the daemon; what is not known is bad."""
    if state in _GOOD:
        return Tone.GOOD
    return Tone.WAIT if state in _WAIT else Tone.BAD

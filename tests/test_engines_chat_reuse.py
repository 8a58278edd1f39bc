"""How much of a prompt Ollama still knew, whichever way it counts."""

import ollama
import pytest
from ollama import ChatResponse

from satellite.engines import Message
from satellite.engines.chat.reuse import PrefixGauge
from tests.keeping import House, keep


def figures(count: int | None, milliseconds: float | None = None) -> ChatResponse:
    """Return the last line of an answer whose prompt took so many tokens and so long."""
    duration = None if milliseconds is None else int(milliseconds * 1e6)
    return ChatResponse(
        message=ollama.Message(role="assistant"), prompt_eval_count=count, prompt_eval_duration=duration
    )


class Told(ChatResponse):
    """What the newest releases say."""

    prompt_eval_cached_count: int | None = None


PREFIX = [Message("system", "The kitchen is warm " * 50)]  # 200 tokens of five letters
PROMPT = [*PREFIX, Message("user", "What " * 20)]  # and 20 more


@pytest.fixture
def gauge() -> PrefixGauge:
    """Return a gauge that has seen a cold reading of 200 tokens in 100 ms."""
    gauge = PrefixGauge()
    gauge.learn(PREFIX, figures(200, 100))
    return gauge


def test_what_is_told_is_exact(gauge: PrefixGauge) -> None:
    """Also by a server that was never seen cold."""
    part = Told(message=ollama.Message(role="assistant"), prompt_eval_count=220, prompt_eval_cached_count=190)
    assert gauge.reused(PROMPT, part) == 190
    assert PrefixGauge().reused(PROMPT, part) == 190


@pytest.mark.parametrize(("count", "reused"), [(20, 200), (1, 219), (120, 100)])
def test_what_is_missing_from_the_count_was_known(gauge: PrefixGauge, count: int, reused: int) -> None:
    """Where only what was read is counted."""
    assert gauge.prefix_tokens == 200
    assert gauge.reused(PROMPT, figures(count, 5)) == reused


def test_a_long_conversation_that_was_read_halfway_is_told(gauge: PrefixGauge) -> None:
    """More was read than the beginning has, and yet much of it was known."""
    conversation = [*PREFIX, Message("user", "What " * 400)]
    assert gauge.reused(conversation, figures(400, 200)) == 200


@pytest.mark.parametrize(("milliseconds", "reused"), [(5, 210), (55, 110), (110, 0), (500, 0)])
def test_where_all_is_counted_the_time_tells(gauge: PrefixGauge, milliseconds: float, reused: int) -> None:
    """By the pace of the cold reading."""
    assert gauge.reused(PROMPT, figures(220, milliseconds)) == pytest.approx(reused, abs=1)


def test_without_a_cold_reading_a_rule_of_thumb_tells() -> None:
    """A thousand letters are more than 200 tokens of English, of which 30 were read."""
    assert PrefixGauge().reused(PROMPT, figures(30, 5)) == pytest.approx(225, abs=5)


def test_what_cannot_be_told_is_not(gauge: PrefixGauge) -> None:
    """Before a cold reading, or without figures."""
    assert PrefixGauge().reused(PROMPT, figures(220, 5)) is None
    assert gauge.reused(PROMPT, figures(None, 5)) is None
    assert gauge.reused(PROMPT, figures(220)) is None
    gauge.learn(PREFIX, figures(None))
    gauge.learn(PREFIX, figures(0, 5))
    assert gauge.prefix_tokens == 200
    untimed = PrefixGauge()
    untimed.learn(PREFIX, figures(200))
    assert untimed.reused(PROMPT, figures(220, 5)) is None


@pytest.mark.parametrize("tells", [True, False])
def test_an_answer_tells_how_much_was_reused(tells: bool) -> None:
    """Over the wire: the client lets the newest figure through."""

    async def newest(house: House) -> None:
        house.server.counts_cached_tokens = tells

    async def scenario(house: House) -> None:
        await house.warm()
        prefix = house.chat.keeper.gauge.prefix_tokens
        assert prefix == house.server.counts.generations[0].evaluated_tokens
        stats = (await house.deltas("What is the capital of France?"))[-1].stats
        assert stats is not None
        generation = house.server.counts.generations[-1]
        assert stats.cached_tokens is not None
        if tells:
            assert stats.cached_tokens == generation.cached_tokens
        assert 0 < stats.cached_tokens <= 1.2 * generation.cached_tokens

    keep(scenario, before=newest)


def test_a_prompt_that_was_known_before_the_daemon_began_is_no_measure() -> None:
    """A daemon that is started again finds a model that has read everything: that reading was not cold."""

    async def of_an_earlier_daemon(house: House) -> None:
        await house.asked()

    async def scenario(house: House) -> None:
        await house.warm()
        assert house.server.counts.loads == 1
        assert house.chat.keeper.gauge.prefix_tokens is None

    keep(scenario, before=of_an_earlier_daemon)

"""Home Assistant's intents and our own sentences, compiled by hassil: the grammar of one language."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, NamedTuple

import home_assistant_intents
from hassil.intents import Intents, RangeFractionType, RangeSlotList, SlotList, TextSlotList
from hassil.recognize import RecognizeResult, recognize_all

from satellite.languages import family, read_yaml
from satellite.skills.intents import Command, Intent
from satellite.skills.timers.matching import TimerQuery
from satellite.skills.timers.timers import Duration

_LONGEST = 160
"""Characters of the longest command; matching takes more than linear time."""

_Data = Mapping[str, Any]
"""Sentences and rules, from Home Assistant's package or our own files."""

_LONGEST_NAME_WORDS = 4
_LONGEST_NAME = 40

_STEP = 0.1
"""How much louder "louder" is; Home Assistant's step."""

_STEPS: Mapping[str, str] = {Intent.LOUDER: "up", Intent.QUIETER: "down"}

_NUMBER_WORDS = range(1, 101)
_RANGES = {"timer_hours": 100, "timer_minutes": 6_000, "timer_seconds": 360_000}
"""Highest number of each unit that is understood: more than a timer may have, so that the refusal can say so."""


_WHOLE = (
    "(<own_hours> [[{0}] (<own_minutes>|{{timer_minutes:minutes}})] [[{0}] <own_seconds>]"
    "|<own_minutes> [[{0}] (<own_seconds>|{{timer_seconds:seconds}})]|<own_seconds>)"
)
"""Hours, minutes and seconds with the language's "and"; the last unit may be missing, as in "one minute thirty"."""


class _Numbers(RangeSlotList):
    """Digits of the whole range, halves included; words for the lower numbers only, since they cost time and memory."""

    def get_numbers(self) -> Iterable[float]:
        """Return what contains every number, which is checked for digits, and iterates the lower ones, for words."""
        return _Halves(self.stop)


@dataclass(frozen=True, slots=True)
class _Halves:
    highest: int

    def __iter__(self) -> Iterator[float]:
        return iter(_NUMBER_WORDS)

    def __contains__(self, number: float) -> bool:
        return 0 < number <= self.highest and (number * 2).is_integer()


@dataclass(frozen=True, slots=True)
class _Block:
    """Sentences that mean the same."""

    sentences: tuple[str, ...]
    slots: Mapping[str, object]
    """What they say without a word for it, such as that the volume goes up."""


class _Rank(NamedTuple):
    """Order of matches, best first: fewest free names, our sentences before Home Assistant's, most text matched."""

    names: int
    is_home_assistants: bool
    letters_not_matched: int
    letters_of_names: int


class Grammar:
    """The sentences that are understood in one language, and the responses there."""

    def __init__(self, language: str) -> None:
        """Compile the grammar of one of Home Assistant's languages; blocks for a tenth of a second."""
        self.language = language
        upstream = home_assistant_intents.get_intents(language) or {}
        ours = _our_sentences(language)
        responses = upstream.get("responses", {})
        self.responses: Mapping[str, Mapping[str, str]] = responses.get("intents", {})
        self.errors: Mapping[str, str] = responses.get("errors", {})
        self.own_responses: Mapping[str, str] = ours.get("responses", {})
        self._timer_words = tuple(ours.get("timer_words", ()))
        self._units: Sequence[Sequence[str]] = ours.get("units", ())
        self._alarm_words = frozenset(ours.get("alarm_words", ()))
        self._endings: Mapping[str, Sequence[str]] = ours.get("endings", {})
        self._messages: Mapping[str, Sequence[str]] = ours.get("messages", {})
        self._articles = tuple(ours.get("articles", ()))
        self._ordinals: Mapping[str, int] = ours.get("ordinals", {})
        openers = "|".join(map(re.escape, ours.get("openers", ())))
        self._openers = re.compile(rf"(?:\s*\b(?:{openers})\b[\s,.…]*)+", re.IGNORECASE) if openers else None
        own = {name: [_Block(tuple(texts), {})] for name, texts in ours.get("intents", {}).items()}
        self._ours = _compiled(language, upstream, ours, own, own=True)
        self._upstream = _compiled(language, upstream, ours, _answerable(upstream))
        self.understand("1")  # hassil parses templates at their first use

    def understand(
        self, text: str, rooms: Mapping[str, str] | None = None, media: Mapping[str, str] | None = None
    ) -> Command | None:
        """Return the command that all of `text` is, else None.

        `rooms` are the places by the names of rooms, `media` what can be played by the names that people say.
        """
        if len(text) > _LONGEST:
            return None
        forms = {form: place for name, place in (rooms or {}).items() for form in self._inflected(name)}
        names: dict[str, SlotList] = {
            name: TextSlotList.from_tuples((known or {}).items(), allow_template=False, name=name)
            for name, known in (("area", forms), ("media", media))
        }
        # Whisper writes "5-minute timer", the grammar "5 minute timer"; names may keep their hyphens.
        # "Set an alarm for 7:30" names the time of day.
        spelled = text if self._alarm_words.intersection(_words(text)) else _without_clock(text, self._units)
        for reading in self._readings(spelled):
            found: list[tuple[_Rank, Command]] = []
            for intents in (self._ours, self._upstream):
                for result in recognize_all(reading, intents, slot_lists=names, language=self.language):
                    if command := self._command(result, reading):
                        found.append((_rank(result), command))
                        # Nothing ranks above one of ours without a free name; the rest need not be matched.
                        if intents is self._ours and not found[-1][0].names:
                            return command
            if found:
                return min(found, key=lambda one: one[0])[1]
        return None

    def _command(self, result: RecognizeResult, text: str) -> Command | None:
        """Return what a match means; None for one that only matched because a free name matches any text."""
        slots = {name: entity.value for name, entity in result.entities.items()}
        name = None
        if entity := result.entities.get("name"):
            name = self._name(str(entity.value))
            if name is None or not _fits_name(name, leading=_begins_with_name(result)):
                return None
        area = result.entities.get("area")
        start = Duration.of(*(slots.get(f"start_{unit}") for unit in ("hours", "minutes", "seconds")))
        timer = TimerQuery(
            name=name or None,
            ordinal=self._ordinals.get(name.casefold()) if name else None,
            room=area.text.strip() if area else None,
            place=area.value if area else None,
            seconds=start.total_seconds or None,
        )
        duration = Duration.of(slots.get("hours"), slots.get("minutes"), slots.get("seconds"))
        folded = text.casefold()
        mentions_timer = not self._timer_words or any(word in folded for word in self._timer_words)
        message = result.entities.get("message")
        if message and not self._is_message(_words(message.text), _words(text)):
            return None
        return Command(
            Intent(result.intent.name),
            duration,
            timer,
            mentions_timer,
            message=message.text.strip(" ,:") if message else "",
            volume=_share(slots.get("volume_level", slots.get("volume_step", _STEPS.get(result.intent.name, 0)))),
            media=str(slots.get("media", "")),
        )

    def _readings(self, text: str) -> Iterator[str]:
        """Yield the text as the grammar expects it, then without a hesitation or an "and" at its beginning."""
        yield from _readings(text)
        opened = self._openers.match(text) if self._openers else None
        if opened and re.search(r"\w", text[opened.end() :]):  # no word at all would be as good as "okay"
            yield from _readings(text[opened.end() :])

    def _inflected(self, room: str) -> Iterator[str]:
        """Yield the name of a room, and its forms in languages that inflect it, by the first ending that it has."""
        yield room
        for ending in self._endings:
            if room.endswith(ending):
                yield from (room.removesuffix(ending) + other for other in self._endings[ending])
                return

    def _is_message(self, message: Sequence[str], text: Sequence[str]) -> bool:
        """Return whether what is left of `text` is something to say: after a word such as "that", or a whole clause.

        "Announce the winner" and "tell the kitchen staff to hurry" leave none, and are for the chat model.
        """
        known = self._messages
        if not known:
            return True
        size = len(message)
        before = next((text[at - 1] for at in range(1, len(text)) if text[at : at + size] == message), "")
        clause = takewhile(lambda word: word not in known["relatives"], message)
        return (
            before in known["connectors"]
            or message[0] in known["subjects"]
            or any(word in known["verbs"] for word in clause)
        )

    def _name(self, text: str) -> str | None:
        """Return a name without the articles in front of it; None if nothing is left."""
        words = text.strip(" -.,\"'").split()
        while words and words[0].casefold() in self._articles:
            words = words[1:]
        return " ".join(words) or None


def _share(percentage: object) -> float:
    """Return a percentage, or one of Home Assistant's words for a step of it, as a share of 1."""
    if percentage in ("up", "down"):
        return _STEP if percentage == "up" else -_STEP
    return float(str(percentage)) / 100


def _words(text: str) -> Sequence[str]:
    return re.findall(r"\w+", text.casefold()) or [""]


_THOUSANDS = re.compile(r"\b(\d{1,3})[.,](\d{3})\b")
_FULL_STOPS = " \N{DEVANAGARI DANDA}\N{ARABIC FULL STOP}\N{ARMENIAN FULL STOP}"
"""Those of Hindi, Bengali, Nepali, Punjabi, Urdu and Armenian, which hassil takes for letters."""

_JOINED_UNIT = re.compile(r"(?<!\w)(\d+)([^\W\d_])(?=\d)")
"""One of several units that are written together, as in 1h30."""

_HALF = re.compile(r"(?<=\d)(?:\s*½|\s+1/2\b)")


def _readings(text: str) -> Iterator[str]:
    """Yield the text as the grammar expects it, then without hyphens."""
    # Whisper writes thousands with a separator and halves as a sign or a fraction.
    text = _JOINED_UNIT.sub(r"\1 \2 ", _HALF.sub(".5", _THOUSANDS.sub(r"\1\2", text))).strip(_FULL_STOPS)
    yield text
    if (broken := text.replace("-", " ")) != text:
        yield broken


_CLOCK = r"(?<![\d:.,])(\d{1,3}(?::[0-5]\d){1,2})(?![\d:])"


def _without_clock(text: str, units: Sequence[Sequence[str]]) -> str:
    """Return `text` with a length such as 1:30 spelled out by `units`: the names of hours, minutes and seconds.

    Two figures are minutes and seconds, as timers show them, unless hours are named: "1:30 hours".
    """
    if not units or ":" not in text:
        return text
    hours = [name.casefold() for name in units[0]]

    def spelled(clock: re.Match[str]) -> str:
        figures = [int(figure) for figure in clock[1].split(":")]
        in_hours = len(figures) == len(units) or (clock[2] or "").casefold() in hours
        names = [first for first, *_ in (units if in_hours else units[1:])]
        return " ".join(f"{figure} {name}" for figure, name in zip(figures, names, strict=False) if figure)

    named = "|".join(re.escape(name) for name in (*units[0], *units[1]))
    return re.sub(rf"{_CLOCK}(?:\s*({named})\b)?", spelled, text, flags=re.IGNORECASE)


def _rank(result: RecognizeResult) -> _Rank:
    names = [entity for entity in result.entities_list if entity.is_wildcard]
    own = bool(result.intent_metadata and result.intent_metadata.get("own"))
    return _Rank(len(names), not own, -result.text_chunks_matched, sum(len(name.text) for name in names))


_OPTIONAL = re.compile(r"^\s*\[[^\[\]]*\]\s*")


def _begins_with_name(result: RecognizeResult) -> bool:
    """Return whether the matched sentence begins with a free name."""
    template = (result.intent_sentence.text if result.intent_sentence else None) or ""
    while (rest := _OPTIONAL.sub("", template)) != template:
        template = rest
    return template.startswith("{timer_name")


def _fits_name(name: str, *, leading: bool) -> bool:
    """Return whether a name is plausible: a long one, or one with digits, swallowed another part of the sentence."""
    few = len(name.split()) <= (1 if leading else _LONGEST_NAME_WORDS)
    return few and len(name) <= _LONGEST_NAME and not any(letter.isdigit() for letter in name)


def _our_sentences(language: str) -> _Data:
    """Return our sentences for a language: those of its file and the words that stop; each may be missing."""
    ours = _template(language)
    words = read_yaml("satellite.skills", "stop_words.yaml").get(language)
    return {**ours, "intents": {**ours.get("intents", {}), Intent.STOP: words}} if words else ours


def _template(language: str) -> _Data:
    """Return the file of sentences for a language, else for that without its region; empty if there is none."""
    for code in (language, language.partition("-")[0]):
        # Swiss German and the Chinese of other regions differ too much; Brazilian Portuguese does not.
        if code in ("de", "zh") and code != language:
            continue
        if sentences := read_yaml("satellite.skills", f"sentence_templates/{code}.yaml"):
            return sentences
    return {}


_VOLUME = (Intent.SET_VOLUME, Intent.CHANGE_VOLUME)


def _answerable(upstream: _Data) -> dict[str, list[_Block]]:
    """Return Home Assistant's sentences for the intents that are answered here."""
    sentences: dict[str, list[_Block]] = {}
    for intent in Intent:
        # "Turn off the light in five minutes" starts a timer too, but is an order to Home Assistant. Its devices and
        # floors, whose volume may be meant, are known to it alone.
        others = ("command", "name", "floor") if intent in _VOLUME else ("command",)
        for block in upstream.get("intents", {}).get(intent, {"data": ()})["data"]:
            if not block.get("metadata", {}).get("slot_combination", "").startswith(others):
                one = _Block(tuple(block["sentences"]), block.get("slots") or {})
                sentences.setdefault(intent.value, []).append(one)
    return sentences


def _compiled(
    language: str, upstream: _Data, ours: _Data, sentences: Mapping[str, list[_Block]], *, own: bool = False
) -> Intents:
    """Return sentences ready to match, with only the rules and lists that they use."""
    duration = {"own_whole": _WHOLE.format(ours.get("and", "")), **ours["duration"]} if "duration" in ours else {}
    started = {name.replace("own_", "own_start_"): _of_start(rule) for name, rule in duration.items()}
    texts = [text for blocks in sentences.values() for block in blocks for text in block.sentences]
    every_rule = {**upstream.get("expansion_rules", {}), **ours.get("rules", {}), **duration, **started}
    rules = _used_rules(texts, every_rule)
    used_lists = set(re.findall(r"{([^{}:]+)", " ".join([*texts, *rules.values()])))
    lists = {"message": {"wildcard": True}, **upstream.get("lists", {}), **ours.get("lists", {})}
    intents = Intents.from_dict(
        {
            "language": language,
            "settings": upstream.get("settings", {}),
            "skip_words": [*upstream.get("skip_words", []), *ours.get("skip_words", [])],
            "intents": {
                name: {"data": [data for block in blocks for data in _in_order(block, own=own)]}
                for name, blocks in sentences.items()
            },
            "expansion_rules": rules,
            "lists": {name: values for name, values in lists.items() if name in used_lists},
        }
    )
    # hassil would expand every number of these ranges into words.
    spelled = language if "-" in language else family(language)  # numbers in words have Whisper's code of Norwegian
    for name, highest in _RANGES.items():
        intents.slot_lists[name] = _Numbers(
            name, 1, highest, fraction_type=RangeFractionType.HALVES, words_language=spelled
        )
    return intents


def _in_order(block: _Block, *, own: bool) -> list[dict[str, object]]:
    """Return sentences in hassil's form, those with free names last."""
    named = [text for text in block.sentences if "{timer_name" in text or "{message" in text]
    plain = [text for text in block.sentences if text not in named]
    metadata = {"own": own}
    return [{"sentences": texts, "slots": dict(block.slots), "metadata": metadata} for texts in (plain, named) if texts]


def _of_start(rule: str) -> str:
    """Return the rule of a duration, rewritten for the duration that a timer was set to."""
    return re.sub(r":(hours|minutes|seconds)}", r":start_\1}", rule).replace("<own_", "<own_start_")


def _used_rules(sentences: list[str], rules: Mapping[str, str]) -> dict[str, str]:
    """Return the rules that sentences refer to, directly or through other rules."""
    used: dict[str, str] = {}
    texts = list(sentences)
    while texts:
        for name in re.findall(r"<([^<>]+)>", texts.pop()):
            if name in rules and name not in used:
                used[name] = rules[name]
                texts.append(rules[name])
    return used

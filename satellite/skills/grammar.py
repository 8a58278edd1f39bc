"""Home Assistant's intents and our own sentences, compiled by hassil: the grammar of one language."""

import importlib.resources
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import home_assistant_intents
import yaml
from hassil.intents import Intents, RangeFractionType, RangeSlotList, SlotList, TextSlotList
from hassil.recognize import RecognizeResult, recognize_all

from satellite.skills.intents import Command, Intent
from satellite.skills.timers.matching import Wanted
from satellite.skills.timers.timer import Duration

_LONGEST = 160
"""Characters of a command; what is longer is no command, and would take long to tell."""

_LONGEST_NAME_WORDS = 4
_LONGEST_NAME = 40

_NUMBER_WORDS = range(1, 101)
_RANGES = {"timer_hours": 100, "timer_minutes": 6_000, "timer_seconds": 360_000}
"""The highest number of each unit that is understood; more than a timer may have, so that it can be told so."""


class _Numbers(RangeSlotList):
    """Digits of the whole range, halves included; as words only the lower numbers: those cost time and memory."""

    def get_numbers(self) -> Iterable[float]:
        """Return what contains the numbers in digits, and yields those that are understood as words."""
        return _Halves(self.stop)


@dataclass(frozen=True, slots=True)
class _Halves:
    highest: int

    def __iter__(self) -> Iterator[float]:
        return iter(_NUMBER_WORDS)

    def __contains__(self, number: float) -> bool:
        return 0 < number <= self.highest and (number * 2).is_integer()


class _Rank(NamedTuple):
    """How matches compare, the lowest first: what leaves least open, ours before theirs."""

    names: int
    theirs: bool
    letters_not_matched: int
    letters_of_names: int


class Grammar:
    """What is understood in one language, and what is answered there."""

    def __init__(self, language: str) -> None:
        """Compile the grammar of one of Home Assistant's languages; takes a tenth of a second, blocking."""
        self.language = language
        theirs = home_assistant_intents.get_intents(language) or {}
        ours = _our_sentences(language)
        responses = theirs.get("responses", {})
        self.responses: Mapping[str, Mapping[str, str]] = responses.get("intents", {})
        self.errors: Mapping[str, str] = responses.get("errors", {})
        self.own_responses: Mapping[str, str] = ours.get("responses", {})
        self._timer_words = tuple(ours.get("timer_words", ()))
        self._articles = tuple(ours.get("articles", ()))
        self._ordinals: Mapping[str, int] = ours.get("ordinals", {})
        self._ours = _compiled(language, theirs, ours, ours.get("intents", {}))
        self._theirs = _compiled(language, theirs, ours, _answerable(theirs))
        self.understand("1")  # templates are parsed at their first use

    def understand(self, text: str, rooms: Mapping[str, str] | None = None) -> Command | None:
        """Return what `text` says if all of it is one command; `rooms` are the names of rooms with their places."""
        if len(text) > _LONGEST:
            return None
        areas: dict[str, SlotList] = {
            "area": TextSlotList.from_tuples((rooms or {}).items(), allow_template=False, name="area")
        }
        for reading in _readings(text):
            found: list[tuple[_Rank, Command]] = []
            for intents in (self._ours, self._theirs):
                for result in recognize_all(reading, intents, slot_lists=areas, language=self.language):
                    if command := self._command(result, reading):
                        found.append((_rank(result), command))
                        # Nothing is better than one of ours that leaves nothing open.
                        if intents is self._ours and not found[-1][0].names:
                            return command
            if found:
                return min(found, key=lambda one: one[0])[1]
        return None

    def _command(self, result: RecognizeResult, text: str) -> Command | None:
        """Return what a match means; None for one that only matched because a name may be anything."""
        slots = {name: entity.value for name, entity in result.entities.items()}
        name = None
        if entity := result.entities.get("name"):
            name = self._name(str(entity.value))
            if name is None or not _fits_name(name, leading=_begins_with_name(result)):
                return None
        area = result.entities.get("area")
        start = Duration.of(*(slots.get(f"start_{unit}") for unit in ("hours", "minutes", "seconds")))
        wanted = Wanted(
            name=name or None,
            ordinal=self._ordinals.get(name.casefold()) if name else None,
            room=area.text.strip() if area else None,
            place=area.value if area else None,
            seconds=start.total_seconds or None,
        )
        duration = Duration.of(slots.get("hours"), slots.get("minutes"), slots.get("seconds"))
        spoken = text.casefold()
        about = not self._timer_words or any(word in spoken for word in self._timer_words)
        return Command(Intent(result.intent.name), duration, wanted, about)

    def _name(self, said: str) -> str | None:
        """Return a name without the articles in front of it; None if nothing else was said."""
        words = said.strip(" -.,\"'").split()
        while words and words[0].casefold() in self._articles:
            words = words[1:]
        return " ".join(words) or None


_THOUSANDS = re.compile(r"\b(\d{1,3})[.,](\d{3})\b")
_HALF = re.compile(r"(?<=\d)(?:\s*½|\s+1/2\b)")


def _readings(text: str) -> Iterator[str]:
    """Yield the text as grammars expect it, then without its hyphens."""
    text = _HALF.sub(".5", _THOUSANDS.sub(r"\1\2", text)).strip()
    yield text
    if (broken := text.replace("-", " ")) != text:
        yield broken


def _rank(result: RecognizeResult) -> _Rank:
    names = [entity for entity in result.entities_list if entity.is_wildcard]
    own = bool(result.intent_metadata and result.intent_metadata.get("own"))
    return _Rank(len(names), not own, -result.text_chunks_matched, sum(len(name.text) for name in names))


_OPTIONAL = re.compile(r"^\s*\[[^\[\]]*\]\s*")


def _begins_with_name(result: RecognizeResult) -> bool:
    """Return whether the sentence matched may begin with any words."""
    template = (result.intent_sentence.text if result.intent_sentence else None) or ""
    while (rest := _OPTIONAL.sub("", template)) != template:
        template = rest
    return template.startswith("{timer_name")


def _fits_name(name: str, *, leading: bool) -> bool:
    """Return whether a name is short enough not to be something else that was said."""
    few = len(name.split()) <= (1 if leading else _LONGEST_NAME_WORDS)
    return few and len(name) <= _LONGEST_NAME and not any(letter.isdigit() for letter in name)


def _our_sentences(language: str) -> dict[str, Any]:
    """Return our sentences for a language, else for that without its region; empty if there are none."""
    folder = importlib.resources.files("satellite.skills") / "sentence_templates"
    for code in (language, language.partition("-")[0]):
        # Swiss German is spoken otherwise, Brazilian Portuguese is not.
        if code in ("de", "zh") and code != language:
            continue
        file = folder / f"{code}.yaml"
        if file.is_file():
            return dict(yaml.safe_load(file.read_text(encoding="utf-8")))
    return {}


def _answerable(theirs: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the sentences of Home Assistant's that are answered here."""
    sentences: dict[str, list[str]] = {}
    for intent in Intent:
        for block in theirs.get("intents", {}).get(intent, {"data": ()})["data"]:
            # "Turn off the light in five minutes" is not for us.
            if not block.get("metadata", {}).get("slot_combination", "").startswith("command"):
                sentences.setdefault(intent.value, []).extend(block["sentences"])
    return sentences


def _compiled(
    language: str, theirs: Mapping[str, Any], ours: Mapping[str, Any], sentences: Mapping[str, list[str]]
) -> Intents:
    """Return sentences ready to match, with the rules and lists that they use."""
    duration = ours.get("duration", {})
    started = {name.replace("own_", "own_start_"): _of_start(rule) for name, rule in duration.items()}
    texts = [text for block in sentences.values() for text in block]
    every_rule = {**theirs.get("expansion_rules", {}), **ours.get("rules", {}), **duration, **started}
    rules = _used_rules(texts, every_rule)
    used_lists = set(re.findall(r"{([^{}:]+)", " ".join([*texts, *rules.values()])))
    lists = {**theirs.get("lists", {}), **ours.get("lists", {})}
    intents = Intents.from_dict(
        {
            "language": language,
            "settings": theirs.get("settings", {}),
            "skip_words": theirs.get("skip_words", []),
            "intents": {
                name: {"data": _blocks(block, own=sentences is ours.get("intents"))}
                for name, block in sentences.items()
            },
            "expansion_rules": rules,
            "lists": {name: values for name, values in lists.items() if name in used_lists},
        }
    )
    for name, highest in _RANGES.items():
        intents.slot_lists[name] = _Numbers(name, 1, highest, fraction_type=RangeFractionType.HALVES)
    return intents


def _blocks(texts: list[str], *, own: bool) -> list[dict[str, Any]]:
    """Return sentences as hassil has them, those with names last."""
    named = [text for text in texts if "{timer_name" in text]
    plain = [text for text in texts if text not in named]
    return [{"sentences": block, "metadata": {"own": own}} for block in (plain, named) if block]


def _of_start(rule: str) -> str:
    """Return a rule for a duration as one for the duration that a timer was set to."""
    return re.sub(r":(hours|minutes|seconds)}", r":start_\1}", rule).replace("<own_", "<own_start_")


def _used_rules(sentences: list[str], rules: Mapping[str, str]) -> dict[str, str]:
    """Return the rules that sentences refer to, also by way of other rules."""
    used: dict[str, str] = {}
    texts = list(sentences)
    while texts:
        for name in re.findall(r"<([^<>]+)>", texts.pop()):
            if name in rules and name not in used:
                used[name] = rules[name]
                texts.append(rules[name])
    return used

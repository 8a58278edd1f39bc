"""Removes what is not to be spoken from a model's text: its thoughts, its calls of tools and its special tokens."""

import re
from collections.abc import Sequence

_NAMES = ("think", "thinking", "thought", "reasoning", "reflection", "seed:think")
_CALLS = ("tool_call", "tool_calls", "function_call", "function_calls", "tool_response", "minimax:tool_call")
_FUNCTION = "<function="
_FINAL = "<|channel|>final"
_PAIRS = {
    **{f"<{name}>": f"</{name}>" for name in (*_NAMES, *_CALLS)},
    _FUNCTION: "</function>",
    "<|begin_of_thought|>": "<|end_of_thought|>",
    "<|start_header_id|>": "<|end_header_id|>",
    "[THINK]": "[/THINK]",
    "[TOOL_CALLS]": "[/TOOL_CALLS]",
    "◁think▷": "◁/think▷",
    **{f"<|channel|>{name}": _FINAL for name in ("analysis", "commentary")},
}
"""Tags around thoughts, calls and names of roles: of most models, of Mistral's, of Kimi's, of Llama's, of gpt-oss.

The tag of a function has its name, which does not matter."""

_CLOSED_BY = {opening.lower(): closing.lower() for opening, closing in _PAIRS.items()}
_SPECIAL_TOKENS = ("</s>", "<s>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>", "[inst]", "[/inst]")
"""Special tokens of Llama 2, Gemma and Mistral."""

_TAGS = (*(tag for pair in _CLOSED_BY.items() for tag in pair if tag != _FUNCTION), *_SPECIAL_TOKENS)
_ROLE_TOKENS = r"(?:<\|im_start\|>|<start_of_turn>|<\|start\|>)"
_LONGEST_NAME = 40
_CHANNELS = ("analysis", "commentary", "final")
_ROLES = ("assistant", "model")


def _begun(names: Sequence[str]) -> str:
    """Return a pattern for what may become one of `names`."""
    return "|".join(name[:size] for name in names for size in range(len(name)))


_CHANNEL_BEGUN = _begun(_CHANNELS)
_NAMED = "|".join(
    (
        rf"{_FUNCTION}[\w.:-]{{1,{_LONGEST_NAME}}}>",
        rf"<\|channel\|>(?!{'|'.join(_CHANNELS)}|(?:{_CHANNEL_BEGUN})\Z)",
        rf"<\|(?!channel\|)\w{{1,{_LONGEST_NAME}}}\|>",
        rf"<｜[\w▁]{{1,{_LONGEST_NAME}}}｜>",
    )
)
"""The special tokens of most others, such as <|im_end|>, and DeepSeek's."""

_TAG = re.compile("|".join([rf"{_ROLE_TOKENS}(?:{'|'.join(_ROLES)})\b", *map(re.escape, _TAGS), _NAMED]), re.IGNORECASE)
_BEGUN = re.compile(
    rf"{_ROLE_TOKENS}(?:a\w{{0,8}}|m\w{{0,4}})?\Z|{_FUNCTION}[\w.:-]{{0,{_LONGEST_NAME}}}\Z|"
    rf"<(?:\|channel\|>(?:{_CHANNEL_BEGUN})|\|\w{{0,{_LONGEST_NAME}}}\|?|｜[\w▁]{{0,{_LONGEST_NAME}}}｜?)?\Z"
)
_OF_A_TURN = re.compile(
    r"</s>|<eos>|<\w+_of_turn>|\[inst\]|<.(im_\w+|eot\w*|eo[st]|end.*|start.*|user|assistant|system).>"
)
"""Tokens that end the answer: what follows would be the next turn, made up by the model."""


_TOOL_CALL = re.compile(
    r'\[?\s?\{\s*"(?:(?:function|tool|tool_calls|action)"\s*:|type"\s*:\s*"function"|'
    r'name"\s*:\s*"[^"]{1,64}"\s*,\s*"(?:arguments|parameters)")'
)
"""The beginning of an answer that is nothing but a call, written as JSON. Other JSON may have been asked for."""

_CALL_INSIDE = re.compile(r'(?<!\S)\{\s*"name"\s*:\s*"[^"]{1,64}"\s*,\s*"(?:arguments|parameters)"')
_CALL_INSIDE_BEGUN = re.compile(r'(?<!\S)\{\s*(?:\Z|"(?:\w{0,10}\Z|name"[^{}]{0,90}\Z))')
"""A call after other words, and what may become one."""

_ROLE_BEGUN = re.compile(rf"{_ROLE_TOKENS}(?:{_begun(_ROLES)})\Z", re.IGNORECASE)

_OPENS_CALL = re.compile(r"<[|｜](?:python_tag|tool[\w▁]*?(?:call|begin)[\w▁]*)[|｜]>", re.IGNORECASE)
"""Tokens before a call, with which an answer ends as well."""

_LONGEST_CALL_BEGINNING = 120


def opens_thought(template: str) -> bool:
    """Return whether a chat template begins the answer within a thought."""
    end = template.rstrip().lower()
    return any(end.endswith(opening) for opening in _CLOSED_BY)


class ThoughtFilter:
    """Drops thoughts, the white space after them, and special tokens from text that arrives in pieces.

    Text passes at once; only what may still become a tag is held back. A thought that is never closed drops the rest,
    as does a token that ends the turn. Some models' prompts open the thought for them, so that the text begins within
    one: with `thinking` it is held back until the thought is closed.
    """

    def __init__(self, *, thinking: bool = False) -> None:
        self.unopened = False
        """Whether a thought was closed that no tag had opened: the text before was one."""

        self._held = self._call = ""  # what may become a tag, and what may become a call
        self._closing: str | None = None
        self._presumed = "" if thinking else None
        self._skips_space = False
        self._has_begun = self._is_over = False

    def feed(self, text: str) -> str:
        """Return the part of `text`, and of what was held back, that is certain to be spoken."""
        text, done = self._held + text, 0
        passed = []
        for tag in _TAG.finditer(text):
            if _ROLE_BEGUN.match(text, tag.start()):
                break
            passed.append(self._pass(text[done : tag.start()]))
            self._turn(_FUNCTION if tag[0].lower().startswith(_FUNCTION) else tag[0].strip().lower())
            done = tag.end()
        # A piece may end within a tag, which must not pass in two halves.
        certain = len(text) - _possible_start(text[done:])
        passed.append(self._pass(text[done:certain]))
        self._held = text[certain:]
        return "".join(passed)

    def flush(self) -> str:
        """Return the rest after the last piece, except what is presumed to be a thought (`presumed`)."""
        rest = self._pass(_TAG.sub("", self._held)) + self._call
        self._held = self._call = ""
        return rest

    def presumed(self) -> str:
        """Return what was held back as a presumed thought that was never closed."""
        text, self._presumed = self._presumed or "", None
        return text

    def _turn(self, tag: str) -> None:
        """Begin or end a thought at `tag`; a tag that closes another kind of thought is part of the present one."""
        if tag == _FINAL and self._closing is None:
            return  # the answer begins, without a thought before it
        has_begun = self._has_begun or bool(self._call)
        if self._closing is None and (_OPENS_CALL.fullmatch(tag) or (has_begun and tag == "<|start_header_id|>")):
            self._is_over = True
        elif tag not in _CLOSED_BY and tag not in _CLOSED_BY.values():
            self._is_over = self._is_over or (has_begun and bool(_OF_A_TURN.match(tag)))
            self._skips_space = self._skips_space or tag[-1].isalpha()  # the name of a role, which a line end follows
        elif self._closing is None and tag in _CLOSED_BY:
            self._closing = _CLOSED_BY[tag]
        elif self._closing in (None, tag):
            self.unopened = self.unopened or self._closing is None
            self._closing = self._presumed = None
            self._skips_space = True

    def _pass(self, text: str) -> str:
        if self._closing is not None or self._is_over:
            return ""
        if self._presumed is not None:
            self._presumed += text
            return ""
        if self._skips_space:
            text = text.lstrip()
            self._skips_space = not text
        if not self._has_begun:
            text = self._without_call(text)
            self._has_begun = bool(text.strip())
        return self._without_later_call(text) if self._has_begun else text

    def _without_later_call(self, text: str) -> str:
        text, self._call = self._call + text, ""
        if (call := _CALL_INSIDE.search(text)) is not None:
            self._is_over = True
            return text[: call.start()]
        if (begun := _CALL_INSIDE_BEGUN.search(text, max(0, len(text) - _LONGEST_CALL_BEGINNING))) is not None:
            self._call = text[begun.start() :]
        return text[: len(text) - len(self._call)]

    def _without_call(self, text: str) -> str:
        """Return the beginning of an answer once it is certain to be no call; white space before it at once."""
        begun = text if self._call else text.lstrip()
        space, begun, self._call = text[: len(text) - len(begun)], self._call + begun, ""
        if begun.startswith(("{", "[")):
            if _TOOL_CALL.match(begun, 0, _LONGEST_CALL_BEGINNING):
                self._is_over = True
                return space
            if len(begun) < _LONGEST_CALL_BEGINNING:
                self._call, begun = begun, ""
        return space + begun


def _possible_start(text: str) -> int:
    """Return how many characters at the end of `text` may be the start of a tag; looks at a bounded number of them."""
    end = text[-max(map(len, _TAGS)) :].lower()
    plain = next((size for size in range(len(end), 0, -1) if any(tag.startswith(end[-size:]) for tag in _TAGS)), 0)
    # Only the last characters: searching all of a long text for each piece would take quadratic time.
    begun = _BEGUN.search(text, max(0, len(text) - _LONGEST_NAME - len(_FINAL)))
    return max(plain, len(begun[0]) if begun else 0)

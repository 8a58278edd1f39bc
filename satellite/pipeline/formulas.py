"""Formulas in LaTeX, as chat models write them, in plain signs, which are written out for the voice later."""

import re

_INLINE = re.compile(r"\$\$?([^$\n]{1,200})\$\$?(?!\d)")
_IS_FORMULA = re.compile(r"[\\^_{=]|\d\s?[+*/-]\s?\d|^\s?[A-Za-z]\s?$")
_DELIMITER = re.compile(r"\\[()\[\]]")
_FRACTION = re.compile(r"\\[dt]?frac\s?\{([^{}]*)\}\s?\{([^{}]*)\}")
_TEXT = re.compile(r"\\(?:text|mathrm|mathbf|boxed)\s?\{([^{}]*)\}")
_DEGREES = re.compile(r"\^\{?\\circ\}?")
_COMMAND = re.compile(r"\\([A-Za-z]{1,16})(?![A-Za-z])")
_SIGNS = {
    "times": " × ", "cdot": " × ", "div": " ÷ ", "pm": " ± ", "le": " ≤ ", "leq": " ≤ ", "ge": " ≥ ", "geq": " ≥ ",
    "approx": " ≈ ", "sqrt": "√", "pi": "π", "circ": "°", "left": "", "right": "", "quad": " ", "to": " → ",
}  # fmt: skip
_POWER = re.compile(r"\^\{?([23])\}?(?!\d)")


def without_formulas(text: str) -> str:
    """Return `text` with its formulas in plain signs, such as "√16 = 4"; a dollar before a number stays one."""
    text = _INLINE.sub(lambda match: match[1] if _IS_FORMULA.search(match[1]) else match[0], text)
    if "\\" in text:
        text = _FRACTION.sub(r"\1/\2", _TEXT.sub(r"\1", _DELIMITER.sub(" ", text)))
        text = _COMMAND.sub(lambda match: _SIGNS.get(match[1], f" {match[1]} "), _DEGREES.sub("°", text))
        text = text.replace("{", "").replace("}", "")
    return _POWER.sub(lambda match: "²" if match[1] == "2" else "³", text)

"""Which of several forms a client would rather have (RFC 9110, 12.5.1)."""

from collections.abc import Sequence

from satellite.http.http_errors import HttpError


def chosen(accept: str | None, offered: Sequence[str]) -> str:
    """Return the media type of `offered` that `accept` likes best; the first where it does not care.

    Raises `HttpError` where it takes none of them.
    """
    wishes = [_wish(part) for part in (accept or "*/*").split(",") if part.strip()]
    best: tuple[float, int, int] | None = None
    choice = ""
    for at, media_type in enumerate(offered):
        fitting = [
            (exact, weight, order) for order, (name, weight) in enumerate(wishes) if (exact := _fit(name, media_type))
        ]
        if not fitting:
            continue
        _, weight, order = max(fitting, key=lambda one: one[0])  # the most exact wish is the one that counts
        rank = (weight, -order, -at)
        if weight > 0 and (best is None or rank > best):
            best, choice = rank, media_type
    if not choice:
        raise HttpError(f"expected Accept to take one of {', '.join(offered)}", code="http-not-acceptable")
    return choice


def _wish(part: str) -> tuple[str, float]:
    name, *parameters = (piece.strip().lower() for piece in part.split(";"))
    weight = 1.0
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                weight = min(1.0, max(0.0, float(parameter[2:])))
            except ValueError:
                weight = 0.0
    return name, weight if weight == weight else 0.0


def _fit(wish: str, media_type: str) -> int:
    """Return how exactly a wish names a type; 0 if not at all."""
    if wish == media_type:
        return 3
    if wish == media_type.split("/")[0] + "/*":
        return 2
    return 1 if wish == "*/*" else 0

"""What HTTP itself refuses, and the status of every error's code; no library of HTTP is needed for it."""

from satellite.errors import SatelliteError
from satellite.languages import read_yaml

_LISTED = read_yaml("satellite.http", "error_codes.yaml")
_STATUS_BY_CODE: dict[str, int] = {code: status for status, codes in _LISTED["codes"].items() for code in codes}
_STATUS_BY_KIND: dict[str, int] = {kind: status for status, kinds in _LISTED["kinds"].items() for kind in kinds}


class HttpError(SatelliteError):
    """A request that is refused for what it is as HTTP; `headers` go with the answer, `more` into its body."""

    def __init__(self, message: str, *, code: str, headers: dict[str, str] | None = None, **more: object) -> None:
        super().__init__(message, code=code)
        self.headers = headers or {}
        self.more = more


_CODE_BY_STATUS = {status: code for code, status in _STATUS_BY_CODE.items() if code.startswith("http-")}


def code_of(status: int) -> str:
    """Return the code of an error that is known by its HTTP status alone."""
    return _CODE_BY_STATUS.get(status, "http-invalid")


def status_of(code: str) -> int:
    """Return the HTTP status of an error's code."""
    if code in _STATUS_BY_CODE:
        return _STATUS_BY_CODE[code]
    kind = code.split("-", 1)[-1]
    if kind.startswith(("unknown-", "unsupported-")):
        return 422
    return _STATUS_BY_KIND.get(kind, 500)

"""What HTTP itself refuses, and the status of every error's code; no library of HTTP is needed for it."""

from satellite.errors import SatelliteError

_STATUS_BY_CODE = {
    "http-unauthorized": 401,
    "http-host-refused": 421,
    "http-origin-refused": 403,
    "unsupported_parameter": 400,
    "model_not_found": 404,
    "http-not-found": 404,
    "no-certificate": 404,
    "http-method-not-allowed": 405,
    "http-not-acceptable": 406,
    "http-timeout": 408,
    "http-body-too-large": 413,
    "http-unsupported-media-type": 415,
    "http-invalid": 422,
    "http-rate-limited": 429,
    "http-busy": 503,
    "not-ready": 503,
    "announce-failed": 502,
    "audio-too-long": 413,
    "audio-unreadable": 415,
    "protocol-error": 400,
    "unknown-room": 422,
    "room-busy": 409,
    "room-cannot-start": 409,
    "room-listens-only": 409,
    "room-name-taken": 409,
    "media-not-found": 404,
    "media-unreadable": 422,
    "media-unreachable": 502,
    "stt-no-speech": 422,
    "stt-no-text-recognized": 422,
    "stt-unsupported-language": 422,
    "stt-empty": 422,
    "tts-empty": 422,
}

_STATUS_BY_KIND = {
    "too-long": 413,
    "busy": 503,
    "not-ready": 503,
    "rate-limited": 503,
    "unreachable": 503,
    "timeout": 504,
    "refused": 502,
    "empty": 502,
}


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
    if code == "chat-failed":
        return 502
    return _STATUS_BY_KIND.get(kind, 500)

"""What went wrong, in one shape for every endpoint: problem details (RFC 9457) with the stable codes of our errors."""

import json
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

from satellite.errors import SatelliteError, shown
from satellite.http.error_codes import HttpError, status_of

MEDIA_TYPE = "application/problem+json"

_CODE_BY_STATUS = {
    404: "http-not-found",
    405: "http-method-not-allowed",
    406: "http-not-acceptable",
    408: "http-timeout",
    413: "http-body-too-large",
    415: "http-unsupported-media-type",
    429: "http-rate-limited",
}


class Problem(BaseModel):
    """What went wrong (RFC 9457)."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(examples=["urn:satellite:error:chat-unreachable"])
    title: str = Field(examples=["Service Unavailable"])
    status: int = Field(examples=[503])
    detail: str = Field(examples=["no provider answers: ollama: cannot be reached"])
    code: str = Field(examples=["chat-unreachable"])


def problem(code: str, detail: str, *, status: int | None = None, **more: Any) -> dict[str, Any]:
    """Return the body of a problem."""
    status = status or status_of(code)
    return {
        "type": f"urn:satellite:error:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
        **more,
    }


def of_error(error: Exception) -> dict[str, Any]:
    """Return the problem of an error; what is not one of ours is told to nobody but the log."""
    if not isinstance(error, SatelliteError) or error.code == SatelliteError.default_code:
        return problem(SatelliteError.default_code, "something broke that should not; the log says what", status=500)
    return problem(error.code, str(error), **getattr(error, "more", {}))


def response_to(path: str, error: Exception) -> Response:
    """Return what a client of `path` is answered because of an error."""
    return _response(path, of_error(error), getattr(error, "headers", None))


def _response(path: str, body: dict[str, Any], headers: dict[str, str] | None = None) -> Response:
    if path.startswith("/v1/"):  # in OpenAI's shape as well, which their clients show
        kind = "invalid_request_error" if body["status"] < HTTPStatus.INTERNAL_SERVER_ERROR else "server_error"
        body["error"] = {"message": body["detail"], "type": kind, "code": body["code"], "param": body.get("param")}
    headers = dict(headers or {})
    headers.pop("content-length", None)
    if body["status"] == HTTPStatus.SERVICE_UNAVAILABLE:
        headers.setdefault("Retry-After", "1")
    return Response(json.dumps(body, allow_nan=False), body["status"], headers, MEDIA_TYPE)


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return what an endpoint's description says of its errors; those of every request are always among them."""
    schema = {"$ref": "#/components/schemas/Problem"}
    every = {400, 401, 403, 408, 413, 415, 421, 422, 429, 500, 503, *statuses}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: {"schema": schema}}}
        for status in sorted(every)
    }


def install(app: FastAPI) -> None:
    """Let every error of `app` be told in the one shape."""
    app.add_exception_handler(SatelliteError, _told)
    app.add_exception_handler(Exception, _told)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)


async def _told(request: Request, error: Exception) -> Response:
    return response_to(request.url.path, error)


async def _invalid(request: Request, error: Exception) -> Response:
    """Say what is wrong with a request, without repeating it: it may hold what somebody said."""
    assert isinstance(error, RequestValidationError)
    sent = request.headers.get("content-type", "")
    if any(one["loc"] == ("body",) for one in error.errors()) and not _is_json(sent):
        told = f"the request is {shown(sent)}" if sent else "the request has no Content-Type"
        return response_to(
            request.url.path, HttpError(f"{told}; expected application/json", code="http-unsupported-media-type")
        )
    errors = [{"where": _dotted(one["loc"]), "what": one["msg"]} for one in error.errors()[:20]]
    detail = "; ".join(f"{one['where']}: {one['what']}" for one in errors)
    param = errors[0]["where"].removeprefix("body.")
    return _response(request.url.path, problem("http-invalid", detail, errors=errors, param=param))


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = _CODE_BY_STATUS.get(error.status_code, "http-invalid")
    body = problem(code, str(error.detail), status=error.status_code)
    headers = dict(error.headers or {})
    if headers.get("Allow") == "GET":
        headers["Allow"] = "GET, HEAD"  # the guard sees to that
    return _response(request.url.path, body, headers)


def _is_json(content_type: str) -> bool:
    kind, _, subtype = content_type.partition(";")[0].strip().lower().partition("/")
    return kind == "application" and (subtype == "json" or subtype.endswith("+json"))


def _dotted(where: tuple[Any, ...]) -> str:
    return ".".join(str(step) for step in where)[:200]

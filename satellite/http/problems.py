"""Errors of every endpoint as problem details (RFC 9457), with the stable codes of our errors."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, Response
from starlette.types import Scope

from satellite.errors import SatelliteError, shown
from satellite.http.error_codes import HttpError, code_of, status_of

MEDIA_TYPE = "application/problem+json"

# Without a style: the policy allows none in the page, and who is refused cannot fetch one.
_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<title>satellite: {title}</title>
<h1>This page cannot be shown</h1>
<p>{sentence}.</p>
<p><code>{status} {code}</code></p>
</html>
"""


class Problem(BaseModel):
    """What went wrong (RFC 9457)."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(examples=["urn:satellite:error:chat-unreachable"])
    title: str = Field(examples=["Service Unavailable"])
    status: int = Field(examples=[503])
    detail: str = Field(examples=["no provider answers: ollama: cannot be reached"])
    code: str = Field(examples=["chat-unreachable"])


def problem(
    code: str, detail: str, more: Mapping[str, object] = MappingProxyType({}), *, status: int | None = None
) -> Problem:
    """Return a problem, with `more` members, and with the status of its code unless another is given."""
    status = status or status_of(code)
    title = HTTPStatus(status).phrase
    fields = {"type": f"urn:satellite:error:{code}", "title": title, "status": status, "detail": detail, "code": code}
    return Problem.model_validate({**fields, **more})


def of_error(error: Exception) -> Problem:
    """Return the problem of an error; the details of a foreign exception are only in the log."""
    if not isinstance(error, SatelliteError) or error.code == SatelliteError.default_code:
        return problem(SatelliteError.default_code, "something broke that should not; the log says what", status=500)
    return problem(error.code, str(error), error.more if isinstance(error, HttpError) else {})


def response_to(asked: Scope, error: Exception) -> Response:
    """Return the answer to a request that failed with an error: for somebody who opens a page, a page."""
    return _response(asked, of_error(error), error.headers if isinstance(error, HttpError) else {})


def _response(asked: Scope, failure: Problem, headers: Mapping[str, str] = MappingProxyType({})) -> Response:
    body = failure.model_dump()
    if asked["path"].startswith("/v1/"):  # in OpenAI's form as well, which its clients show
        kind = "invalid_request_error" if failure.status < HTTPStatus.INTERNAL_SERVER_ERROR else "server_error"
        body["error"] = {"message": failure.detail, "type": kind, "code": failure.code, "param": body.get("param")}
    headers = {name: value for name, value in headers.items() if name.lower() != "content-length"}
    if failure.status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers.setdefault("Retry-After", "1")
    if "text/html" in Headers(scope=asked).get("accept", ""):  # no program asks for that
        sentence = failure.detail[:1].upper() + failure.detail[1:]
        shown_fields = {name: escape(str(value)) for name, value in {**body, "sentence": sentence}.items()}
        return HTMLResponse(_PAGE.format_map(shown_fields), failure.status, headers)
    return Response(json.dumps(body, allow_nan=False), failure.status, headers, MEDIA_TYPE)


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI description of an endpoint's errors: `statuses`, and those that any request may get."""
    schema = {"$ref": "#/components/schemas/Problem"}
    every = {400, 401, 403, 408, 413, 415, 421, 422, 429, 500, 503, *statuses}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: {"schema": schema}}}
        for status in sorted(every)
    }


def install(app: FastAPI) -> None:
    """Have `app` answer every error with a problem."""
    app.add_exception_handler(SatelliteError, _problem_of)
    app.add_exception_handler(Exception, _problem_of)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)


async def _problem_of(request: Request, error: Exception) -> Response:
    return response_to(request.scope, error)


async def _invalid(request: Request, error: Exception) -> Response:
    """Describe what is wrong with a request without quoting it: it may contain what somebody said."""
    assert isinstance(error, RequestValidationError)
    sent = request.headers.get("content-type", "")
    if any(one["loc"] == ("body",) for one in error.errors()) and not _is_json(sent):
        kind = f"the request is {shown(sent)}" if sent else "the request has no Content-Type"
        return response_to(
            request.scope, HttpError(f"{kind}; expected application/json", code="http-unsupported-media-type")
        )
    errors = [{"where": _dotted(one["loc"]), "what": one["msg"]} for one in error.errors()[:20]]
    detail = "; ".join(f"{one['where']}: {one['what']}" for one in errors)
    param = errors[0]["where"].removeprefix("body.")
    return _response(request.scope, problem("http-invalid", detail, {"errors": errors, "param": param}))


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = code_of(error.status_code)
    headers = dict(error.headers or {})
    if headers.get("Allow") == "GET":
        headers["Allow"] = "GET, HEAD"  # the guard makes GET of HEAD
    detail, asked = str(error.detail), f"{request.method} {shown(request.url.path)}"
    if error.status_code == HTTPStatus.NOT_FOUND:
        detail = f"nothing answers {asked}; / is the dashboard, /room the page of a room, /openapi.json lists the rest"
    elif error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        detail = f"nothing answers {asked}, only {headers.get('Allow', 'another method')}"
    return _response(request.scope, problem(code, detail, status=error.status_code), headers)


def _is_json(content_type: str) -> bool:
    kind, _, subtype = content_type.partition(";")[0].strip().lower().partition("/")
    return kind == "application" and (subtype == "json" or subtype.endswith("+json"))


def _dotted(where: Sequence[str | int]) -> str:
    return ".".join(str(step) for step in where)[:200]

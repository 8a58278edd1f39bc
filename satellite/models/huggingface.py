"""Files of the Hugging Face hub, by its `resolve` endpoint: HEAD for size, hash and commit, GET for the content.

Not by huggingface_hub: version 2.4 gives partial files random names and deletes them on failure, so that no download
can be resumed later, and never compares the content with the announced hash. HF_ENDPOINT (a mirror), HF_TOKEN (for
private repositories) and HF_HUB_OFFLINE have the same meaning as there.
"""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

import httpx

from satellite.errors import ModelError, ProxyUnusable
from satellite.models.downloads import PLAN, Fetched, Report, require_space, seal
from satellite.models.spec import File, HubSource, ModelSpec
from satellite.net.proxies import proxy_for

_TIMEOUT = httpx.Timeout(30.0, connect=10.0)
_ATTEMPTS = 5
_REDIRECTS = 5


@dataclass(frozen=True, slots=True)
class _Plan:
    base_url: str
    commit: str
    files: tuple[File, ...]

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)


def fetch(spec: ModelSpec, source: HubSource, folder: Path, report: Report) -> Fetched:
    """Fill `folder` with the files of `spec`, resuming an earlier attempt; raises ModelError."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise ModelError(f"cannot fetch {spec.reference}: HF_HUB_OFFLINE is set", code="model-download-failed")
    # Without compression: sizes and ranges are those of the content.
    headers = {"User-Agent": "satellite", "Accept-Encoding": "identity"}
    if token := os.environ.get("HF_TOKEN"):
        headers["Authorization"] = f"Bearer {token}"
    with (
        _http_errors(source),
        httpx.Client(
            headers=headers,
            timeout=_TIMEOUT,
            trust_env=False,
            proxy=proxy_for(_endpoint()),
            verify=httpx.create_ssl_context(trust_env=True),  # SSL_CERT_FILE
        ) as client,
    ):
        plan = _describe(client, spec, source)
        _prepare(folder, plan)
        require_space(folder, plan.size_bytes - sum(_size(folder / file.name) for file in plan.files))
        files = tuple(_obtain(client, plan, folder, report))
    return Fetched(files, f"{source.repository}@{plan.commit} (hub)")


def _describe(client: httpx.Client, spec: ModelSpec, source: HubSource) -> _Plan:
    """Return size and hash of every file, all of the same commit."""
    repository_url = f"{_endpoint()}/{source.repository}/resolve"
    folder = quote(f"{source.folder}/" if source.folder else "")
    commit = source.revision
    files = []
    for file in spec.files:
        response = _head(client, f"{repository_url}/{quote(commit)}/{folder}{quote(file.in_repository or file.name)}")
        if response.status_code == httpx.codes.NOT_FOUND and file.optional:
            continue
        if response.is_error:
            response.raise_for_status()
        # The other files are asked of this commit: the branch may move between two requests.
        commit = response.headers.get("X-Repo-Commit", commit)
        files.append(_announced(file, response))
    if source.one_of and not {file.name for file in files} & set(source.one_of):
        raise ModelError(
            f"the hub's {source.repository} has none of {', '.join(source.one_of)}", code="model-download-failed"
        )
    return _Plan(f"{repository_url}/{quote(commit)}/{folder}", commit, tuple(files))


def _endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or "https://huggingface.co"


def _head(client: httpx.Client, url: str) -> httpx.Response:
    """Follow redirects inside the hub; the one to its storage already has size and hash."""
    response = client.head(url)
    for _ in range(_REDIRECTS):
        following = response.next_request
        if following is None or following.url.host != response.url.host:
            break
        response = client.send(following)
    return response


def _announced(file: File, response: httpx.Response) -> File:
    """Return `file` with the hub's size and hash, which must agree with the catalogue's."""
    headers = response.headers
    size = headers.get("X-Linked-Size") or ("" if response.is_redirect else headers.get("Content-Length", ""))
    etag = (headers.get("X-Linked-Etag") or headers.get("ETag", "")).removeprefix("W/").strip('"').lower()
    sha256 = etag if re.fullmatch(r"[0-9a-f]{64}", etag) else None
    sha1 = etag if re.fullmatch(r"[0-9a-f]{40}", etag) else None
    if not size.isdecimal() or not (file.pinned or sha256 or sha1):
        raise ModelError(f"the hub does not announce size and hash of {file.name}", code="model-download-failed")
    if file.pinned and file.size_bytes != int(size):
        raise ModelError(f"{file.name} is not the one of the catalogue: the hub has {size} bytes", code="model-corrupt")
    return replace(file, size_bytes=int(size), sha256=file.sha256 or sha256, sha1=sha1)


def _prepare(folder: Path, plan: _Plan) -> None:
    """Keep the files of an earlier attempt only if it was for the same content."""
    identity = "".join(f"{file.name} {file.size_bytes} {file.sha256 or file.sha1 or file.md5}\n" for file in plan.files)
    marker = folder / PLAN
    if not marker.is_file() or marker.read_text(encoding="utf-8") != identity:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        marker.write_text(identity, encoding="utf-8")


def _obtain(client: httpx.Client, plan: _Plan, folder: Path, report: Report) -> Iterator[File]:
    before = 0  # bytes of the files that are complete
    for file in plan.files:

        def advance(have_bytes: int, before: int = before) -> None:
            report(before + have_bytes, plan.size_bytes)

        _download(client, f"{plan.base_url}{quote(file.in_repository or file.name)}", file, folder / file.name, advance)
        yield seal(folder / file.name, file)
        before += file.size_bytes


def _download(client: httpx.Client, url: str, file: File, target: Path, advance: Callable[[int], None]) -> None:
    """Fetch the rest of `target`; after a broken connection, resume as long as each attempt makes progress."""
    for attempt in range(_ATTEMPTS):
        have = _size(target)
        if have >= file.size_bytes and target.exists():
            break
        try:
            _append(client, url, file, target, advance)
        except httpx.TransportError:
            if _size(target) <= have or attempt == _ATTEMPTS - 1:
                raise
    advance(file.size_bytes)


def _append(client: httpx.Client, url: str, file: File, target: Path, advance: Callable[[int], None]) -> None:
    have = _size(target)
    headers = {"Range": f"bytes={have}-"} if have else {}
    with client.stream("GET", url, headers=headers, follow_redirects=True) as response:
        response.raise_for_status()
        if response.status_code != httpx.codes.PARTIAL_CONTENT:
            have = 0  # the server does not support ranges, and sends the whole file
        with target.open("ab" if have else "wb") as output:
            for chunk in response.iter_bytes():
                have += len(chunk)
                if have > file.size_bytes:  # or a broken server would fill the disk
                    raise ModelError(f"{file.name} is longer than announced", code="model-corrupt")
                output.write(chunk)
                advance(have)
    if have < file.size_bytes:
        raise httpx.RemoteProtocolError(f"{file.name} ended after {have} of {file.size_bytes} bytes")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


@contextmanager
def _http_errors(source: HubSource) -> Iterator[None]:
    what = f"cannot fetch {source.repository} from {_endpoint()}"
    try:
        yield
    except httpx.HTTPStatusError as error:
        status, url = error.response.status_code, error.request.url
        hint = "; no such file or repository, or a private one (HF_TOKEN)" if status in (401, 403, 404) else ""
        message = f"{what}: {url.copy_with(query=None)} answered {status}{hint}"
        raise ModelError(message, code="model-download-failed") from error
    except (httpx.HTTPError, httpx.InvalidURL, ProxyUnusable) as error:
        reason = str(error) or type(error).__name__
        raise ModelError(f"{what}: {reason}", code="model-download-failed") from error

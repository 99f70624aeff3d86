"""A repository of the Hugging Face hub, written to over its HTTP API: made, filled by git LFS and one commit, and looked at afterwards.

The API: https://huggingface.co/docs/hub/api and git LFS's batch API, https://github.com/git-lfs/git-lfs/blob/main/docs/api/batch.md.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from itertools import islice
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, urljoin, urlsplit

import httpx

from quantry.config import checked_url
from quantry.errors import ClientError, ConfigurationError
from quantry.messages import USER_AGENT, is_loopback, trouble_words

DEFAULT_ENDPOINT = "https://huggingface.co"
DEFAULT_REVISION = "main"
MAX_PREUPLOAD_FILES = 256
TIMEOUT_S = 60.0

_LFS = "application/vnd.git-lfs+json"
_SHOWN_CHARS = 300
_PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?"
_REPOSITORY = re.compile(rf"{_PART}/{_PART}")
_REVISION = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._/-]{0,126}[A-Za-z0-9])?")


class HubRefused(ClientError):
    """The hub says no, or what it holds afterwards is not what was sent."""


class HubUnreachable(ClientError):
    """The hub does not answer."""


@dataclass(frozen=True)
class HubFile:
    """A file as the hub lists it. A large one has a SHA-256, any other the id of a git blob alone."""

    path: str
    size_bytes: int
    sha256: str | None
    blob_id: str | None


@dataclass(frozen=True)
class LargeFile:
    """What goes by git LFS: known by its digest."""

    path: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Upload:
    """How the hub wants a large file: at one address, or in parts of ``part_bytes`` at several, told at ``href`` when all are there."""

    href: str
    part_urls: Sequence[str] = ()
    part_bytes: int = 0
    verify_href: str | None = None


def endpoint_of(environ: Mapping[str, str] = os.environ) -> str:
    """Returns the hub's address: HF_ENDPOINT, else that of the public one. Raises ConfigurationError for what is no address."""
    return checked_url(environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT)


def token_of(environ: Mapping[str, str] = os.environ) -> str:
    """Returns the caller's own token: HF_TOKEN, else what ``hf auth login`` wrote. Raises ConfigurationError naming both."""
    path = Path(environ.get("HF_TOKEN_PATH") or Path(environ.get("HF_HOME") or "~/.cache/huggingface").expanduser() / "token")
    token = environ.get("HF_TOKEN") or (path.read_text(encoding="utf-8", errors="replace") if path.is_file() else "")
    token = token.strip()
    if not token or not token.isascii() or not token.isprintable():
        raise ConfigurationError(f"no token of the Hugging Face hub found: set HF_TOKEN, or run 'hf auth login', which writes {path}")
    return token


class HubRepository:
    """One repository of models at one revision. Close it after use. All methods raise HubRefused or HubUnreachable.

    The token goes to ``endpoint`` alone: what the hub says to upload to elsewhere is asked without it.
    """

    def __init__(
        self,
        repository: str,
        token: str,
        *,
        endpoint: str = DEFAULT_ENDPOINT,
        revision: str = DEFAULT_REVISION,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        if _REPOSITORY.fullmatch(repository) is None or ".." in repository or "--" in repository:
            raise ConfigurationError(f"a repository of the hub is written owner/name, not {repository[:_SHOWN_CHARS]!r}")
        if _REVISION.fullmatch(revision) is None or ".." in revision or "//" in revision:
            raise ConfigurationError(f"{revision[:_SHOWN_CHARS]!r} cannot be the name of a branch")
        self.repository = repository
        self.revision = revision
        self._endpoint = checked_url(endpoint)
        common: dict[str, Any] = {
            "timeout": httpx.Timeout(TIMEOUT_S),
            "follow_redirects": False,
            "transport": transport,
            "trust_env": not is_loopback(self._endpoint),
        }
        self._hub = httpx.Client(headers={"user-agent": USER_AGENT, "authorization": f"Bearer {token}"}, **common)
        self._elsewhere = httpx.Client(headers={"user-agent": USER_AGENT}, **common)

    def close(self) -> None:
        """Closes the connections."""
        self._hub.close()
        self._elsewhere.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        """Where people look at it."""
        return f"{self._endpoint}/{self.repository}"

    def create(self, *, is_private: bool) -> bool:
        """Makes the repository and the branch, and returns whether the repository is new; one that is there stays as it is.

        Raises HubRefused where it is public and ``is_private`` asks for a private one.
        """
        owner, name = self.repository.split("/")
        body = {"name": name, "organization": owner, "type": "model", "visibility": "private" if is_private else "public"}
        answer = self._ask("POST", "/api/repos/create", json=body, allowed={HTTPStatus.CONFLICT})
        is_new = answer.status_code != HTTPStatus.CONFLICT
        if not is_new and is_private and _object(self._ask("GET", f"/api/models/{self.repository}")).get("private") is not True:
            raise HubRefused(f"{self.repository} is there already and is public; nothing was sent. Make it private on the hub first")
        if self.revision != DEFAULT_REVISION:
            branch = quote(self.revision, safe="")
            self._ask("POST", f"/api/models/{self.repository}/branch/{branch}", json={}, allowed={HTTPStatus.CONFLICT})
        return is_new

    def files(self, revision: str | None = None) -> list[HubFile]:
        """Returns what lies in the repository at a revision, its own where None."""
        at = quote(revision or self.revision, safe="")
        address: str | None = f"/api/models/{self.repository}/tree/{at}?recursive=true&expand=false"
        found: list[HubFile] = []
        while address is not None:
            answer = self._ask("GET", address)
            found += [_listed(entry) for entry in _rows(answer) if entry.get("type") == "file"]
            following = answer.links.get("next", {}).get("url")
            address = None if following is None else self._own(following)
        return found

    def large_of(self, samples: Mapping[str, tuple[int, bytes]]) -> set[str]:
        """Returns which of these files the hub wants by git LFS. ``samples``: size and first bytes of each, by path."""
        large: set[str] = set()
        remaining = iter(samples.items())
        while chunk := list(islice(remaining, MAX_PREUPLOAD_FILES)):
            files = [
                {"path": path, "size": size_bytes, "sample": base64.b64encode(sample).decode()} for path, (size_bytes, sample) in chunk
            ]
            answer = self._ask("POST", f"/api/models/{self.repository}/preupload/{self._at}", json={"files": files})
            modes = {file["path"]: file["uploadMode"] for file in _object(answer)["files"]}
            if set(modes) != {path for path, _ in chunk}:
                raise HubRefused(f"{self._endpoint} does not say how it wants every file: is it a hub?")
            large |= {path for path, mode in modes.items() if mode == "lfs"}
        return large

    def uploads(self, files: Sequence[LargeFile]) -> dict[str, Upload]:
        """Returns by digest how the hub wants those large files that it does not have; what is missing it has."""
        objects = [{"oid": file.sha256, "size": file.size_bytes} for file in files]
        body = {
            "operation": "upload",
            "transfers": ["basic", "multipart"],
            "hash_algo": "sha256",
            "ref": {"name": self.revision},
            "objects": objects,
        }
        answer = self._ask("POST", f"/{self.repository}.git/info/lfs/objects/batch", json=body, headers={"accept": _LFS})
        wanted: dict[str, Upload] = {}
        sizes = {file.sha256: file.size_bytes for file in files}
        for told in _object(answer)["objects"]:
            if "error" in told:
                raise HubRefused(f"the hub does not take {told['oid']}: {str(told['error'].get('message'))[:_SHOWN_CHARS]}")
            if told.get("actions"):
                wanted[told["oid"]] = self._upload(told["actions"], sizes[told["oid"]])
        return wanted

    def put(self, url: str, pieces: Iterable[bytes], size_bytes: int) -> str:
        """Sends bytes to an address that the hub told, without the token; returns the ETag of what arrived."""
        headers = {"content-length": str(size_bytes)}
        return str(self._exchange(self._elsewhere, "PUT", url, content=iter(pieces), headers=headers).headers.get("etag", ""))

    def finish(self, file: LargeFile, upload: Upload, etags: Sequence[str]) -> None:
        """Tells the hub that a large file is there whole."""
        if upload.part_urls:
            parts = [{"partNumber": number, "etag": etag} for number, etag in enumerate(etags, 1)]
            client = self._hub if self._is_own(upload.href) else self._elsewhere
            self._exchange(client, "POST", upload.href, json={"oid": file.sha256, "parts": parts}, headers={"accept": _LFS})
        if upload.verify_href is not None:
            client = self._hub if self._is_own(upload.verify_href) else self._elsewhere
            self._exchange(client, "POST", upload.verify_href, json={"oid": file.sha256, "size": file.size_bytes})

    def commit(self, summary: str, *, small: Mapping[str, bytes], large: Sequence[LargeFile], removed: Sequence[str]) -> str:
        """Returns the id of one commit with all of it, made whole or not at all."""
        lines: list[dict[str, Any]] = [{"key": "header", "value": {"summary": summary, "description": ""}}]
        for path, content in small.items():
            lines.append({"key": "file", "value": {"path": path, "content": base64.b64encode(content).decode(), "encoding": "base64"}})
        for file in large:
            value: dict[str, Any] = {"path": file.path, "algo": "sha256", "oid": file.sha256, "size": file.size_bytes}
            lines.append({"key": "lfsFile", "value": value})
        lines += [{"key": "deletedFile", "value": {"path": path}} for path in removed]
        body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        answer = self._ask(
            "POST", f"/api/models/{self.repository}/commit/{self._at}", content=body, headers={"content-type": "application/x-ndjson"}
        )
        return str(_object(answer)["commitOid"])

    @property
    def _at(self) -> str:
        return quote(self.revision, safe="")

    def _upload(self, actions: Mapping[str, Any], size_bytes: int) -> Upload:
        upload, verify = actions["upload"], actions.get("verify")
        verify_href = None if verify is None else urljoin(f"{self._endpoint}/", verify["href"])
        header = upload.get("header") or {}
        if "chunk_size" not in header:
            return Upload(upload["href"], verify_href=verify_href)
        part_bytes = int(header["chunk_size"])
        numbered = sorted((int(number), url) for number, url in header.items() if number.isdigit())
        if part_bytes < 1 or len(numbered) != -(-size_bytes // part_bytes):
            raise HubRefused("the hub asks for a large file in parts that do not make it whole")
        return Upload(upload["href"], [url for _, url in numbered], part_bytes, verify_href)

    def _own(self, url: str) -> str:
        if not self._is_own(url):
            raise HubRefused(f"the hub's list goes on at another server: {urlsplit(url).netloc}")
        return url

    def _is_own(self, url: str) -> bool:
        return url.startswith("/") or urlsplit(url)[:2] == urlsplit(self._endpoint)[:2]

    def _ask(self, method: str, path: str, *, allowed: frozenset[int] | set[int] = frozenset(), **request: Any) -> httpx.Response:
        return self._exchange(self._hub, method, path if "://" in path else self._endpoint + path, allowed=allowed, **request)

    def _exchange(
        self, client: httpx.Client, method: str, url: str, *, allowed: frozenset[int] | set[int] = frozenset(), **request: Any
    ) -> httpx.Response:
        try:
            answer = client.request(method, url, **request)
        except httpx.TransportError as error:
            raise HubUnreachable(f"{urlsplit(url).netloc} does not answer: {trouble_words(error)}") from error
        if not answer.is_success and answer.status_code not in allowed:
            raise HubRefused(_why(answer, self.repository))
        return answer


def _object(answer: httpx.Response) -> dict[str, Any]:
    told = _parsed(answer)
    if not isinstance(told, dict):
        raise HubRefused(f"what {answer.request.url.path} answers is not what a hub answers")
    return told


def _parsed(answer: httpx.Response) -> Any:
    try:
        return answer.json()
    except ValueError as error:
        raise HubRefused(f"what {answer.request.url.path} answers is no JSON: is it a hub?") from error


def _rows(answer: httpx.Response) -> Iterator[Mapping[str, Any]]:
    rows = _parsed(answer)
    if not isinstance(rows, list):
        raise HubRefused("the hub does not list its files: is it a hub?")
    yield from rows


def _listed(entry: Mapping[str, Any]) -> HubFile:
    lfs = entry.get("lfs") or {}
    return HubFile(str(entry["path"]), int(entry["size"]), lfs.get("oid"), entry.get("oid"))


def _why(answer: httpx.Response, repository: str) -> str:
    said = (answer.headers.get("x-error-message") or _error_text(answer))[:_SHOWN_CHARS]
    hint = {
        HTTPStatus.UNAUTHORIZED: "; is the token right, and does it have write access?",
        HTTPStatus.FORBIDDEN: f"; a token with write access to {repository} is needed",
        HTTPStatus.NOT_FOUND: "; there is nothing of that name, or the token may not see it",
    }.get(HTTPStatus(answer.status_code), "")
    return f"the hub answers {answer.status_code} at {answer.request.url.path}: {said or answer.reason_phrase}{hint}"


def _error_text(answer: httpx.Response) -> str:
    try:
        told = answer.json()
    except ValueError:
        return ""
    return str(told.get("error") or told.get("message") or "") if isinstance(told, dict) else ""

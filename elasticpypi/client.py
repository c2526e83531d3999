"""Uploads to an index over HTTP, as its `/api/v1/uploads` takes them: in parts, and on from where a connection broke.

Whatever goes wrong on the way, the next step is the same: begin again, which changes nothing and tells how much has
arrived, or that somebody has brought the file in the meantime.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar
from urllib.parse import urljoin

import requests
from requests.utils import get_netrc_auth

from elasticpypi.digests import hex_digest
from elasticpypi.errors import UploadFailedError, UploadRefusedError
from elasticpypi.index import Added, prove_alone
from elasticpypi.names import ParsedFilename, parse_filename

T = TypeVar("T")
Progress = Callable[[int], None]  # is told how many bytes of a file have been sent

_PATH = "api/v1/uploads"
_DELAYS_SECONDS = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)  # a minute in all, as long as nothing arrives
_MOST_DELAY_SECONDS = 60.0  # whatever Retry-After says
_TIMEOUT_SECONDS = (60.0, 300.0)  # until connected or something was sent, until answered; a large file takes its time
_LEAST_PART_BYTES = 512 * 1024  # nginx takes 1 MiB if nobody has told it otherwise
_PASSING = frozenset({408, 425, 429, 502, 503, 504})  # statuses after which asking again may help
_MOST_CHARACTERS = 500  # of a sentence that an index says


def netrc_credentials(url: str) -> tuple[str, str] | None:
    """Return the username and password that a netrc file (`NETRC`, else `~/.netrc`) has for a URL's host."""
    return get_netrc_auth(url)


@dataclass(frozen=True, slots=True)
class CheckedFile:
    """A file that was read and found good."""

    path: Path
    parsed: ParsedFilename
    size: int  # bytes
    sha256: str

    @property
    def filename(self) -> str:
        return self.parsed.filename


def check_file(path: Path) -> CheckedFile:
    """Read a file as an index will; raise InvalidFilenameError or InvalidUploadError where it would be refused."""
    parsed = parse_filename(path.name)
    with path.open("rb") as stream:
        sha256 = hex_digest(stream, "sha256")
        size = stream.tell()
        prove_alone(path.name, stream, sha256)
    return CheckedFile(path, parsed, size, sha256)


class _InterruptedError(Exception):
    """Something that passes; the text says what."""

    def __init__(self, problem: str, *, retry_after_seconds: float | None = 0.0) -> None:
        super().__init__(problem)
        self.retry_after_seconds = retry_after_seconds  # None: at once, since another thing will be tried


@dataclass(frozen=True, slots=True)
class _Slot:
    """Where the parts of one file go."""

    received: int  # bytes
    part_bytes: int  # that the index likes best
    parts_url: str
    finish_url: str


class IndexClient:
    """An index that files are uploaded to. Every method may raise UploadFailedError."""

    def __init__(self, url: str, credentials: tuple[str, str] | None, *, wait: Callable[[float, str], None]) -> None:
        """`wait(seconds, problem)` is called before something is tried again."""
        self._uploads_url = urljoin(url, _PATH)
        self._wait = wait
        self._part_bytes: int | None = None  # smaller than the index likes, once something has gone wrong
        self._session = requests.Session()
        if credentials is not None:
            username, password = credentials
            # requests encodes them as latin-1, whatever they are: this way UTF-8 arrives.
            self._session.auth = (username.encode().decode("latin-1"), password.encode().decode("latin-1"))

    def close(self) -> None:
        """Close the connection."""
        self._session.close()

    def has(self, file: CheckedFile) -> bool:
        """Whether the file is there already; raise UploadRefusedError where the index says that it will not take it."""
        return self._persist(lambda _: self._begin(file)) is None

    def upload(self, file: CheckedFile, progress: Progress) -> Added:
        """Send what is not there yet of a file, and have it listed; raise UploadRefusedError."""

        def attempt(patience: _Patience) -> Added:
            slot = self._begin(file)
            if slot is None:
                return Added.UNCHANGED
            patience.renew(slot.received)
            self._send_rest(file, slot, progress)
            return _read_added(self._ask_slot("POST", slot.finish_url))

        return self._persist(attempt)

    def _persist(self, attempt: Callable[[_Patience], T]) -> T:
        """Try again whatever is interrupted, as long as the patience lasts."""
        patience = _Patience(self._wait)
        while True:
            try:
                return attempt(patience)
            except _InterruptedError as problem:
                patience.wait(problem)
                if self._part_bytes is not None:  # what is broken or refused on the way is so less often if it is small
                    self._part_bytes = max(_LEAST_PART_BYTES, self._part_bytes // 4)

    def _begin(self, file: CheckedFile) -> _Slot | None:
        """Return where a file goes; None if it is there."""
        document = {"filename": file.filename, "size": file.size, "sha256": file.sha256}
        response = self._ask("POST", self._uploads_url, json=document)
        if response.status_code in (404, 405):
            raise self._not_ours()
        answer = _checked(response)
        return None if answer.get("status") == "unchanged" else self._read_slot(answer, file.size)

    def _read_slot(self, answer: Mapping[str, Any], size: int) -> _Slot:
        try:
            urls = [urljoin(self._uploads_url, answer[key]) for key in ("parts-url", "finish-url")]
            slot = _Slot(int(answer["received"]), int(answer["part-bytes"]), *urls)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise self._not_ours() from error
        if not all(url.startswith(f"{self._uploads_url}/") for url in urls):  # which would be given the credentials
            raise self._not_ours()
        if not 0 <= slot.received <= size:
            raise self._not_ours()
        return slot

    def _not_ours(self) -> UploadFailedError:
        return UploadFailedError(
            f"{self._uploads_url} does not take uploads: correct the URL, or if the index is another than elasticpypi, "
            "use 'twine upload --repository-url'"
        )

    def _send_rest(self, file: CheckedFile, slot: _Slot, progress: Progress) -> None:
        self._part_bytes = self._part_bytes or max(slot.part_bytes, _LEAST_PART_BYTES)
        with file.path.open("rb") as stream:
            stream.seek(slot.received)
            progress(slot.received)
            for offset in range(slot.received, file.size, self._part_bytes):
                part = _Part(stream, offset, min(self._part_bytes, file.size - offset), progress)
                self._ask_slot(
                    "PATCH",
                    slot.parts_url,
                    data=part,
                    headers={"Upload-Offset": str(offset), "Content-Type": "application/partial-upload"},
                )

    def _ask_slot(self, method: str, url: str, **options: Any) -> Mapping[str, Any]:
        """Ask for a slot, which may be somebody else's turn, finished or gone; and a proxy may want smaller parts."""
        response = self._ask(method, url, **options)
        is_elsewhere = response.status_code == 409 and "received" in _document(response)
        if response.status_code == 413 and self._part_bytes != _LEAST_PART_BYTES:
            raise _InterruptedError(_sentence(response), retry_after_seconds=None)
        if response.status_code == 404 or is_elsewhere:
            raise _InterruptedError(_sentence(response))
        return _checked(response)

    def _ask(self, method: str, url: str, **options: Any) -> requests.Response:
        try:
            response = self._session.request(method, url, allow_redirects=False, timeout=_TIMEOUT_SECONDS, **options)
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise UploadFailedError(
                    f"the certificate of {url} is not trusted; name its authority with REQUESTS_CA_BUNDLE"
                ) from None
            raise _InterruptedError("the connection broke, or there was none") from None
        except requests.RequestException as error:
            raise UploadFailedError(f"{url} cannot be asked ({type(error).__name__}): correct the URL") from None
        if response.status_code in _PASSING:
            raise _InterruptedError(_sentence(response), retry_after_seconds=_retry_after(response))
        return response


class _Patience:
    """Waits longer and longer, until it is exhausted; renewed by every byte that arrives."""

    def __init__(self, wait: Callable[[float, str], None]) -> None:
        self._wait = wait
        self._delays = iter(_DELAYS_SECONDS)
        self._arrived = 0

    def renew(self, arrived: int) -> None:
        if arrived > self._arrived:
            self._arrived, self._delays = arrived, iter(_DELAYS_SECONDS)

    def wait(self, problem: _InterruptedError) -> None:
        if problem.retry_after_seconds is None:
            return
        delay = next(self._delays, None)
        if delay is None:
            raise UploadFailedError(f"{problem}; it was tried for a minute. The same command goes on where it stopped")
        self._wait(min(max(delay, problem.retry_after_seconds), _MOST_DELAY_SECONDS), str(problem))


class _Part:
    """A part of a file as the body of a request, which tells how far it has come."""

    def __init__(self, stream: BinaryIO, offset: int, size: int, progress: Progress) -> None:
        self._stream = stream
        self._position = offset
        self._end = offset + size
        self._size = size
        self._progress = progress

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:  # by which requests knows that this is to be streamed
        return iter(lambda: self.read(_LEAST_PART_BYTES), b"")

    def read(self, size: int = -1) -> bytes:
        left = self._end - self._position
        data = self._stream.read(left if size < 0 else min(size, left))
        if left and not data:
            raise UploadFailedError("the file has become shorter while it was sent; build it again")
        self._position += len(data)
        self._progress(self._position)
        return data


def _checked(response: requests.Response) -> Mapping[str, Any]:
    """Return what an index answers, if it has done what it was asked to."""
    if response.status_code in (200, 201):
        return _document(response)
    if response.is_redirect:
        elsewhere = _printable(response.headers["Location"])
        raise UploadFailedError(f"the index is elsewhere: give the URL that {elsewhere} belongs to")
    if response.status_code == 401 or response.status_code >= 500:
        raise UploadFailedError(_sentence(response))
    raise UploadRefusedError(_sentence(response))


def _document(response: requests.Response) -> Mapping[str, Any]:
    try:
        document = response.json()
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _read_added(answer: Mapping[str, Any]) -> Added:
    try:
        return Added[str(answer.get("status")).upper()]
    except KeyError as error:
        raise UploadFailedError("the index does not say what it has done: look at its pages") from error


def _sentence(response: requests.Response) -> str:
    """Return what an index says of an error, made safe for a terminal."""
    said = _document(response).get("message")
    if not isinstance(said, str) and response.headers.get("Content-Type", "").startswith("text/plain"):
        said = response.text
    sentence = _printable(said) if isinstance(said, str) else ""
    reason = _printable(str(response.reason))
    return sentence or f"the index, or a proxy before it, answers {response.status_code} {reason}"


def _printable(text: str) -> str:
    """Return the beginning of a text in one line, without what a terminal would take for more than text."""
    line = " ".join(text.split())[:_MOST_CHARACTERS]
    return "".join(character for character in line if character.isprintable())


def _retry_after(response: requests.Response) -> float:
    value = response.headers.get("Retry-After", "")
    return float(value) if value.isascii() and value.isdigit() else 0.0

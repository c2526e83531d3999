"""What comes in and how it is answered, put down at next to no cost and looked at later, by a thread of its own.

The path of a request pays for one tuple; what becomes of it (a line in the log, numbers for `/metrics`) is worked out
a few times a second for all that came meanwhile.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from elasticpypi.auth import Principal
from elasticpypi.index import Added
from elasticpypi.web.auth import FAILED, PRINCIPAL

if TYPE_CHECKING:
    from _typeshed import OptExcInfo
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_ADDED = "elasticpypi.added"
_INTERVAL_SECONDS = 0.05
_MOST_WAITING = 20_000  # while whoever reads the log has stopped; what comes then is not put down
_PATIENCE_SECONDS = 1.0
_ENDING_SECONDS = 3.0  # for the last exchanges, when the process ends
# Of what a client sends, in characters: a request may have hundreds of kilobytes of it, and it is kept for a while.
_ADDRESS, _METHOD, _PATH, _AGENT = 100, 20, 2000, 200


class Exchange(NamedTuple):
    """A request and the beginning of its answer. Texts are as the client sent them: hostile, but cut."""

    began: float  # seconds since 1970
    seconds: float  # until the answer began
    address: str  # of the client
    principal: Principal | None
    method: str
    path: str  # percent-decoded, its bytes read as latin-1 (PEP 3333)
    status: str  # three digits
    size: int  # bytes of the answer's body, as announced
    agent: str
    added: Added | None  # what an upload has come to
    failed: str | None = None  # where credentials were wrong: the username, "" if that may not be told


Watcher = Callable[[Sequence[Exchange]], None]


class Observer:
    """Hands exchanges to its watchers, in the order in which the answers began."""

    def __init__(self, *watchers: Watcher, behind_proxy: bool = False) -> None:
        """With `behind_proxy` the client's address is the last one in X-Forwarded-For, which the proxy has written."""
        self._watchers = watchers
        self._behind_proxy = behind_proxy
        self._seen: deque[Exchange] = deque()
        self._flushing = threading.Lock()

    def start(self) -> None:
        """Look at what has come in again and again, until the process ends, and once more then."""
        repeat(self.flush, name="observe", interval_seconds=_INTERVAL_SECONDS)

    def flush(self) -> None:
        """Hand on what has come in until now, unless a watcher has been stuck for a while."""
        if not self._flushing.acquire(timeout=_PATIENCE_SECONDS):
            return
        try:
            exchanges = [self._seen.popleft() for _ in range(len(self._seen))]
            for watcher in self._watchers if exchanges else ():
                watcher(exchanges)
        finally:
            self._flushing.release()

    def wrap(self, app: WSGIApplication) -> WSGIApplication:
        """Return the application, observed."""
        seen, behind_proxy = self._seen, self._behind_proxy

        def observed(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            status, size = "500", 0
            began, clock = time.time(), time.perf_counter()
            if behind_proxy and "HTTP_X_FORWARDED_FOR" in environ:  # for the application, too, which counts attempts
                environ["REMOTE_ADDR"] = environ["HTTP_X_FORWARDED_FOR"].rpartition(",")[2].strip()

            def noting(
                given: str, named: list[tuple[str, str]], exc_info: OptExcInfo | None = None
            ) -> Callable[[bytes], object]:
                nonlocal status, size
                status, size = given[:3], 0
                for name, value in named:
                    if name == "Content-Length":
                        size = int(value)
                return start_response(given, named, exc_info)

            try:
                return app(environ, noting)
            finally:
                if len(seen) < _MOST_WAITING:
                    get, method = environ.get, environ["REQUEST_METHOD"]
                    address = get("REMOTE_ADDR", "-")
                    seen.append(
                        Exchange(
                            began,
                            time.perf_counter() - clock,
                            address[:_ADDRESS],
                            get(PRINCIPAL),
                            method[:_METHOD],
                            get("PATH_INFO", "")[:_PATH],
                            status,
                            0 if method == "HEAD" else size,
                            get("HTTP_USER_AGENT", "-")[:_AGENT],
                            get(_ADDED),
                            get(FAILED),
                        )
                    )

        return observed


def repeat(work: Callable[[], object], *, name: str, interval_seconds: float) -> None:
    """Do something again and again, until the process ends, and once more then."""
    ending = threading.Event()

    def run() -> None:
        while not ending.wait(interval_seconds):
            work()
        work()

    def end() -> None:
        threading.main_thread().join()
        ending.set()
        thread.join(_ENDING_SECONDS)

    # The interpreter waits for the second thread alone, and that not for ever, should the work be stuck.
    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    threading.Thread(target=end, name=f"{name}-end").start()


def note_added(environ: dict[str, Any], added: Added) -> None:
    """Remember with a request what its upload has come to."""
    environ[_ADDED] = added

"""`/health`: whether the index can do its work. Without credentials, so that it says no more than that."""

from __future__ import annotations

import threading
import time

from flask import Blueprint
from werkzeug.wrappers import Response

from elasticpypi.errors import UnavailableError
from elasticpypi.index import Index
from elasticpypi.web.errors import RETRY_AFTER_SECONDS, sentence

_CACHED_SECONDS = 2.0


def health_check(index: Index) -> Blueprint:
    """Return the route; strangers may call it as often as they like, catalog and storage are asked now and then."""
    blueprint = Blueprint("health", __name__)
    health = _Health(index)

    @blueprint.get("/health")
    def answer() -> Response:
        if health.is_good():
            return sentence(200, "ok")
        response = sentence(503, "the index cannot do its work now; its log says why")
        response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
        return response

    return blueprint


class _Health:
    def __init__(self, index: Index) -> None:
        self._index = index
        self._lock = threading.Lock()
        self._good = False
        self._until = 0.0

    def is_good(self) -> bool:
        with self._lock:
            if time.monotonic() >= self._until:
                self._good = self._ask()
                self._until = time.monotonic() + _CACHED_SECONDS
            return self._good

    def _ask(self) -> bool:
        try:
            self._index.check()
        except UnavailableError:
            return False
        return True

"""Where an index is, as people write it."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit


@dataclass(frozen=True, slots=True)
class IndexUrl:
    """The URL of an index, and the credentials that stood in it."""

    url: str  # without credentials, with a slash at its end
    username: str | None = None
    password: str | None = field(default=None, repr=False)


def parse_index_url(text: str) -> IndexUrl:
    """Read the URL of an index, or of its `/simple/` or `/legacy/`; raise ValueError, which repeats nothing of it."""
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host = ""
    if not host or parts.scheme not in ("http", "https"):
        raise ValueError("is not the http or https URL of an index") from None
    path = parts.path.rstrip("/")
    for page in ("/simple", "/legacy"):
        path = path.removesuffix(page)
    netloc = (f"[{host}]" if ":" in host else host) + (f":{port}" if port is not None else "")
    username, password = (None if part is None else unquote(part) for part in (parts.username, parts.password))
    return IndexUrl(f"{parts.scheme}://{netloc}{path}/", username or None, password)

"""Where the application is mounted, as clients see it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from werkzeug.wsgi import get_host

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

WITHOUT_SLASH = "elasticpypi.without-slash"  # in the environ: the mount point was asked for as a file would be


def is_secure(environ: WSGIEnvironment, url: str | None) -> bool:
    """Whether clients come by TLS, as far as can be known: cookies that say "Secure" never go another way.

    `url` is where clients find the index, if that is configured. One that claims TLS of itself harms nobody else.
    """
    said = environ.get("HTTP_X_FORWARDED_PROTO", "").partition(",")[0].strip()
    return "https" in (environ["wsgi.url_scheme"], said, (url or "").partition(":")[0])


def root_url(environ: WSGIEnvironment, url: str | None) -> str:
    """Return the absolute URL of the index, with its slash: the configured one, else as the client has asked.

    For an answer to this client alone; `lasting_root_url` is for what others get, too.
    """
    return _root(environ, "https" if is_secure(environ, None) else "http", url)


def lasting_root_url(environ: WSGIEnvironment, url: str | None) -> str:
    """Return the absolute URL of the index as the server knows it, whatever proxies or clients say of themselves."""
    return _root(environ, environ["wsgi.url_scheme"], url)


def _root(environ: WSGIEnvironment, scheme: str, url: str | None) -> str:
    if url is not None:
        return f"{url.rstrip('/')}/"
    mount = environ.get("SCRIPT_NAME", "").encode("latin-1").decode(errors="replace").rstrip("/")
    return f"{scheme}://{get_host(environ)}{quote(mount)}/"


def up_to_mount(environ: WSGIEnvironment) -> str:
    """Return the relative URL that leads from what a client has asked for to the mount point, with its slash.

    "" where both lie side by side; an absolute one could not know of a prefix that a proxy takes away.
    """
    if WITHOUT_SLASH in environ:
        mount = environ.get("SCRIPT_NAME", "").encode("latin-1").decode(errors="replace").rpartition("/")[2]
        return f"{quote(mount)}/" if mount else ""
    path: str = environ["PATH_INFO"]
    return "../" * (path.count("/") - 1)

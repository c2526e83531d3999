"""Where the index lies, as far as a request tells."""

from __future__ import annotations

import pytest

from elasticpypi.web.mount import lasting_root_url, root_url

URL = "https://pypi.example.org/own"


@pytest.mark.parametrize(
    ("environ", "url", "root", "lasting"),
    [
        ({}, None, "http://acme.org/", "http://acme.org/"),
        ({"wsgi.url_scheme": "https"}, None, "https://acme.org/", "https://acme.org/"),
        ({"SCRIPT_NAME": "/d\xc3\xa9v"}, None, "http://acme.org/d%C3%A9v/", "http://acme.org/d%C3%A9v/"),
        ({"HTTP_X_FORWARDED_PROTO": "https"}, None, "https://acme.org/", "http://acme.org/"),
        ({"HTTP_X_FORWARDED_PROTO": "https, http"}, None, "https://acme.org/", "http://acme.org/"),
        ({"HTTP_X_FORWARDED_PROTO": "http"}, None, "http://acme.org/", "http://acme.org/"),
        ({"HTTP_X_FORWARDED_PROTO": "x://evil"}, None, "http://acme.org/", "http://acme.org/"),
        ({"HTTP_X_FORWARDED_PROTO": "http", "wsgi.url_scheme": "https"}, None, *("https://acme.org/",) * 2),
        ({"HTTP_X_FORWARDED_PROTO": "https"}, URL, f"{URL}/", f"{URL}/"),
        ({"HTTP_X_FORWARDED_PROTO": "https"}, "http://acme.org", "http://acme.org/", "http://acme.org/"),
    ],
)
def test_what_lasts_is_made_of_nothing_that_a_client_claims(
    environ: dict[str, str], url: str | None, root: str, lasting: str
) -> None:
    asked = {"wsgi.url_scheme": "http", "HTTP_HOST": "acme.org", "SCRIPT_NAME": "", **environ}
    assert (root_url(asked, url), lasting_root_url(asked, url)) == (root, lasting)

"""Nothing is had without credentials, but for /health."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.site import Site


@pytest.mark.parametrize(
    "path", ["/", "/simple/", "/simple/acme/", "/packages/acme/x.whl", "/legacy/", "/nothing", "/health/", "//health"]
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"])
def test_without_credentials_there_is_a_challenge(site: Site, path: str, method: str) -> None:
    response = site.get(path, user=None, method=method)
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == 'Basic realm="elasticpypi", charset="UTF-8"'
    assert response.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("auth", [("admin", "wrong"), ("nobody", "secret"), ("admin", ""), ("", "")])
def test_wrong_credentials_are_refused(site: Site, auth: tuple[str, str]) -> None:
    assert site.client.get("/simple/", auth=auth).status_code == 401


def test_health_needs_no_credentials_and_says_little(site: Site) -> None:
    response = site.get("/health", user=None)
    assert (response.status_code, response.text) == (200, "ok\n")


def test_health_notices_that_the_storage_is_gone(site: Site, tmp_path: Path) -> None:
    (tmp_path / "data" / "files").rename(tmp_path / "elsewhere")
    response = site.get("/health", user=None)
    assert response.status_code == 503
    assert str(tmp_path) not in response.text
    assert "Retry-After" in response.headers


def test_a_method_that_a_page_does_not_have_is_a_405(site: Site) -> None:
    response = site.get("/simple/acme/", method="DELETE")
    assert response.status_code == 405
    assert "GET" in response.headers["Allow"]

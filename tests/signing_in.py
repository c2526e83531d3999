"""A browser without a window: it keeps cookies, fills in forms, and says of itself what browsers say."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

from werkzeug.test import Client, TestResponse

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "Sec-Fetch-Site": "same-origin"}


class _Forms(HTMLParser):
    """Finds the fields of every form, by its action."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: dict[str, dict[str, str]] = {}
        self._fields: dict[str, str] = {}
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        if tag == "form":
            self._fields = self.found.setdefault(named.get("action") or "", {})
        elif tag == "input" and named.get("name"):
            self._fields[str(named["name"])] = named.get("value") or ""


def read_forms(page: str) -> dict[str, dict[str, str]]:
    """Return the fields of every form of a page, with their values, by its action."""
    return _Forms(page).found


class Visitor:
    """Somebody with a browser."""

    def __init__(self, client: Client, **environ: Any) -> None:
        self.client = Client(client.application)
        self._environ = environ

    def get(self, path: str, **headers: str) -> TestResponse:
        named = BROWSER | {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.get(path, headers=named, environ_overrides=self._environ, buffered=True)

    def post(self, path: str, form: dict[str, str], **headers: str) -> TestResponse:
        named = BROWSER | {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.post(path, data=form, headers=named, environ_overrides=self._environ, buffered=True)

    def sign_in(self, username: str, password: str = "secret", *, following: str = "") -> TestResponse:
        form = read_forms(self.get(f"/login?next={following}").text)["login"]
        return self.post("/login", form | {"username": username, "password": password})

    @property
    def csrf(self) -> str:
        """What forms send along, as a page has it."""
        return next(
            form["csrf"] for action, form in read_forms(self.get("/account").text).items() if "logout" in action
        )

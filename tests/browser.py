"""A real browser: Debian's Chromium without a window, driven by Playwright, which tells whatever goes wrong in it.

    with running_chromium() as chromium, visiting(chromium, server.url) as visit:
        visit.sign_in("alice", "wonder")
        check_accessible(visit.page)

What a page should not do fails the test at its end: ask another host, break its own Content Security Policy, let an
error pass, open a dialog, fail to load something, have a secret in a URL, or on the page that is left in the end.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Dialog,
    Locator,
    Page,
    Request,
    Response,
    sync_playwright,
)

from tests.no_secrets import find_secrets
from tests.programs import require

AXE = Path(__file__).parents[1] / "node_modules" / "axe-core" / "axe.min.js"
NARROW, TELEPHONE, DESK = 320, 390, 1280  # CSS pixels; the first is what WCAG 2.2 asks for (1.4.10, Reflow)
_FLAGS = (
    "--headless",
    "--no-sandbox",  # which root has none of
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_PATIENCE_SECONDS = 20
# Chromium says so of every answer above 399; which of them nobody expects is seen from the answers themselves.
_OF_AN_ANSWER = "Failed to load resource: the server responded with a status of"
_SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
_RUN_AXE = "rules => axe.run(document, {runOnly: rules, resultTypes: ['violations']})"


@contextmanager
def running_chromium() -> Iterator[Browser]:
    """Run Chromium until the context ends, with an empty profile; without it the test is skipped, or fails in CI."""
    program = require("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(_FLAGS))
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Visit:
    """Somebody who looks at an index with a browser, from their first page to their last."""

    page: Page
    url: str  # of the index, without a slash at its end
    origins: frozenset[str]  # which may be asked: the index's own, and where files go
    problems: list[str] = field(default_factory=list)
    urls: list[str] = field(default_factory=list)  # that were asked for
    refusals: list[int] = field(default_factory=list)  # that scripts are to meet: each status once
    typed: set[str] = field(default_factory=set, repr=False)  # secrets

    def go(self, path: str) -> Response:
        """Open a page of the index; return its answer, after redirects."""
        answer = self.page.goto(self.url + path)
        assert answer is not None
        return answer

    @property
    def path(self) -> str:
        """Where the page lies below the index, with its query."""
        return self.page.url.removeprefix(self.url)

    def sign_in(self, username: str, password: str) -> None:
        """Fill in the form on the present page, or the form's own page, and send it."""
        if not self.path.startswith("/login"):
            self.go("/login")
        self.typed.add(password)
        self.page.get_by_label("Username").fill(username)
        self.page.get_by_label("Password").fill(password)
        self.follow(self.page.get_by_role("button", name="Sign in"))

    def follow(self, link: Locator) -> None:
        """Click on a link or a button, and wait until the page it leads to is there, with its scripts."""
        with self.page.expect_navigation():
            link.click()

    def cookie(self, name: str = "elasticpypi") -> dict[str, Any] | None:
        """Return a cookie of the index, as the browser keeps it."""
        return next((dict(cookie) for cookie in self.page.context.cookies() if cookie["name"] == name), None)

    def watch(self, context: BrowserContext) -> None:
        """Note whatever happens in any page of a context."""
        context.on("console", self._note_message)
        context.on("dialog", self._note_dialog)
        context.on("weberror", lambda error: self.problems.append(f"error: {error.error}"))
        context.on("request", lambda request: self._note_request(request.url))
        context.on("requestfailed", self._note_failure)
        context.on("response", self._note_response)

    def _note_message(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not message.text.startswith(_OF_AN_ANSWER):
            self.problems.append(f"console: {message.text}")

    def _note_dialog(self, dialog: Dialog) -> None:
        self.problems.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _note_request(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https"):
            self.urls.append(url)
            if f"{parts.scheme}://{parts.netloc}" not in self.origins:
                self.problems.append(f"another host: {url}")

    def _note_failure(self, request: Request) -> None:
        if request.failure != "net::ERR_ABORTED":  # a download, or what a script no longer waits for
            self.problems.append(f"failed: {request.url}: {request.failure}")

    def _note_response(self, response: Response) -> None:
        if response.status < 400 or response.request.is_navigation_request():
            return
        if response.status in self.refusals:
            self.refusals.remove(response.status)
        else:
            self.problems.append(f"{response.status}: {response.request.method} {response.url}")

    def find_problems(self) -> list[str]:
        """Return what happened that should not, each with its kind."""
        own = [url for url in self.urls if url.startswith(self.url)]
        told = [text for text in (*own, self.page.content()) if self._tells_secrets(text)]
        return [
            *self.problems,
            *(f"expected: {status}, which no script has met" for status in self.refusals),
            *(f"secret: {text[:500]}" for text in told),
        ]

    def _tells_secrets(self, text: str) -> bool:
        return find_secrets(text) != [] or any(secret in text for secret in self.typed)


@contextmanager
def visiting(browser: Browser, url: str, *, storage: Collection[str] = (), **options: Any) -> Iterator[Visit]:
    """Look at the index at `url` with a new window, without cookies; fail at the end if anything is wrong.

    `storage` are other origins that may be asked. `options` are Playwright's, of a context: `java_script_enabled`,
    `viewport`.
    """
    context = browser.new_context(service_workers="block", reduced_motion="reduce", **options)
    context.set_default_timeout(_PATIENCE_SECONDS * 1000)
    try:
        parts = urlsplit(url)
        visit = Visit(context.new_page(), url, frozenset({f"{parts.scheme}://{parts.netloc}", *storage}))
        visit.watch(context)
        yield visit
        problems = visit.find_problems()
        assert problems == [], "\n".join(problems)
    finally:
        context.close()


def check_accessible(page: Page) -> None:
    """Fail where axe finds anything on a desk or on a telephone, by day or by night, or one would scroll sideways."""
    found: dict[str, list[str]] = {}
    load_axe(page)
    for width in (DESK, TELEPHONE):
        page.set_viewport_size({"width": width, "height": 800})
        for scheme in _SCHEMES:
            page.emulate_media(color_scheme=scheme)
            for violation in find_violations(page):
                found.setdefault(violation, []).append(f"{width} px, {scheme}")
    assert found == {}, f"{page.url}: {json.dumps(found, indent=1)}"
    check_narrow(page)


def load_axe(page: Page) -> None:
    """Run axe-core in a page, past the page's policy, which lets no foreign script in."""
    if not AXE.is_file():
        reason = "axe-core is not installed: run `npm ci`"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    page.evaluate(AXE.read_text())


def find_violations(page: Page) -> list[str]:
    """Return what axe finds: the rule, the element, and what it says of that."""
    return [
        f"{violation['id']}: {violation['help']}: {node['target']} {node['failureSummary']}"
        for violation in page.evaluate(_RUN_AXE, _RULES)["violations"]
        for node in violation["nodes"]
    ]


def check_narrow(page: Page) -> None:
    """Fail where one would have to scroll sideways to read the page."""
    page.set_viewport_size({"width": NARROW, "height": 800})
    width = page.evaluate("document.scrollingElement.scrollWidth")
    if width > NARROW:
        wide = page.evaluate(
            "most => Array.from(document.querySelectorAll('body *'))"
            ".filter(each => each.getBoundingClientRect().right > most).map(each => each.outerHTML.slice(0, 100))",
            NARROW,
        )
        raise AssertionError(f"{page.url} is {width} pixels wide: {wide[:5]}")
    page.set_viewport_size({"width": DESK, "height": 800})

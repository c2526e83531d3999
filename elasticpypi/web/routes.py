"""All routes, put together as a Flask application; `web.app` says what stands before it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from flask import Blueprint, Flask, request
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response

from elasticpypi import presenting
from elasticpypi.auth import Authenticator
from elasticpypi.errors import ElasticpypiError
from elasticpypi.index import Index
from elasticpypi.web.account import account_pages
from elasticpypi.web.api import program_interface
from elasticpypi.web.api_audit import audit_interface
from elasticpypi.web.api_downloads import download_counts
from elasticpypi.web.api_publishers import publisher_interface
from elasticpypi.web.api_tokens import token_interface
from elasticpypi.web.api_uploads import resumable_uploads
from elasticpypi.web.api_upstream import upstream_interface
from elasticpypi.web.assets import page_assets
from elasticpypi.web.audit_page import audit_page
from elasticpypi.web.auth import is_browser
from elasticpypi.web.browse import browsing
from elasticpypi.web.csrf import check_origin
from elasticpypi.web.errors import answer_error, answer_http
from elasticpypi.web.feeds import feeds
from elasticpypi.web.files import file_downloads
from elasticpypi.web.health import health_check
from elasticpypi.web.legacy_json import legacy_json_pages
from elasticpypi.web.manage import manage_pages
from elasticpypi.web.oidc import ENDPOINTS as OIDC_ENDPOINTS
from elasticpypi.web.oidc import trusted_publishing
from elasticpypi.web.pages import Pages
from elasticpypi.web.people import TITLE, error_page
from elasticpypi.web.sessions import Sessions
from elasticpypi.web.sign_in import ENDPOINTS as SIGN_IN_ENDPOINTS
from elasticpypi.web.sign_in import sign_in_pages
from elasticpypi.web.simple import simple_pages
from elasticpypi.web.upload import file_uploads
from elasticpypi.web.upload_page import ENDPOINTS as UPLOAD_PAGE_ENDPOINTS
from elasticpypi.web.upload_page import upload_pages


def route(
    index: Index,
    pages: Pages,
    authenticator: Authenticator,
    sessions: Sessions,
    *,
    url: str | None = None,
    title: str | None = None,
    metrics: Blueprint | None = None,
    finish_later: Callable[[Mapping[str, Any]], None] | None = None,
    keep_later: Callable[[Mapping[str, Any]], None] | None = None,
    largest_answer: int | None = None,
) -> Flask:
    """Return the routes alone."""
    app = Flask("elasticpypi.web", static_folder=None)
    app.url_map.merge_slashes = False
    app.config[TITLE] = presenting.TITLE if title is None else title
    for blueprint in (
        simple_pages(pages),
        page_assets(),
        browsing(index, url),
        feeds(index, url),
        file_downloads(index, can_stream=largest_answer is None, keep_later=keep_later),
        file_uploads(index),
        sign_in_pages(authenticator, sessions, url),
        account_pages(index, url),
        audit_page(index),
        manage_pages(index),
        upload_pages(index, has_gateway=largest_answer is not None),
        program_interface(index),
        audit_interface(index),
        download_counts(index),
        upstream_interface(index),
        token_interface(index),
        publisher_interface(index),
        trusted_publishing(index),
        resumable_uploads(index, finish_later),
        legacy_json_pages(index, url),
        health_check(index),
        *(() if metrics is None else (metrics,)),
    ):
        app.register_blueprint(blueprint)
    app.before_request(
        partial(check_origin, url, by_themselves=SIGN_IN_ENDPOINTS | OIDC_ENDPOINTS | UPLOAD_PAGE_ENDPOINTS)
    )
    app.register_error_handler(ElasticpypiError, lambda error: answer_error(error, request.path))
    app.register_error_handler(HTTPException, _answer_http)
    return app


def _answer_http(error: HTTPException) -> Response:
    answer = answer_http(error, request.path)
    is_nowhere = request.url_rule is None and not request.path.startswith("/api/")
    return error_page(answer) if is_nowhere and is_browser(request.environ) else answer

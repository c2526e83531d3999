"""`/api/v1/tokens`: tokens for programs; see `web.token_requests` for who may do what."""

from __future__ import annotations

from flask import Blueprint, Response

from elasticpypi.index import Index, describe_token
from elasticpypi.web.present import answer_json, current_principal, read_json_object
from elasticpypi.web.token_requests import create_token, find_tokens, revoke_token


def token_interface(index: Index) -> Blueprint:
    """Return the routes."""
    api = Blueprint("api_tokens", __name__, url_prefix="/api/v1/tokens")

    @api.get("")
    def tokens() -> Response:
        return answer_json({"tokens": [describe_token(token) for token in find_tokens(index, current_principal())]})

    @api.post("")
    def create() -> Response:
        token, secret = create_token(index, current_principal(), read_json_object())
        return answer_json(describe_token(token) | {"token": secret}, 201)

    @api.delete("/<token_id>")
    def revoke(token_id: str) -> Response:
        return answer_json(describe_token(revoke_token(index, current_principal(), token_id)))

    return api

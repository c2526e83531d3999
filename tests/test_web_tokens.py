"""Tokens by the page, by `/api/v1/tokens` and by command: who may make, see and revoke which."""

from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from elasticpypi.config import Permission
from elasticpypi.model import Actor
from tests.dists import make_wheel
from tests.looking import look
from tests.signing_in import Visitor, read_forms
from tests.site import Site
from tests.test_web_api import call

pytestmark = pytest.mark.both_worlds
OPERATOR = Actor("root", "command line")


def make(site: Site, user: str, **fields: Any) -> dict[str, Any]:
    answer = call(site, "POST", "/api/v1/tokens", {"name": "CI", "permission": "read", **fields}, user=user)
    assert answer.status_code == 201, answer.text
    document: dict[str, Any] = answer.json  # type: ignore[assignment]
    return document


def ask(site: Site, path: str, token: str, *, method: str = "GET", body: object = None) -> Any:
    header = "Basic " + b64encode(f"__token__:{token}".encode()).decode()
    return site.client.open(path, method=method, headers={"Authorization": header}, json=body, buffered=True)


def test_a_user_makes_a_token_that_a_program_uses(site: Site, tmp_path: Path) -> None:
    for name in ("acme", "acme-lib", "bolt"):
        site.drop(make_wheel(tmp_path, name, "1.0"))
    made = make(site, "writer", permission="upload", projects=["acme*"], days=30)
    assert (made["owner"], made["created-by"], made["projects"]) == ("writer", "writer", ["acme*"])
    seen = ask(site, "/api/v1/projects", made["token"]).json["projects"]
    assert [project["name"] for project in seen] == ["acme", "acme-lib"]
    answers = [ask(site, path, made["token"]).status_code for path in ("/simple/acme/", "/simple/bolt/", "/simple/x/")]
    assert answers == [200, 403, 403]
    assert ask(site, "/api/v1/projects/acme/status", made["token"], method="PUT", body={}).status_code == 403


@pytest.mark.parametrize(
    ("user", "fields", "status", "says"),
    [
        ("reader", {"permission": "upload"}, 403, "'upload'"),
        ("writer", {"permission": "admin"}, 403, "'admin'"),
        ("admin", {"permission": "root"}, 400, "not one of read, upload, admin"),
        ("admin", {"permission": None}, 400, "not one of"),
        ("admin", {"name": ""}, 400, "needs a name"),
        ("admin", {"name": 5}, 400, "'name'"),
        ("admin", {"projects": []}, 400, "'projects' is not a list"),
        ("admin", {"projects": "acme"}, 400, "'projects' is not a list"),
        ("admin", {"projects": ["Acme"]}, 400, "'Acme'"),
        ("admin", {"projects": ["acme"] * 101}, 400, "'projects' has more than 100 patterns"),
        ("admin", {"projects": ["a" * 241]}, 400, "'projects' has 'aaa"),
        ("admin", {"days": 0}, 400, "'days'"),
        ("admin", {"days": True}, 400, "'days'"),
        ("admin", {"days": "30"}, 400, "'days'"),
        ("admin", {"days": 10**9}, 400, "'days'"),
    ],
)
def test_what_is_no_token_that_one_may_make_is_refused(
    site: Site, user: str, fields: dict[str, Any], status: int, says: str
) -> None:
    answer = call(site, "POST", "/api/v1/tokens", {"name": "CI", "permission": "read", **fields}, user=user)
    assert answer.status_code == status
    assert says in answer.json["message"]  # type: ignore[index]
    assert site.index.tokens.find_all() == []


def test_everybody_sees_their_own_and_administrators_all(site: Site) -> None:
    made = {user: make(site, user)["id"] for user in ("reader", "writer", "admin")}
    site.index.tokens.create("operator's", by=OPERATOR, permission=Permission.READ)

    def seen(user: str) -> list[str | None]:
        return [token["owner"] for token in call(site, "GET", "/api/v1/tokens", user=user).json["tokens"]]  # type: ignore[index]

    assert (seen("reader"), seen("writer"), seen("team")) == (["reader"], ["writer"], [])
    assert sorted(seen("admin"), key=str) == [None, "admin", "reader", "writer"]
    assert call(site, "DELETE", f"/api/v1/tokens/{made['admin']}", user="reader").status_code == 403
    assert call(site, "DELETE", f"/api/v1/tokens/{made['reader']}", user="reader").status_code == 200
    assert call(site, "DELETE", f"/api/v1/tokens/{made['writer']}", user="admin").status_code == 200
    assert call(site, "DELETE", "/api/v1/tokens/nothing", user="admin").status_code == 404


def test_a_token_makes_no_others_and_revokes_itself(site: Site) -> None:
    made, other = make(site, "admin", permission="admin", projects=["acme"]), make(site, "admin")
    refused = ask(site, "/api/v1/tokens", made["token"], method="POST", body={"name": "x", "permission": "read"})
    assert (refused.status_code, "sign in with a password" in refused.text) == (403, True)
    assert [token["id"] for token in ask(site, "/api/v1/tokens", made["token"]).json["tokens"]] == [made["id"]]
    assert ask(site, f"/api/v1/tokens/{other['id']}", made["token"], method="DELETE").status_code == 403
    assert ask(site, f"/api/v1/tokens/{made['id']}", made["token"], method="DELETE").status_code == 200


def test_the_page_shows_a_token_once(site: Site) -> None:
    visitor = Visitor(site.client)
    visitor.sign_in("team")
    form = read_forms(visitor.get("/account").text)["account/tokens"]
    shown = visitor.post(
        "/account/tokens", form | {"name": "<b>CI", "permission": "upload", "projects": "acme, acme-x"}
    )
    (token,) = site.index.tokens.find_all("team")
    assert (token.name, token.permission, token.projects) == ("<b>CI", Permission.UPLOAD, ("acme", "acme-x"))
    secret = shown.text.partition('<code id="token">')[2].partition("<")[0]
    found = site.index.tokens.find(secret)
    assert found is not None
    assert found.id == token.id
    assert shown.headers["Cache-Control"] == "private, no-store"
    again = visitor.get("/account").text
    assert (secret in again, "<b>CI" in again, "&lt;b&gt;CI" in again) == (False, False, True)


def test_the_page_says_what_is_wrong_and_keeps_what_was_typed(site: Site) -> None:
    visitor = Visitor(site.client)
    visitor.sign_in("reader")
    form = read_forms(visitor.get("/account").text)["account/tokens"]
    for fields, status, wrong, says in (
        ({"permission": "upload"}, 403, None, "but this needs 'upload'."),
        ({"projects": "Acme_*"}, 400, "projects", "Give at most 100 names of lowercase letters"),
        ({"days": "x"}, 400, "days", "Choose one of the times."),
        ({"permission": ""}, 400, "permission", "Choose one of the permissions."),
        ({"name": " "}, 400, "name", "Say what the token is for, in at most 100 characters."),
    ):
        given = form | {"name": "my CI", "permission": "read"} | fields
        answer = visitor.post("/account/tokens", given)
        shown = look(answer.text)
        assert (answer.status_code, says in shown.text) == (status, True), answer.text
        assert shown.find("input", id="name")[0]["value"] == given["name"]
        assert len([found for _, found in shown.elements if found.get("role") == "alert"]) == 1
        invalid = [found for _, found in shown.elements if "aria-invalid" in found]
        marked = [(found["id"], found["aria-describedby"].split()[0]) for found in invalid]
        assert marked == ([] if wrong is None else [(wrong, f"{wrong}-problem")])
        assert wrong is None or shown.find("p", id=f"{wrong}-problem") != []
    assert shown.find("input", id="projects")[0]["aria-describedby"] == "projects-hint"
    assert site.index.tokens.find_all() == []


def test_the_page_says_where_to_use_a_token_unless_a_script_knows_better(site: Site) -> None:
    visitor = Visitor(site.client, HTTP_X_FORWARDED_PROTO="https")
    visitor.sign_in("reader")
    form = read_forms(visitor.get("/account").text)["account/tokens"]
    shown = look(visitor.post("/account/tokens", form | {"name": "CI", "permission": "read"}).text)
    assert "https://__token__:TOKEN@localhost/simple/" in shown.text
    assert [found["data-simple"] for found in shown.find("code") if "data-simple" in found] == ["../simple/"]


def test_the_page_revokes(site: Site) -> None:
    visitor = Visitor(site.client)
    visitor.sign_in("reader")
    made, _ = site.index.tokens.create("mine", by=OPERATOR, permission=Permission.READ, owner="reader")
    other, _ = site.index.tokens.create("not mine", by=OPERATOR, permission=Permission.READ, owner="admin")
    page = visitor.get("/account").text
    action = f"account/tokens/{made.id}/revoke"
    assert (action in read_forms(page), other.id in page) == (True, False)
    done = visitor.post(f"/{action}", read_forms(page)[action])
    assert (done.status_code, done.headers["Location"]) == (303, "../../../account?done=revoked")
    assert "The token is revoked" in visitor.get("/account?done=revoked").text
    forbidden = visitor.post(f"/account/tokens/{other.id}/revoke", read_forms(page)[action])
    assert forbidden.status_code == 403
    assert [token.id for token in site.index.tokens.find_all()] == [other.id]


# By command --------------------------------------------------------------------------------------------------------


def test_a_command_makes_lists_and_revokes(site: Site) -> None:
    done = site.run("token", "create", "CI of acme", "--permission", "upload", "--project", "acme", "--days", "9")
    assert done.exit_code == 0, done.output
    secret = done.stdout.strip()
    found = site.index.tokens.find(secret)
    assert found is not None
    assert (found.name, found.permission, found.projects, found.owner) == (
        "CI of acme",
        Permission.UPLOAD,
        ("acme",),
        None,
    )
    assert ask(site, "/simple/acme/", secret).status_code == 404
    listed = site.run("token", "list")
    assert f"{found.id}  CI of acme  (upload, acme, the index's, made " in listed.stdout
    assert secret not in listed.output
    document = json.loads(site.run("token", "list", "--json").stdout)
    assert [token["id"] for token in document["tokens"]] == [found.id]
    assert site.run("token", "revoke", found.id).stdout == f"revoked: {found.id}  CI of acme\n"
    again = site.run("token", "revoke", found.id)
    sentence = f"there is no token '{found.id}', or it has expired (`elasticpypi token list` names them)"
    assert (again.exit_code, again.stderr) == (1, f"Error: {sentence}\n")


def test_a_command_names_what_is_wrong(site: Site) -> None:
    for arguments, code, says in (
        (["create", "CI", "--project", "Acme"], 2, "'Acme'"),
        (["create", ""], 1, "needs a name"),
        (["create", "CI", "--owner", "nobody"], 2, "there is no user 'nobody'"),
        (["create", "CI", "--days", "0"], 2, "0"),
    ):
        done = site.run("token", *arguments)
        assert (done.exit_code, says in done.stderr) == (code, True), done.output


def test_json_has_the_token_too(site: Site) -> None:
    document = json.loads(site.run("token", "create", "CI", "--json").stdout)
    found = site.index.tokens.find(document["token"])
    assert found is not None
    assert (found.id, document["permission"]) == (document["id"], "read")

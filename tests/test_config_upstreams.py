"""The upstreams of a configuration: what is accepted, what is filled in, and what an error says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from elasticpypi.config import Settings, Upstream, UpstreamMode, load_settings, write_upstream
from elasticpypi.config.upstreams import _READERS
from elasticpypi.errors import ConfigError

ROOT = Path(__file__).parents[1]
SECRET = "tr0ub4dor&3"
URL = "https://pypi.example.org/simple/"
PLAIN: dict[str, Any] = {"url": URL, "mode": "proxy"}
REDIRECT: dict[str, Any] = {"url": URL, "mode": "redirect"}
PROXY = Upstream("pypi.example.org", URL, UpstreamMode.PROXY)
HASH = "scrypt:32768:8:1$AbCdEfGh12345678$" + "0a" * 64


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "config.json"


def load(path: Path, *upstreams: object, **keys: object) -> Settings:
    path.write_text(json.dumps({"upstreams": upstreams, **keys}))
    return load_settings(environ={}, default_path=path)


# What is accepted -----------------------------------------------------------------------------------------------------


def test_the_least_is_a_url_and_a_mode(path: Path) -> None:
    assert load(path, PLAIN).upstreams == (
        Upstream(
            name="pypi.example.org",
            url=URL,
            mode=UpstreamMode.PROXY,
            username=None,
            password=None,
            allow=("*",),
            deny=(),
            allow_files=("*",),
            deny_files=(),
            min_age_days=0,
            min_age_exceptions={},
            undated_are_old=False,
            keep=False,
            hosts=(),
            private=False,
        ),
    )


EVERYTHING: dict[str, Any] = {
    "name": "inner",
    "url": URL,
    "mode": "proxy",
    "username": "__token__",  # that of another index of ours
    "password": SECRET,
    "allow": ["numpy", "scipy-*"],
    "deny": ["numpy-secret"],
    "allow-files": ["*.whl"],
    "deny-files": ["*-win_amd64.whl"],
    "min-age": 7,
    "min-age-exceptions": {"urgent-*": 0, "slow": 30},
    "undated": "old",
    "keep": True,
    "hosts": ["Files.Example.org", "files.example.org:8443", "[::1]:80"],
    "private": True,
}


def test_every_key_of_an_upstream_is_read(path: Path) -> None:
    assert EVERYTHING.keys() == _READERS.keys()
    assert load(path, EVERYTHING).upstreams == (
        Upstream(
            name="inner",
            url=URL,
            mode=UpstreamMode.PROXY,
            username="__token__",
            password=SECRET,
            allow=("numpy", "scipy-*"),
            deny=("numpy-secret",),
            allow_files=("*.whl",),
            deny_files=("*-win_amd64.whl",),
            min_age_days=7,
            min_age_exceptions={"urgent-*": 0, "slow": 30},
            undated_are_old=True,
            keep=True,
            hosts=("files.example.org", "files.example.org:8443", "[::1]:80"),
            private=True,
        ),
    )


HARMLESS = [
    {"deny": [], "deny-files": [], "min-age": 0, "min-age-exceptions": {}, "undated": "young", "hosts": []},
    {"keep": False, "private": False, "allow": ["*"], "allow-files": ["*"]},
]


@pytest.mark.parametrize("keys", HARMLESS)
def test_a_default_may_be_written_out(path: Path, keys: dict[str, Any]) -> None:
    assert load(path, {**PLAIN, **keys}).upstreams == (PROXY,)


def test_what_asks_for_nothing_may_stand_beside_a_redirect(path: Path) -> None:
    keys = {"min-age": 0, "keep": False, "undated": "young", "allow": ["numpy"], "deny": ["acme-*"]}
    redirecting = replace(PROXY, mode=UpstreamMode.REDIRECT, allow=("numpy",), deny=("acme-*",))
    assert load(path, {**REDIRECT, **keys}).upstreams == (redirecting,)


@pytest.mark.parametrize("given", [PLAIN, EVERYTHING, {**REDIRECT, "url": "https://pypi.org/simple/", "deny": ["a"]}])
def test_what_is_written_is_read_as_the_same(path: Path, given: dict[str, Any]) -> None:
    (upstream,) = load(path, given).upstreams
    written = json.loads(json.dumps(write_upstream(upstream)))
    assert load(path, written).upstreams == (upstream,)
    assert write_upstream(PROXY) == {"name": "pypi.example.org", **PLAIN}


# (as it is given, as requests will name it)
URLS = [
    ("https://pypi.example.org/simple", URL),
    ("https://pypi.example.org/simple//", URL),
    ("HTTPS://PyPI.Example.ORG/simple/", URL),
    ("https://pypi.example.org:443/simple/", URL),
    ("https://pypi.example.org:0443/simple/", URL),
    ("https://pypi.example.org", "https://pypi.example.org/"),
    ("https://pypi.example.org:8443/Acme/dev/+simple/", "https://pypi.example.org:8443/Acme/dev/+simple/"),
    ("https://pypi.example.org/a%20b/", "https://pypi.example.org/a%20b/"),
    ("https://xn--bcher-kva.example/simple/", "https://xn--bcher-kva.example/simple/"),
    ("https://my_index/simple/", "https://my_index/simple/"),
    ("https://192.0.2.1:8080/simple/", "https://192.0.2.1:8080/simple/"),
    ("https://[2001:DB8::1]:8080/simple/", "https://[2001:db8::1]:8080/simple/"),
    ("http://localhost:80/simple/", "http://localhost/simple/"),
    ("http://localhost:443/simple/", "http://localhost:443/simple/"),
]


@pytest.mark.parametrize(("given", "expected"), URLS)
def test_a_url_is_spelled_in_one_way(path: Path, given: str, expected: str) -> None:
    (upstream,) = load(path, {**PLAIN, "url": given, "private": True}).upstreams
    assert upstream.url == expected


# (URL, hosts as they are given; name, hosts)
FILLED_IN: list[tuple[str, list[str] | None, str, tuple[str, ...]]] = [
    ("https://pypi.org/simple/", None, "pypi.org", ("files.pythonhosted.org",)),
    ("https://PyPI.org:443/simple/", None, "pypi.org", ("files.pythonhosted.org",)),
    ("https://pypi.org/simple/", ["cache.example.org"], "pypi.org", ("files.pythonhosted.org", "cache.example.org")),
    ("https://pypi.org/simple/", ["files.pythonhosted.org"], "pypi.org", ("files.pythonhosted.org",)),
    ("https://test.pypi.org/simple/", None, "test.pypi.org", ("test-files.pythonhosted.org",)),
    ("https://pypi.org.example.org/simple/", None, "pypi.org.example.org", ()),
    ("https://my_index:8080/simple/", None, "my-index", ()),
    ("https://[2001:db8::1]/simple/", None, "2001-db8--1", ()),
    ("https://[::]/simple/", None, "upstream", ()),
    (f"https://{'a' * 80}/simple/", None, "a" * 64, ()),
]


@pytest.mark.parametrize(("url", "given", "name", "hosts"), FILLED_IN)
def test_name_and_hosts_of_files_come_from_the_url(
    path: Path, url: str, given: list[str] | None, name: str, hosts: tuple[str, ...]
) -> None:
    keys = {} if given is None else {"hosts": given}
    (upstream,) = load(path, {**PLAIN, "url": url, **keys}).upstreams
    assert (upstream.name, upstream.hosts) == (name, hosts)
    # And whatever is filled in could have been written as well.
    assert load(path, {**PLAIN, "url": url, "name": name, "hosts": list(hosts)}).upstreams == (upstream,)


def test_the_order_is_that_of_the_file(path: Path) -> None:
    first = {**PLAIN, "name": "first", "allow": ["acme-*"]}
    upstreams = load(path, first, {**PLAIN, "name": "second"}, {**REDIRECT, "name": "third"}).upstreams
    assert [upstream.name for upstream in upstreams] == ["first", "second", "third"]


@pytest.mark.parametrize(("project", "days"), [("urgent-fix", 0), ("urgent-but-slow", 0), ("slow", 30), ("other", 7)])
def test_the_first_exception_that_matches_is_the_minimum_age(path: Path, project: str, days: int) -> None:
    exceptions = {"urgent-*": 0, "*slow": 30}
    (upstream,) = load(path, {**PLAIN, "min-age": 7, "min-age-exceptions": exceptions}).upstreams
    assert upstream.min_age_of(project) == days


@pytest.mark.parametrize(
    ("keys", "expected"),
    [({}, False), ({"keep": True}, True), ({"username": "reader", "password": SECRET}, True), ({"min-age": 7}, False)],
)
def test_files_come_through_us_where_they_are_kept_or_need_credentials(
    path: Path, keys: dict[str, Any], expected: bool
) -> None:
    (upstream,) = load(path, {**PLAIN, **keys}).upstreams
    assert upstream.brings_files is expected


# What is refused ------------------------------------------------------------------------------------------------------

OTHER = {**PLAIN, "url": "https://other.example.org/simple/"}
ALL = "'upstreams[1]'", "would never be asked: clients are redirected to 'pypi.example.org'", '"allow": ["numpy"]'
HERE = '"url": "https://pypi.org/simple/"'
DAYS = "a whole number of days from 0 to 10000"
# (upstreams, the key that the message names, a part of what it says, its example)
WRONG: list[tuple[list[Any], str, str, str]] = [
    (["https://pypi.org/simple/"], "'upstreams[0]'", "is not an object", '"upstreams": [{"url": "https://'),
    ([PLAIN, None], "'upstreams[1]'", "is not an object", '"upstreams": [{"url": "https://'),
    ([{"url": f"{URL}{n}", "name": f"n{n}", "mode": "proxy"} for n in range(11)], "'upstreams'", "more than 10", "[{"),
    ([{"mode": "proxy"}], "'upstreams[0].url'", "is missing", HERE),
    ([{"url": URL}], "'upstreams[0].mode'", "is missing", '"mode": "proxy"'),
    ([{**PLAIN, "min_age": 7}], "'min_age' is an unknown key in 'upstreams[0]'", "mean 'min-age'", '"min-age": 7'),
    ([{**PLAIN, "Hosts": []}], "'Hosts' is an unknown key", "mean 'hosts'", '"hosts": ["files.example.org"]'),
    ([{**PLAIN, "urls": URL}], "'urls' is an unknown key", "mean 'url'", HERE),
    ([{**PLAIN, "zzz": 1}], "'zzz' is an unknown key", "known are name, url, mode", "private"),
    ([{**PLAIN, "name": "PyPI"}], "'upstreams[0].name'", "'PyPI', but may consist of", '"name": "pypi"'),
    ([{**PLAIN, "name": "-x"}], "'upstreams[0].name'", "may consist of 1 to 64 lowercase", '"name": "pypi"'),
    ([{**PLAIN, "name": "a" * 65}], "'upstreams[0].name'", "may consist of 1 to 64 lowercase", '"name": "pypi"'),
    ([{**PLAIN, "name": None}], "'upstreams[0].name'", "is not a string", '"name": "pypi"'),
    ([PLAIN, PLAIN], "'upstreams[1].name'", "is 'pypi.example.org', as another upstream", '"name": "pypi"'),
    ([{**PLAIN, "url": 5}], "'upstreams[0].url'", "is not a string", HERE),
    ([{**PLAIN, "mode": "mirror"}], "'upstreams[0].mode'", "is not one of redirect, proxy", '"mode": "proxy"'),
    ([{**PLAIN, "mode": None}], "'upstreams[0].mode'", "is not one of redirect, proxy", '"mode": "proxy"'),
    ([{**PLAIN, "username": "reader"}], "'upstreams[0].password'", "is missing, where", '"password": "another-secret"'),
    ([{**PLAIN, "password": SECRET}], "'upstreams[0].username'", "is missing, where", '"username": "reader"'),
    ([{**PLAIN, "username": "a:b", "password": SECRET}], "'upstreams[0].username'", "':'", '"username": "reader"'),
    ([{**PLAIN, "username": "a", "password": [SECRET]}], "'upstreams[0].password'", "not a string", '"password": "'),
    ([{**PLAIN, "username": "a", "password": f"{SECRET}\n"}], "'upstreams[0].password'", "line break", '"password": "'),
    ([{**PLAIN, "username": "a", "password": HASH}], "'upstreams[0].password'", "the password itself", '"password": "'),
    ([{**PLAIN, "allow": []}], "'upstreams[0].allow'", "is not a list of patterns", '"allow": ["numpy", "scipy-*"]'),
    ([{**PLAIN, "allow": "numpy"}], "'upstreams[0].allow'", "is not a list of patterns", '"allow": ['),
    ([{**PLAIN, "deny": ["Acme_*"]}], "'upstreams[0].deny'", "'Acme_*', which no normalised", '"deny": ["acme-*"]'),
    ([{**PLAIN, "deny": ["*"]}], "'upstreams[0].deny'", "would never be asked", '"deny": ["acme-*"]'),
    (
        [{**PLAIN, "allow-files": []}],
        "'upstreams[0].allow-files'",
        "is not a list of 1 to 100",
        '"allow-files": ["*.whl"]',
    ),
    ([{**PLAIN, "allow-files": ["a/*"]}], "'upstreams[0].allow-files'", "no filename can match", '"allow-files": ['),
    ([{**PLAIN, "deny-files": "*.exe"}], "'upstreams[0].deny-files'", "is not a list", '"deny-files": ["*.exe"]'),
    ([{**PLAIN, "deny-files": [""]}], "'upstreams[0].deny-files'", "no filename can match", '"deny-files": ['),
    ([{**PLAIN, "deny-files": ["a\n"]}], "'upstreams[0].deny-files'", "no filename can match", '"deny-files": ['),
    ([{**PLAIN, "deny-files": [5]}], "'upstreams[0].deny-files'", "no filename can match", '"deny-files": ['),
    ([{**PLAIN, "deny-files": ["x" * 256]}], "'upstreams[0].deny-files'", "no filename can match", '"deny-files": ['),
    (
        [{**PLAIN, "deny-files": ["x"] * 101}],
        "'upstreams[0].deny-files'",
        "is not a list of 1 to 100",
        '"deny-files": [',
    ),
    ([{**PLAIN, "min-age": "7"}], "'upstreams[0].min-age'", f"is not {DAYS}", '"min-age": 7'),
    ([{**PLAIN, "min-age": True}], "'upstreams[0].min-age'", f"is not {DAYS}", '"min-age": 7'),
    ([{**PLAIN, "min-age": 7.0}], "'upstreams[0].min-age'", f"is not {DAYS}", '"min-age": 7'),
    ([{**PLAIN, "min-age": -1}], "'upstreams[0].min-age'", f"is not {DAYS}", '"min-age": 7'),
    ([{**PLAIN, "min-age": 10_001}], "'upstreams[0].min-age'", f"is not {DAYS}", '"min-age": 7'),
    (
        [{**PLAIN, "min-age-exceptions": ["x"]}],
        "'upstreams[0].min-age-exceptions'",
        "is not an object",
        '{"urgent-*": 0}',
    ),
    ([{**PLAIN, "min-age-exceptions": {"A": 0}}], "'upstreams[0].min-age-exceptions'", "has 'A'", '{"urgent-*": 0}'),
    (
        [{**PLAIN, "min-age-exceptions": {"a": 1, "b": None}}],
        "'upstreams[0].min-age-exceptions'",
        f"has for 'b' not {DAYS}",
        '{"urgent-*": 0}',
    ),
    ([{**PLAIN, "undated": True}], "'upstreams[0].undated'", "is not one of young, old", '"undated": "old"'),
    ([{**PLAIN, "keep": "yes"}], "'upstreams[0].keep'", "is neither true nor false", '"keep": true'),
    ([{**PLAIN, "hosts": "a"}], "'upstreams[0].hosts'", "is not a list", '"hosts": ["files.example.org"]'),
    ([{**PLAIN, "hosts": ["a"] * 101}], "'upstreams[0].hosts'", "at most 100", '"hosts": ["files.example.org"]'),
    ([{**PLAIN, "private": 1}], "'upstreams[0].private'", "is neither true nor false", '"private": true'),
    ([REDIRECT, OTHER], *ALL),
    ([REDIRECT, {**OTHER, "allow": ["numpy"]}], *ALL),
    ([{**REDIRECT, "allow": ["a-*", "b"]}, {**OTHER, "allow": ["b", "a-*"]}], *ALL),
    ([{**REDIRECT, "deny": ["acme-*"]}, {**OTHER, "deny": ["acme-*", "b"]}], *ALL),
]
HOSTS = [
    *("https://files.example.org", "files.example.org/x", "a@b", "a:0", "a:65536", "a:x", "a:", ":80", "", "a b", "a."),
    *("[::1", "::1", "[::1%eth0]", "[1.2.3.4]", "bücher.example", "*.example.org", "\u212aey.example", 5, None),
]
WRONG += [
    ([{**PLAIN, "hosts": ["ok", host]}], "'upstreams[0].hosts'", "neither 'host' nor 'host:port'", '"hosts": ["files')
    for host in HOSTS
]
# (URL, what is said about it)
WRONG_URLS = [
    ("", "is empty"),
    ("pypi.org/simple/", "is not the http or https URL"),
    ("ftp://pypi.org/simple/", "is not the http or https URL"),
    ("https:///simple/", "is not the http or https URL"),
    ("https://pypi.org:port/simple/", "is not the http or https URL"),
    ("https://pypi.org:/simple/", "is not the http or https URL"),
    ("https://pypi.org:65536/simple/", "is not the http or https URL"),
    ("https://pypi.org:0/simple/", "is not the http or https URL"),
    ("https://pypi.org./simple/", "is not the http or https URL"),
    ("https://[::1/simple/", "is not the http or https URL"),
    ("https://[fe80::1%25eth0]/simple/", "is not the http or https URL"),
    ("https://[v1.x]/simple/", "is not the http or https URL"),
    ("https://*.example.org/simple/", "is not the http or https URL"),
    (" https://pypi.org/simple/", "is not the http or https URL"),
    ("https://pypi.org/sim ple/", "is not the http or https URL"),
    ("https://pypi.org\\simple/", "is not the http or https URL"),
    ("https://pypi.org/<project>/", "is not the http or https URL"),
    ("https://pypi.org/simple/\n", "contains a control character"),
    ("https://bücher.example/simple/", "has letters beyond ASCII; a host of such ones is written as DNS has it"),
    ("https://pypi.org/ä/", "has letters beyond ASCII"),
    ("https://\u212aey.example/simple/", "has letters beyond ASCII"),  # whose lowercase letter is an ordinary "k"
    ("https://pypi.org/simple/?x=1", "has a '?' or '#'"),
    ("https://pypi.org/simple/?", "has a '?' or '#'"),
    ("https://pypi.org/simple/#x", "has a '?' or '#'"),
    ("http://pypi.org/simple/", "is http, where whoever is on the way can change what is installed"),
    (f"https://reader:{SECRET}@pypi.org/simple/", "belong into 'username' and 'password'"),
    ("https://reader@pypi.org/simple/", "belong into 'username' and 'password'"),
    (f"https://reader:{SECRET}\u2100@pypi.org/simple/", "has letters beyond ASCII"),
    (f"https://reader:{SECRET}@[pypi.org/simple/", "is not the http or https URL"),
]
WRONG += [([{**PLAIN, "url": url}], "'upstreams[0].url'", says, HERE) for url, says in WRONG_URLS]


@pytest.mark.parametrize(("upstreams", "key", "says", "example"), WRONG)
def test_an_error_names_key_file_and_example(
    path: Path, upstreams: list[Any], key: str, says: str, example: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        load(path, *upstreams)
    message = str(raised.value)
    assert [part for part in (key, str(path), says, example) if part not in message] == []
    assert SECRET not in message
    assert "\n" not in message
    # Nor is it carried along by what a traceback would also write.
    assert SECRET not in str(raised.value.__context__)


ONLY_ON_A_PAGE_OF_OURS: dict[str, Any] = {
    "allow-files": ["*.whl"],
    "deny-files": ["*.exe"],
    "min-age": 7,
    "min-age-exceptions": {"urgent-*": 7},
    "undated": "old",
    "keep": True,
}


@pytest.mark.parametrize("key", [*ONLY_ON_A_PAGE_OF_OURS, "username"])
def test_what_clients_would_not_see_is_refused_where_they_are_redirected(path: Path, key: str) -> None:
    keys = {"username": "reader", "password": SECRET} if key == "username" else {key: ONLY_ON_A_PAGE_OF_OURS[key]}
    with pytest.raises(ConfigError) as raised:
        load(path, {**REDIRECT, **keys})
    assert str(raised.value) == (
        f"'upstreams[0].{key}' in {path} needs the mode 'proxy': clients that are redirected see the page of the other "
        'index itself; write for example "mode": "proxy", or leave it out'
    )


@pytest.mark.parametrize("first", [PLAIN, {**REDIRECT, "allow": ["numpy"]}, {**REDIRECT, "deny": ["acme-*"]}])
def test_what_may_still_have_its_turn_is_accepted(path: Path, first: dict[str, Any]) -> None:
    assert len(load(path, first, OTHER).upstreams) == 2


def test_http_is_for_networks_of_ones_own(path: Path) -> None:
    (upstream,) = load(path, {**PLAIN, "url": "http://pypi.internal:8080/simple", "private": True}).upstreams
    assert upstream.url == "http://pypi.internal:8080/simple/"


def test_patterns_by_which_every_name_is_ours_leave_nothing_to_ask_for(path: Path) -> None:
    assert load(path, own_names=["*"]).own_names == ("*",)
    with pytest.raises(
        ConfigError, match=r"'own_names' in .*config\.json has '\*', and no upstream would ever be asked"
    ):
        load(path, PLAIN, own_names=["acme-*", "*"])


def test_a_password_is_in_no_representation(path: Path) -> None:
    settings = load(path, {**PLAIN, "username": "reader", "password": SECRET})
    assert SECRET not in repr(settings) + str(settings.upstreams)


def test_a_key_that_is_given_twice_is_named(path: Path) -> None:
    path.write_text('{"upstreams": [{"min-age-exceptions": {"acme": 1, "acme": 2}}]}')
    with pytest.raises(ConfigError, match="'acme' is given 2 times"):
        load_settings(environ={}, default_path=path)


# What is documented ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", list(_READERS))
def test_every_key_of_an_upstream_is_documented(key: str) -> None:
    assert f"- `{key}`" in section()


def test_the_example_of_the_documentation_is_accepted(path: Path) -> None:
    example = section().split("```json\n")[1].split("```")[0]
    path.write_text(f"{{{example}}}")
    assert load_settings(environ={}, default_path=path).upstreams


def section() -> str:
    """What docs/configuration.md says about upstreams."""
    text = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    return text.partition("\n## Upstreams\n")[2].partition("\n## ")[0]

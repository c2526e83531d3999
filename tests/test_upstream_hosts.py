"""An upstream leads to its own hosts alone, and these lie where everybody can reach them."""

from __future__ import annotations

from typing import Any

import pytest

from elasticpypi.config import Upstream, UpstreamMode
from elasticpypi.upstream.fetching import may_be_asked
from elasticpypi.upstream.hosts import refuse_address

PYPI: dict[str, Any] = {
    "name": "pypi",
    "url": "https://pypi.example/simple/",
    "mode": UpstreamMode.PROXY,
    "hosts": ("files.example", "cdn.example:8443", "[2001:db8::1]:8443"),
}
METADATA, NOT_PUBLIC = "leads to the machine or its link alone", "that is not public; set 'private'"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://pypi.example/simple/acme/", True),
        ("https://pypi.example:443/anything?at=all", True),
        ("https://PyPI.Example/simple/acme/", True),  # a host is the same one in capital letters
        ("https://files.example/a.whl", True),
        ("https://cdn.example:8443/a.whl", True),
        ("https://[2001:db8::1]:8443/a.whl", True),
        ("http://pypi.example/simple/acme/", False),
        ("http://pypi.example:443/simple/acme/", False),
        ("http://files.example/a.whl", False),
        ("https://files.example:444/a.whl", False),
        ("https://cdn.example/a.whl", False),
        ("https://pypi.example:8443/", False),
        ("https://pypi.example:0/", False),
        ("https://pypi.example:99999/", False),
        ("https://pypi.example./", False),
        ("https://evil.example/", False),
        ("https://pypi.example.evil.example/", False),
        ("https://user@pypi.example/", False),
        ("https://user:secret@pypi.example/", False),
        ("https://@pypi.example/", False),
        ("https://evil.example@pypi.example/", False),
        ("https://pypi.example@evil.example/", False),
        ("https://evil.example\\@pypi.example/", False),
        ("https://pypi.example\\.evil.example/", False),
        ("https://evil[2001:db8::1]:8443/a.whl", False),
        ("https://[2001:db8::1]evil:8443/a.whl", False),
        ("https://pypi%2eexample/", False),
        ("https://\uff50ypi.example/", False),
        ("https://pypi\u3002example/", False),
        ("https://pypi.example/\n", False),
        (" https://pypi.example/", False),
        ("https://pypi.exa\tmple/", False),
        ("//pypi.example/", False),
        ("/simple/", False),
        ("ftp://pypi.example/", False),
        ("file:///etc/passwd", False),
        ("https://[::1/", False),
        ("https:///simple/", False),
        ("", False),
    ],
)
def test_an_upstream_leads_to_its_own_hosts_alone(url: str, expected: bool) -> None:
    assert may_be_asked(Upstream(**PYPI), url) is expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://pypi.example/simple/acme/", True),
        ("http://files.example/a.whl", True),
        ("https://files.example/a.whl", True),
        ("https://pypi.example/simple/acme/", True),  # the same host, where TLS usually is
        ("https://pypi.example:8443/simple/acme/", False),  # another port, which 'hosts' does not name
        ("https://files.example:80/a.whl", False),
    ],
)
def test_an_upstream_without_tls_may_lead_to_hosts_with_it(url: str, expected: bool) -> None:
    assert may_be_asked(Upstream(**(PYPI | {"url": "http://pypi.example/simple/"})), url) is expected


def test_a_port_of_its_own_has_no_usual_one_with_tls() -> None:
    upstream = Upstream(**(PYPI | {"url": "http://pypi.example:8080/simple/"}))
    assert not may_be_asked(upstream, "https://pypi.example/simple/acme/")
    assert not may_be_asked(upstream, "http://pypi.example/simple/acme/")


@pytest.mark.parametrize(
    "address", ["151.101.0.223", "8.8.8.8", "2a04:4e42::223", "64:ff9b::8.8.8.8", "2002:808:808::"]
)
def test_public_addresses_are_asked(address: str) -> None:
    assert refuse_address(address, "pypi.example", private=False) is None


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.0.1",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.1.1",
        "240.0.0.1",
        "255.255.255.255",
        "192.0.2.1",
        "198.18.0.1",
        "::",
        "::1",
        "fd12:3456::1",
        "fec0::1",
        "ff0e::1",
        "4000::1",
        "2001:db8::1",
        "2001::1",  # Teredo
        "::7f00:1",
        "::ffff:127.0.0.1",
        "::ffff:10.1.2.3",
        "64:ff9b::10.1.2.3",
        "64:ff9b:1::8.8.8.8",
        "2002:a01:203::1",
    ],
)
def test_addresses_that_are_not_public_are_asked_only_where_that_is_meant(address: str) -> None:
    reason = refuse_address(address, "pypi.example", private=False)
    assert reason is not None
    assert NOT_PUBLIC in reason
    assert address not in reason  # which a client learns of
    assert refuse_address(address, "pypi.example", private=True) is None


@pytest.mark.parametrize(
    "address",
    ["169.254.169.254", "169.254.0.1", "fe80::1", "fe80::1%eth0", "fd00:ec2::254", "::ffff:169.254.169.254",
     "64:ff9b::169.254.169.254", "2002:a9fe:a9fe::", "100.100.100.200", "192.0.0.192", "168.63.129.16",
     "64:ff9b::168.63.129.16", "fd20:ce::254"],
)  # fmt: skip
@pytest.mark.parametrize("private", [False, True])
def test_addresses_of_the_machine_or_its_link_are_asked_only_by_themselves(address: str, private: bool) -> None:
    reason = refuse_address(address, "pypi.example", private=private)
    assert reason is not None
    assert METADATA in reason
    assert (refuse_address(address, address, private=private) is None) is private

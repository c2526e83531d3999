"""Which hosts an upstream may lead to, and at which addresses they may be.

Specifications: URLs (RFC 3986), special-purpose addresses (RFC 6890), and the IPv6 forms that have an IPv4 address in
them: mapped (RFC 4291, section 2.5.5.2), 6to4 (RFC 3056), NAT64 (RFC 6052).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import urlsplit

from elasticpypi.config import Upstream

_DEFAULT_PORTS = {"http": 80, "https": 443}
_NO_URL = frozenset('<>"\\\x7f')  # and whatever is not above the space: parsers of URLs disagree about these
_LONGEST_HOST = 253  # characters (RFC 1035, section 2.3.4)
_Address = IPv4Address | IPv6Address
_UNICAST = ip_network("2000::/3")  # of IPv6; what lies outside is not given out, or not for everybody
_NAT64 = ip_network("64:ff9b::/96")
# Link-local ones, and those where clouds tell a machine about itself: behind them are its credentials.
_OF_THE_MACHINE = (
    ip_network("169.254.0.0/16"),
    ip_network("fe80::/10"),
    ip_network("fd00:ec2::/32"),  # AWS
    ip_network("fd20:ce::254"),  # Google Cloud
    ip_network("168.63.129.16"),  # Azure
    ip_network("100.100.100.200"),  # Alibaba Cloud
    ip_network("192.0.0.192"),  # Oracle Cloud
)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a URL leads to (RFC 6454, section 4)."""

    scheme: str  # http or https
    host: str  # lowercase, without brackets
    port: int

    def __str__(self) -> str:
        port = "" if _is_usual(self) else f":{self.port}"
        return f"{self.scheme}://{_bracket(self.host)}{port}"


def read_origin(url: str) -> Origin | None:
    """Return where a URL leads to; None for what is not plainly an http or https URL, or has credentials in it."""
    if not url.isascii() or any(character <= " " or character in _NO_URL for character in url):
        return None
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if parts.scheme not in _DEFAULT_PORTS or not host or port == 0:
        return None
    # So nothing stands before the host, and nothing but the port behind it.
    if not f"{parts.netloc.lower()}:".startswith(f"{_bracket(host)}:") or len(host) > _LONGEST_HOST:
        return None
    return Origin(parts.scheme, host, port or _DEFAULT_PORTS[parts.scheme])


def _bracket(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def is_among(origin: Origin, upstream: Upstream) -> bool:
    """Whether this is a host of an upstream; one that is asked with TLS leads nowhere without it."""
    own = read_origin(upstream.url)
    if own is None or (own.scheme == "https" and origin.scheme == "http"):
        return False
    # Both at their usual ports: one without TLS may lead to itself with it.
    if origin.host == own.host and (origin.port == own.port or (_is_usual(origin) and _is_usual(own))):
        return True
    return any(
        (origin.host, origin.port) == (host, port or _DEFAULT_PORTS[origin.scheme])
        for host, port in _read_hosts(upstream.hosts)
    )


def _is_usual(origin: Origin) -> bool:
    return origin.port == _DEFAULT_PORTS[origin.scheme]


@lru_cache(maxsize=32)
def _read_hosts(hosts: tuple[str, ...]) -> tuple[tuple[str | None, int | None], ...]:
    parts = [urlsplit(f"//{host}") for host in hosts]
    return tuple((part.hostname, part.port) for part in parts)


def refuse_address(address: str, host: str, *, private: bool) -> str | None:
    """Return why a host is not asked at the address it has, as the rest of a sentence; None where it may be."""
    found = _read_address(address)
    if any(found in network for network in _OF_THE_MACHINE):
        if private and _is_literally(host, found):
            return None
        return f"has an address at {host} that leads to the machine or its link alone, which is never asked"
    if not private and not _is_public(found):
        return f"has an address at {host} that is not public; set 'private' in its configuration if that is meant"
    return None


def _read_address(text: str) -> _Address:
    """Return the address that is really reached: the IPv4 one, if it is wrapped in one of IPv6."""
    address = ip_address(text.partition("%")[0])  # behind it is the interface, of link-local ones
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def _is_literally(host: str, address: _Address) -> bool:
    try:
        return _read_address(host) == address
    except ValueError:
        return False  # a name, of which somebody else tells where it leads


def _is_public(address: _Address) -> bool:
    if isinstance(address, IPv6Address) and address not in _UNICAST:
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved

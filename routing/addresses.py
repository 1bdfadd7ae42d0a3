"""Which addresses may we call for others?  Pure.

Whoever names an address for us to call (a webhook, an agent card) must not reach what only we can reach. A name is
looked up once, all its addresses have to be public, and the connection goes to the address that was looked at.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

NAT64 = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("64:ff9b:1::/48"))
NEVER = (  # besides what is private, loopback, link-local, multicast, reserved or unspecified
    ipaddress.IPv4Network("100.64.0.0/10"),  # shared: a provider's inside
    ipaddress.IPv4Network("192.0.0.0/24"),
    ipaddress.IPv4Network("198.18.0.0/15"),
    ipaddress.IPv4Network("168.63.129.16/32"),  # a cloud's metadata
    ipaddress.IPv6Network("fd00:ec2::254/128"),  # another's
)


def parse(text: str) -> Address:
    """Return the address, without its zone. Raises ValueError."""
    return ipaddress.ip_address(text.partition("%")[0])


def networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Return the networks among the texts; a single address is one of its own, and names of hosts are left out."""
    return tuple(network for text in texts if (network := _network(text)) is not None)


def _network(text: str) -> Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def is_public(address: Address, allowed: Iterable[Network] = ()) -> bool:
    """Return whether we may call it: it is anybody's to reach, or one of those that the operator ``allowed``."""
    if any(address in network for network in allowed if network.version == address.version):
        return True
    if (inner := _inside(address)) is not None:
        return is_public(inner, allowed)
    if any(address in network for network in NEVER if network.version == address.version):
        return False
    is_special = address.is_multicast or address.is_reserved or address.is_unspecified or address.is_link_local
    return address.is_global and not is_special


def refusal(scheme: str, host: str, found: Sequence[Address], allowed: Sequence[str]) -> str:
    """Return why a host with these addresses is not called, "" if it may be.

    Only what the operator ``allowed``, as hosts, addresses or networks, may be called by plain http.
    """
    inside = networks(allowed)
    if host.lower() in allowed or all(any(_is_in(each, network) for network in inside) for each in found):
        return ""
    if scheme != "https":
        return "it is not https"
    return "" if all(is_public(each, inside) for each in found) else "it leads to an address that is not public"


def _is_in(address: Address, network: Network) -> bool:
    return address.version == network.version and address in network


def _inside(address: Address) -> ipaddress.IPv4Address | None:
    """Return the IPv4 address that an IPv6 address stands for: mapped, 6to4, Teredo, NAT64, or compatible."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if any(address in network for network in NAT64) or 1 < int(address) < 2**32:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return None

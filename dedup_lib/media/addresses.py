"""Which IP addresses a host has, and which of them may be asked."""

from __future__ import annotations

import ipaddress
import os
import socket
from urllib.request import proxy_bypass

from dedup_lib.errors import VideoTrouble
from dedup_lib.media.limits import FetchLimits
from dedup_lib.records import Status

_CARRIES_IPV4_LAST = tuple(
    ipaddress.IPv6Network(network) for network in ("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96")
)
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_SERVICES_OF_CLOUDS = frozenset({ipaddress.IPv4Address("168.63.129.16")})
"""Public addresses at which a cloud answers each of its machines: the host agent of Azure (Microsoft Learn, "What is IP
address 168.63.129.16?"). Those of other clouds are in private networks."""


def find_addresses(scheme: str, host: str, port: int, *, limits: FetchLimits) -> list[str]:
    """Returns the checked IP addresses of a host. The connection goes to one of these and to no other.

    Raises VideoTrouble when the name does not resolve, or when one of its addresses is not public and
    `limits.allow_private_addresses` is off.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        again = isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN
        reason = f"the host name {host!r} does not resolve{hint_at_proxy(scheme, host)}"
        raise VideoTrouble(Status.UNREACHABLE, reason, retryable=again) from None
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    for address in addresses:
        if not limits.allow_private_addresses and not is_public_address(address):
            raise VideoTrouble(
                Status.BLOCKED_ADDRESS,
                f"{host} is at {address}, a private address (allow_private_addresses would permit it)",
                refused_by=limits.spell("allow_private_addresses"),
            )
    return addresses


def is_public_address(address: str) -> bool:
    """Whether an IP address lies in the public internet.

    An IPv6 address that carries an IPv4 address (mapped, compatible, translated, 6to4, NAT64, Teredo) is public when
    the IPv4 address is.
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if any(ip in network for network in _CARRIES_IPV4_LAST):
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public_address(str(inner))
        # Public IPv6 addresses all lie in global unicast (RFC 4291, section 2.4).
        if ip not in _GLOBAL_UNICAST:
            return False
    return ip.is_global and not ip.is_multicast and ip not in _SERVICES_OF_CLOUDS


def hint_at_proxy(scheme: str, host: str) -> str:
    """Returns a hint to add to the reason of a failed connection: the environment variable that names a proxy for
    this host, or "".

    Videos are fetched without a proxy: a proxy hides which address is contacted, so the address rules could not be
    applied. The hint leaves out the variable's value, which may hold a password.
    """
    for name in (f"{scheme}_proxy", "all_proxy"):
        for spelling in (name, name.upper()):
            if os.environ.get(spelling) and not proxy_bypass(host):
                return f"; the environment names a proxy ({spelling}), which is not used for videos"
    return ""

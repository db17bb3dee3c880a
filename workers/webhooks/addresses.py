"""Which addresses may be connected to, and a resolver that gives no other.

A name is resolved once for a connection; every address it has must be fit, and the connection goes
to one of those, so that a name which is something else a moment later (DNS rebinding) gains
nothing. The socket is asked once more for bare addresses, which no resolver sees.

Sources: IANA special-purpose address registries; RFC 6890, 4193, 6052, 3056, 4380.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from aiohttp.abc import AbstractResolver, ResolveResult

Lookup = Callable[[str], Awaitable[Sequence[str]]]
"""The addresses of a name. Raises OSError when it has none, or nobody can say."""
LOOKUPS_AT_A_TIME = 2

# Of clouds: they hand out credentials, wherever they are asked from.
_METADATA = frozenset(
    ip_address(one)
    for one in ("169.254.169.254", "100.100.100.200", "168.63.129.16", "fd00:ec2::254")
)
_OWN = [
    ip_network(one)
    for one in (
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "::1/128",
        "fc00::/7",
    )
]
# What Python 3.11 takes for global and isn't: protocol assignments, 6to4 relays.
_NOT_GLOBAL = [ip_network(one) for one in ("192.0.0.0/24", "192.88.99.0/24")]
_GLOBAL_6 = ip_network("2000::/3")
# Within it: protocol assignments with Teredo, 6to4 (a v4 address within), documentation.
_NOT_GLOBAL_6 = [
    ip_network(one) for one in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
]
_NAT64 = ip_network("64:ff9b::/96")


class UnfitAddressError(OSError):
    """A name leads to an address that mustn't be connected to."""


def why_unfit(address: str, *, private: bool = False) -> str:
    """Why an address mustn't be connected to; "" when it may.

    `private` allows the addresses of one's own network and machine, never link-local ones or those
    where clouds hand out credentials.
    """
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return "isn't an address"
    if isinstance(found, IPv6Address):
        found = _within(found)
    if found in _METADATA:
        return "hands out a cloud's credentials"
    if private and any(found in one for one in _OWN if one.version == found.version):
        return ""
    return "" if _is_global(found) else "isn't a public address"


def _within(address: IPv6Address) -> IPv4Address | IPv6Address:
    """The v4 address that a mapped or translated one stands for."""
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address


def _is_global(address: IPv4Address | IPv6Address) -> bool:
    if isinstance(address, IPv6Address):
        return address in _GLOBAL_6 and not any(address in one for one in _NOT_GLOBAL_6)
    special = any(address in one for one in _NOT_GLOBAL)
    return address.is_global and not address.is_multicast and not special


class CheckedResolver(AbstractResolver):
    """Gives the addresses of a name, all of them fit, or raises UnfitAddressError."""

    def __init__(self, *, private: bool, lookup: Lookup | None = None) -> None:
        # Threads of its own: a name server that doesn't answer holds up nobody else's names.
        self._threads = ThreadPoolExecutor(LOOKUPS_AT_A_TIME, thread_name_prefix="webhook-names")
        self._private = private
        self._lookup = lookup or self._ask

    async def _ask(self, host: str) -> list[str]:
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(
            self._threads, lambda: socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        )
        return [str(one[4][0]) for one in found]

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Every address of `host`. Raises OSError; UnfitAddressError when one of them is unfit."""
        found = list(dict.fromkeys(await self._lookup(host)))
        if not found:
            raise OSError(f"{host} has no address")
        for address in found:
            if why := why_unfit(address, private=self._private):
                raise UnfitAddressError(f"{host} leads to {address}, which {why}")
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for address in found
        ]

    def socket(self, info: tuple[int, int, int, str, tuple[object, ...]]) -> socket.socket:
        """A socket for one address (as getaddrinfo gives it). Raises UnfitAddressError."""
        family, kind, proto, _, where = info
        if why := why_unfit(str(where[0]), private=self._private):
            raise UnfitAddressError(f"{where[0]} {why}")
        return socket.socket(family, kind, proto)

    async def close(self) -> None:
        """Gives up the lookups that are under way."""
        self._threads.shutdown(wait=False, cancel_futures=True)

"""Where a request comes from: the peer, or what a trusted proxy says stands behind it.

A forwarded address is a claim. It is believed as far as it was written by somebody we trust: read from the right,
the first address that is no trusted proxy's is the client, and whatever stands left of it that client made up.
"""

import ipaddress
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final, Literal

from starlette.types import ASGIApp, Receive, Scope, Send

from chassis.edge_settings import Network

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
ForwardedHeader = Literal["x-forwarded-for", "forwarded"]

_NOBODY: Final = "unknown"
_IPV6_PREFIX: Final = 64
_MAX_HOPS: Final = 32
_PARAMETER: Final = re.compile(r'\s*([A-Za-z]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^\s;,"]+)\s*(?:;|$)')


class ClientAddressMiddleware:
    """Puts the client's address and scheme in the place of the proxy's, where the proxy is trusted."""

    def __init__(self, app: ASGIApp, *, proxies: Sequence[Network], header: ForwardedHeader) -> None:
        """Say whom to believe.

        Args:
            app: What comes after.
            proxies: Networks of trusted proxies.
            header: The one header they write. The other is left alone: a proxy that does not write it lets it through.
        """
        self._app, self._proxies, self._header = app, tuple(proxies), header

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection (ASGI)."""
        if scope["type"] == "http" and self._proxies and scope.get("client"):
            peer = parsed(scope["client"][0])
            if peer is not None and self._trusts(peer):
                self._look_behind(scope, peer)
        await self._app(scope, receive, send)

    def _trusts(self, address: Address) -> bool:
        return any(address in network for network in self._proxies)

    def _look_behind(self, scope: Scope, peer: Address) -> None:
        hops = _elements(scope, self._header)
        if self._header == "forwarded":
            parameters = [_parameters(hop) for hop in hops]
            addresses = [hop.get("for", "") for hop in parameters]
            schemes = [hop.get("proto", "") for hop in parameters]
        else:
            addresses, schemes = hops, _elements(scope, "x-forwarded-proto")
        client = self._client(addresses, peer)
        if client is not peer:
            scope["client"] = (str(client), 0)
        # The nearest proxy knows how the request came to it, or has it from one that it trusts itself.
        if schemes and schemes[-1].lower() in {"http", "https"}:
            scope["scheme"] = schemes[-1].lower()

    def _client(self, addresses: Iterable[str], peer: Address) -> Address:
        client = peer
        for claimed in reversed(list(addresses)[-_MAX_HOPS:]):
            address = parsed(claimed)
            if address is None:  # not readable: then nobody says who wrote what is left of it either
                break
            client = address
            if not self._trusts(address):
                break
        return client


def parsed(text: str) -> Address | None:
    """Read an address with or without a port, IPv6 in brackets or not; None when it is none."""
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        return None if address.scope_id else address.ipv4_mapped or address
    return address


@lru_cache(maxsize=4096)
def network_of(host: str) -> str:
    """Give what counts as one client: an IPv4 address, or the /64 that one IPv6 subscriber has for itself."""
    address = parsed(host)
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Network((int(address), _IPV6_PREFIX), strict=False))
    return _NOBODY if address is None else str(address)


def client_of(scope: Scope) -> str:
    """Give what counts as the client of a request."""
    client = scope.get("client")
    return network_of(client[0]) if client else _NOBODY


def _elements(scope: Scope, name: str) -> list[str]:
    wanted = name.encode()
    joined = ",".join(value.decode("latin-1") for key, value in scope["headers"] if key == wanted)
    return [element.strip() for element in joined.split(",")] if joined else []


def _parameters(element: str) -> dict[str, str]:
    """Read one hop of a `Forwarded` header (RFC 7239, section 4); nothing where it is not well formed."""
    found, position = {}, 0
    while position < len(element):
        match = _PARAMETER.match(element, position)
        if match is None:
            return {}
        found[match[1].lower()] = match[2].strip('"')
        position = match.end()
    return found

"""Who a request comes from: the peer, or what a trusted proxy says; and nobody's own word for it."""

import ipaddress
from typing import Literal

import pytest
from starlette.types import Message, Receive, Scope, Send

from chassis.client_address import ClientAddressMiddleware, client_of, network_of

PROXIES = [ipaddress.ip_network(network) for network in ("10.0.0.0/8", "2001:db8:ffff::/48", "127.0.0.1")]
Header = Literal["x-forwarded-for", "forwarded"]


async def seen(peer: str | None, *headers: tuple[str, str], header: Header = "x-forwarded-for") -> tuple[str, str]:
    """What the application is told: address, and scheme."""
    told: list[tuple[str, str]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        told.append((scope["client"][0] if scope["client"] else "", scope["scheme"]))

    async def receive() -> Message:
        raise AssertionError

    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
    scope = {"type": "http", "client": (peer, 4711) if peer else None, "scheme": "http", "headers": raw}
    await ClientAddressMiddleware(app, proxies=PROXIES, header=header)(scope, receive, receive)  # type: ignore[arg-type]
    return told[0]


async def client_behind(peer: str, forwarded_for: str) -> str:
    return (await seen(peer, ("X-Forwarded-For", forwarded_for)))[0]


async def test_a_peer_that_is_no_trusted_proxy_is_the_client_whatever_it_claims() -> None:
    claims = [("X-Forwarded-For", "1.2.3.4"), ("Forwarded", "for=1.2.3.4;proto=https"), ("X-Forwarded-Proto", "https")]
    assert await seen("203.0.113.9", *claims) == ("203.0.113.9", "http")
    assert await seen("203.0.113.9", *claims, header="forwarded") == ("203.0.113.9", "http")
    assert await seen("::ffff:203.0.113.9", *claims) == ("::ffff:203.0.113.9", "http")


async def test_behind_a_trusted_proxy_the_right_most_untrusted_address_is_the_client() -> None:
    assert await client_behind("10.0.0.1", "198.51.100.7") == "198.51.100.7"
    assert await client_behind("10.0.0.1", "6.6.6.6, 198.51.100.7") == "198.51.100.7"  # the left one it made up
    assert await client_behind("10.0.0.1", "6.6.6.6, 198.51.100.7, 10.2.3.4,10.9.9.9") == "198.51.100.7"
    assert await client_behind("::ffff:10.0.0.1", "198.51.100.7") == "198.51.100.7"
    assert await client_behind("2001:db8:ffff::1", "2001:db8::5") == "2001:db8::5"


async def test_several_lines_of_the_header_are_one_list() -> None:
    lines = [("X-Forwarded-For", "6.6.6.6"), ("X-Forwarded-For", "198.51.100.7"), ("X-Forwarded-For", "10.2.3.4")]
    assert (await seen("10.0.0.1", *lines))[0] == "198.51.100.7"


async def test_where_all_are_proxies_the_first_of_them_is_the_client() -> None:
    assert await client_behind("10.0.0.1", "10.0.0.3, 10.0.0.2") == "10.0.0.3"


@pytest.mark.parametrize(
    "forwarded_for",
    ["", " ", "unknown", "_hidden", "1.2.3", "1.2.3.4.5", "256.1.1.1", "fe80::1%eth0", "\xff", "<script>"],
)
async def test_a_malformed_address_is_ignored_and_so_is_what_stands_left_of_it(forwarded_for: str) -> None:
    assert await client_behind("10.0.0.1", forwarded_for) == "10.0.0.1"
    assert await client_behind("10.0.0.1", f"6.6.6.6, {forwarded_for}") == "10.0.0.1"
    assert await client_behind("10.0.0.1", f"6.6.6.6, {forwarded_for}, 10.7.7.7") == "10.7.7.7"


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("198.51.100.7:443", "198.51.100.7"),
        ("[2001:db8::5]:443", "2001:db8::5"),
        ("[2001:db8::5]", "2001:db8::5"),
        ("2001:DB8:0::5", "2001:db8::5"),
        ("::ffff:198.51.100.7", "198.51.100.7"),
    ],
)
async def test_ports_brackets_and_mapped_addresses_are_understood(written: str, address: str) -> None:
    assert await client_behind("10.0.0.1", written) == address


async def test_the_standard_header_is_read_where_the_settings_say_so_and_then_the_other_is_not() -> None:
    forwarded = ("Forwarded", 'for=6.6.6.6, For="[2001:db8::5]:4711";Proto=https;by=10.0.0.2, for=10.0.0.3;proto=https')
    ours = ("X-Forwarded-For", "7.7.7.7")
    assert await seen("10.0.0.1", forwarded, ours, header="forwarded") == ("2001:db8::5", "https")
    assert await seen("10.0.0.1", forwarded, ours) == ("7.7.7.7", "http")


@pytest.mark.parametrize("value", ["for", "for=", "for=1.2.3.4 proto=https", 'for="1.2.3.4', "=;=", "for=1.2.3.4,,"])
async def test_a_malformed_standard_header_is_ignored(value: str) -> None:
    assert await seen("10.0.0.1", ("Forwarded", value), header="forwarded") == ("10.0.0.1", "http")


async def test_the_scheme_is_what_the_nearest_proxy_says() -> None:
    for value, scheme in {"https": "https", "HTTPS": "https", "http, https": "https", "https, http": "http"}.items():
        assert (await seen("10.0.0.1", ("X-Forwarded-Proto", value)))[1] == scheme
    for value in ("", "ftp", "https://"):
        assert (await seen("10.0.0.1", ("X-Forwarded-Proto", value)))[1] == "http"


async def test_without_a_peer_nobody_is_believed() -> None:
    assert await seen(None, ("X-Forwarded-For", "1.2.3.4")) == ("", "http")
    assert client_of({"client": None}) == "unknown"


def test_an_ipv6_client_is_its_64_and_an_ipv4_client_its_address() -> None:
    assert network_of("2001:db8:1:2:3:4:5:6") == network_of("2001:db8:1:2::1") == "2001:db8:1:2::/64"
    assert network_of("2001:db8:1:3::1") == "2001:db8:1:3::/64"
    assert network_of("198.51.100.7") == network_of("::ffff:198.51.100.7") == "198.51.100.7"
    assert network_of("testclient") == "unknown"

"""The rules for fetches that users ask for: forms of addresses, where they lead, what an administrator may let in."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factories.hostile_addresses import INSIDE, LITERALS, NAMES, TRICKS, hostile_urls
from quantry_core.addresses import REACHES, Reach, carried, reach_of
from quantry_core.errors import OutboundRefused
from quantry_core.outbound import Destination, OutboundRules, PrivatePlace

RULES = OutboundRules()
PUBLIC = ipaddress.ip_address("93.184.216.34")
HTTPS = Destination("https", "hooks.example", 443, None)


def rules(*entries: str, plain_http: bool = False) -> OutboundRules:
    return OutboundRules(tuple(PrivatePlace.parse(entry) for entry in entries), plain_http=plain_http)


@pytest.mark.parametrize("form", [*LITERALS, *NAMES, *TRICKS])
def test_nothing_that_leads_inside_gets_through_by_how_it_is_written(form: str) -> None:
    with pytest.raises(OutboundRefused):
        OutboundRules(plain_http=True).check_url(form.replace("{port}", "8080"))


def test_there_are_more_than_sixty_of_them() -> None:
    assert len(set(hostile_urls(8080))) == len((*LITERALS, *NAMES, *TRICKS)) >= 60


@pytest.mark.parametrize("found", INSIDE)
def test_a_name_that_leads_inside_is_refused_and_not_told_where(found: str) -> None:
    with pytest.raises(OutboundRefused) as refused:
        OutboundRules(plain_http=True).check_addresses(HTTPS, [PUBLIC, ipaddress.ip_address(found)])
    assert found not in refused.value.detail


@pytest.mark.parametrize(
    ("url", "destination"),
    [
        ("https://hooks.example/services/a?b=c", HTTPS),
        ("https://Hooks.Example:8443/", Destination("https", "hooks.example", 8443, None)),
        ("https://xn--bcher-kva.example/", Destination("https", "xn--bcher-kva.example", 443, None)),
        ("https://93.184.216.34/", Destination("https", "93.184.216.34", 443, PUBLIC)),
        ("https://[2606:4700::1111]/", Destination("https", "2606:4700::1111", 443, ipaddress.ip_address("2606:4700::1111"))),
        ("https://a_b.example:1024/%41", Destination("https", "a_b.example", 1024, None)),
    ],
)
def test_what_is_fine(url: str, destination: Destination) -> None:
    assert RULES.check_url(url) == destination


def test_public_hosts_are_asked_over_tls_unless_a_setting_says_otherwise() -> None:
    plain = Destination("http", "hooks.example", 80, None)
    with pytest.raises(OutboundRefused, match="without TLS"):
        RULES.check_addresses(plain, [PUBLIC])
    assert OutboundRules(plain_http=True).check_addresses(plain, [PUBLIC]) == [PUBLIC]
    assert RULES.check_addresses(HTTPS, [PUBLIC, PUBLIC]) == [PUBLIC]
    with pytest.raises(OutboundRefused, match="no address"):
        RULES.check_addresses(HTTPS, [])


@pytest.mark.parametrize("inner", ["127.0.0.1", "10.0.0.7", "93.184.216.34"])
def test_an_address_inside_another_is_judged_as_itself(inner: str) -> None:
    v4 = ipaddress.ip_address(inner)
    for outer in (f"::ffff:{inner}", f"64:ff9b::{inner}"):
        assert carried(ipaddress.ip_address(outer)) == v4
        assert reach_of(ipaddress.ip_address(outer)) == reach_of(v4)


@given(st.ip_addresses())
def test_what_python_calls_private_is_never_public_here(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    reach, words = reach_of(address)
    assert words
    if reach is Reach.PUBLIC:
        assert carried(address).is_global


def test_the_table_is_narrow_before_wide() -> None:
    for index, (network, _, words) in enumerate(REACHES):
        hidden = [later for later, *_ in REACHES[index + 1 :] if later.version == network.version and later.subnet_of(network)]  # type: ignore[arg-type]
        assert not hidden, f"{words} hides {hidden}"


class TestNamedPlaces:
    @pytest.mark.parametrize(
        ("entry", "url", "found"),
        [
            ("receiver.tools.svc", "http://receiver.tools.svc:9000/x", "10.3.2.1"),
            ("receiver", "http://receiver/x", "10.3.2.1"),
            ("*.corp.example", "https://a.b.corp.example/", "192.168.1.1"),
            ("receiver.svc:81", "http://receiver.svc:81/", "10.0.0.1"),
            ("10.0.0.0/8", "http://10.1.2.3:8080/", "10.1.2.3"),
            ("10.0.0.0/8", "http://hooks.corp.example/", "10.1.2.3"),
            ("127.0.0.1", "http://127.0.0.1:9999/", "127.0.0.1"),
            ("[::1]:9999", "http://[::1]:9999/", "::1"),
            ("fd00::/8", "http://[fd00::7]/", "fd00::7"),
            ("[fd00::]/8:9999", "http://[fd00::7]:9999/", "fd00::7"),
        ],
    )
    def test_are_let_in_without_tls_too(self, entry: str, url: str, found: str) -> None:
        let = rules(entry)
        address = ipaddress.ip_address(found)
        assert list(let.check_addresses(let.check_url(url), [address])) == [address]

    @pytest.mark.parametrize(
        ("entry", "url", "found"),
        [
            ("receiver.svc", "http://other.receiver.svc/", "10.0.0.1"),
            ("*.corp.example", "https://corp.example/", "10.0.0.1"),
            ("*.corp.example", "https://evilcorp.example/", "10.0.0.1"),
            ("receiver.svc:9000", "http://receiver.svc:9001/", "10.0.0.1"),
            ("10.0.0.0/8:9000", "http://10.0.0.1:9001/", "10.0.0.1"),
            ("10.0.0.0/8", "http://hooks.example/", "192.168.0.1"),
            ("receiver.svc", "http://receiver.svc:22/", "10.0.0.1"),
            ("receiver.svc,other.svc:22", "http://receiver.svc:22/", "10.0.0.1"),
            ("receiver.svc", "http://receiver.svc/", "169.254.169.254"),
            ("169.254.0.0/16", "http://169.254.169.254/", "169.254.169.254"),
            ("0.0.0.0/0", "http://receiver.example/", "100.100.100.200"),
            ("fd00::/8", "http://receiver.example/", "fd00:ec2::254"),
        ],
    )
    def test_let_in_nothing_else_and_never_the_keys_of_a_machine(self, entry: str, url: str, found: str) -> None:
        let = rules(*entry.split(","))
        with pytest.raises(OutboundRefused):
            let.check_addresses(let.check_url(url), [ipaddress.ip_address(found)])

    @pytest.mark.parametrize("entry", ["", "10.0.0.1/8", "300.1.1.1", "a b", "http://x", "host:0", "host:70000", "*", "a*b", "[::1", "::g"])
    def test_that_cannot_be_read_are_refused(self, entry: str) -> None:
        with pytest.raises(ValueError, match=r"entry|network|port|''"):
            PrivatePlace.parse(entry)

    def test_are_named_by_the_setting_in_the_refusal(self) -> None:
        with pytest.raises(OutboundRefused, match="QUANTRY_OUTBOUND_PRIVATE"):
            RULES.check_url("http://receiver.tools.svc/")

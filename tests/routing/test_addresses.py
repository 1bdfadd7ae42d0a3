"""Which addresses may be called for others?"""

from __future__ import annotations

import ipaddress

import pytest

from routing.addresses import is_public, networks, parse, refusal


class TestIsPublic:
    @pytest.mark.parametrize("text", ["93.184.215.14", "8.8.8.8", "2606:2800:21f:cb07:6820:80da:af6b:8b2c"])
    def test_of_what_anybody_can_reach(self, text: str) -> None:
        assert is_public(parse(text))

    @pytest.mark.parametrize(
        "text",
        [
            *("127.0.0.1", "127.8.8.8", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254"),
            *("100.64.0.1", "192.0.0.8", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "168.63.129.16"),
            *("::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1"),
            *("::ffff:127.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "2002:7f00:1::", "64:ff9b::a9fe:a9fe"),
            "2001:0:4136:e378:8000:63bf:80ff:fffe",  # Teredo, of 127.0.0.1
        ],
    )
    def test_of_nothing_that_only_we_can_reach(self, text: str) -> None:
        assert not is_public(parse(text))

    def test_of_an_ipv6_address_that_stands_for_a_public_one(self) -> None:
        assert is_public(parse("64:ff9b::8.8.8.8"))

    def test_of_what_the_operator_allows(self) -> None:
        allowed = networks(["10.1.0.0/16", "::1"])

        assert is_public(parse("10.1.2.3"), allowed)
        assert is_public(parse("::1"), allowed)
        assert not is_public(parse("10.2.0.1"), allowed)
        assert not is_public(ipaddress.ip_address("127.0.0.1"), allowed)


class TestRefusal:
    @pytest.mark.parametrize(
        ("scheme", "host", "found", "allowed", "words"),
        [
            ("https", "a.example", ["8.8.8.8"], [], ""),
            ("https", "a.example", ["8.8.8.8", "10.0.0.1"], [], "not public"),
            ("https", "a.example", ["10.0.0.1"], ["10.0.0.0/8"], ""),
            ("http", "a.example", ["10.0.0.1"], ["10.0.0.0/8"], ""),
            ("http", "a.example", ["8.8.8.8"], ["10.0.0.0/8"], "not https"),
            ("http", "A.example", ["10.0.0.1"], ["a.example"], ""),
        ],
    )
    def test_is_by_all_addresses_and_what_is_allowed(
        self, scheme: str, host: str, found: list[str], allowed: list[str], words: str
    ) -> None:
        why = refusal(scheme, host, [parse(each) for each in found], allowed)

        assert (words in why) if words else why == ""

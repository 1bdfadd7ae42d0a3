"""What the fleet, and each agent, says of itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from a2a.types import a2a_pb2 as pb
from a2a.utils.signing import create_signature_verifier
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from google.protobuf.json_format import MessageToDict, ParseDict
from pytest_django import Settings

from routing.a2a import cards, conformance

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("echo")]

BASE = "https://fleet.example"


def made(agent: str = "", **options: bool) -> pb.AgentCard:
    offered = cards.offer("default", agent)
    assert offered is not None
    return cards.card(offered, BASE, **options)


class TestCard:
    def test_of_the_fleet_has_all_skills(self) -> None:
        assert [skill.id for skill in made().skills] == ["any", "echo"]
        assert {each.url for each in made().supported_interfaces} == {f"{BASE}/a2a"}

    def test_of_an_agent_has_its_own_and_its_address(self) -> None:
        told = made("echo-1")

        assert [skill.id for skill in told.skills] == ["echo"]
        assert {each.tenant for each in told.supported_interfaces} == {"echo-1"}

    def test_is_of_nobody_else(self) -> None:
        assert cards.offer("default", "nobody") is None
        assert cards.offer("other", "echo-1") is None

    def test_tells_clients_the_schemas(self) -> None:
        public, extended = made("echo-1"), made("echo-1", extended=True)

        assert not public.skills[0].examples
        assert "required" in extended.skills[0].examples[0]


class TestSigned:
    def test_can_be_verified_by_whoever_has_the_public_key(self, settings: Settings, tmp_path: Path) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        plain = serialization.NoEncryption()
        pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
        (tmp_path / "key.pem").write_bytes(pem)
        settings.A2A_CARD_KEY, settings.A2A_CARD_KEY_ID = str(tmp_path / "key.pem"), "k1"
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        verify = create_signature_verifier(lambda kid, jku: public, ["ES256"])

        told = cards.signed(made())

        received = ParseDict(MessageToDict(told), pb.AgentCard())
        verify(received)
        received.name = "somebody else"
        with pytest.raises(Exception, match="signature"):
            verify(received)

    def test_is_the_card_itself_without_a_key(self) -> None:
        assert not cards.signed(made()).signatures


class TestConformance:
    def test_is_refused_where_others_could_reach_it(self, settings: Settings) -> None:
        settings.A2A_CONFORMANCE, settings.A2A_HOST = True, "0.0.0.0"

        with pytest.raises(conformance.NotOnLoopback, match="loopback"):
            conformance.is_on()

import os
import socket
from collections.abc import Iterator

import pytest

from a2a_site import ports

LOOPBACK = "127.0.0.1"


@pytest.fixture
def taken() -> Iterator[int]:
    """Yield a port that this process listens on."""
    with socket.create_server((LOOPBACK, 0)) as listener:
        yield listener.getsockname()[1]


class TestIsFree:
    def test_a_port_somebody_listens_on_is_not(self, taken: int) -> None:
        assert not ports.is_free(LOOPBACK, taken)

    def test_a_port_of_the_systems_choice_is(self) -> None:
        assert ports.is_free(LOOPBACK, ports.any_free(LOOPBACK))

    def test_an_address_of_another_machine_is_not(self) -> None:
        assert not ports.is_free("192.0.2.1", 8000)


class TestNextFree:
    def test_skips_what_is_taken(self, taken: int) -> None:
        port = ports.next_free(LOOPBACK, taken)

        assert port != taken
        assert ports.is_free(LOOPBACK, port)


class TestOwner:
    def test_names_the_process(self, taken: int) -> None:
        assert f"process {os.getpid()}" in ports.owner(taken)

    def test_of_a_free_port_is_unknown(self) -> None:
        assert ports.owner(ports.any_free(LOOPBACK)) == "another process"

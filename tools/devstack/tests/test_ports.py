import os
import socket
from collections.abc import Iterator

import pytest

from devstack.failures import ProvisionError
from devstack.layout import Ports
from devstack.ports import bindable, free_base, free_port, require_free, stack_ports


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_taken_port_is_named_with_its_purpose_its_holder_and_the_way_out(taken: int) -> None:
    with pytest.raises(ProvisionError) as caught:
        require_free({"Kafka": taken}, 8000)

    sentence = str(caught.value)
    assert f"port {taken} is taken: Kafka needs it, and process {os.getpid()} (" in sentence
    assert "make run TASKWIRE_PORT_BASE=" in sentence


def test_free_ports_are_not_complained_about() -> None:
    require_free(stack_ports(Ports(free_base()), ["task-api"]), 8000)


def test_a_port_somebody_listens_on_is_not_bindable(taken: int) -> None:
    assert not bindable(taken)


def test_a_stack_asks_for_every_port_it_uses() -> None:
    wanted = stack_ports(Ports(8000), ["task-api", "audit-worker", "notifier"])

    assert sorted(wanted.values()) == sorted(
        [*(8000 + offset + index for offset in (0, 10, 20, 30, 40) for index in range(3)), 8050, 8051, 8060]
    )


def test_a_single_port_is_none_that_a_stack_may_be_about_to_take() -> None:
    stacks = {port for base in range(20_000, 32_000, 100) for port in stack_ports(Ports(base), ["task-api"]).values()}

    ports = {free_port() for _ in range(50)}

    assert not ports & stacks
    assert all(map(bindable, ports))


def test_two_stacks_looking_for_ports_at_once_rarely_meet() -> None:
    assert len({free_base() for _ in range(5)}) > 1

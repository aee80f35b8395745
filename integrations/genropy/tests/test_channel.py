"""The way to Pagewire, with the clients that it has in a process of a mount and in a program beside it."""

from pagewire.program import Program, ProgramClient
from pagewire.served import Served
from pagewire.web import WebClient

from pagewire_genropy.channel import _Application


def test_a_process_of_a_mount_has_a_way_when_it_has_joined():
    served = Served()
    channel = _Application(WebClient(served))
    assert not channel.is_open()
    served.expect()
    assert not channel.is_open(), "the application is imported"
    served.join(None, None)
    assert channel.is_open()


def test_a_program_beside_a_mount_has_a_way_at_once():
    client = ProgramClient(Program("http://127.0.0.1:9", None, timeout=1, patience=1))
    assert _Application(client).is_open()

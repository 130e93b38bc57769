"""A call is ended when nothing comes on it, and only then."""

from __future__ import annotations

import socket
from typing import cast

import grpc

from wire.hosting.silence import Silence
from wire.tcp import IdleWatch


class Call:
    """Of a source, as the server sees it."""

    ended = False

    def peer(self) -> str:
        return "somebody"

    def cancel(self) -> None:
        self.ended = True


def test_messages_keep_a_stream_open() -> None:
    now_s = 0.0
    streams = Silence(10.0, lambda: now_s)
    silent, busy, over = Call(), Call(), Call()
    opened = [
        streams.watched(iter(range(9)), cast("grpc.ServicerContext", call))
        for call in (silent, busy, over)
    ]
    for stream in opened:
        next(stream)
    opened[2].close()
    for now_s in (8.0, 16.0):  # noqa: B007 - the clock that the streams read
        assert next(opened[1]) in range(9)
        streams.end()
    assert (silent.ended, busy.ended, over.ended) == (True, False, False)
    now_s = 26.5
    streams.end()
    assert busy.ended


def test_a_peer_is_not_given_up_because_nobody_looked() -> None:
    """The first look comes late: whether bytes came is known only by the second."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as sender,
        server.accept()[0] as own,
    ):
        watch = IdleWatch("ipv4:{}:{}".format(*sender.getsockname()), 10.0)
        assert watch.came(0.0, 30.0)
        sender.sendall(bytes(1000))
        assert len(own.recv(1000, socket.MSG_WAITALL)) == 1000
        assert watch.came(0.0, 40.0)
        assert not watch.came(0.0, 50.0)  # nothing since


def test_a_late_look_at_no_connection_finds_silence() -> None:
    assert not IdleWatch("somebody", 10.0).came(0.0, 30.0)

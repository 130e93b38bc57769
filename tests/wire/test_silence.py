"""A call is ended when nothing comes on it, and only then."""

from __future__ import annotations

from typing import cast

import grpc

from wire.hosting.silence import Silence


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

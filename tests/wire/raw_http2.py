"""One end of an HTTP/2 connection without any gRPC: sees the frames that gRPC sends, one by one."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from tests.listening import Listening

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 4, 6, 7, 8
ACK, END_HEADERS = 1, 4
INITIAL_WINDOW_SIZE = 4
_WAIT_S = 30.0
_RESPONSE_HEADERS = b"\x88\x5f\x10application/grpc"  # :status 200 and the content type, HPACK


@dataclass(frozen=True)
class Frame:
    """A frame of RFC 9113.

    Attributes:
        at_s: when it came, monotonic.
    """

    kind: int
    flags: int
    stream: int
    payload: bytes
    at_s: float


@dataclass
class Connection:
    """Our end of a connection.

    Attributes:
        came: every frame of the other end.
        ended_s: when the other end closed it, monotonic; None while it has not.
    """

    socket: socket.socket
    answers_pings: bool = True
    came: list[Frame] = field(default_factory=list)
    ended_s: float | None = None
    _turn: threading.Condition = field(default_factory=threading.Condition)

    def send(self, kind: int, payload: bytes = b"", *, flags: int = 0, stream: int = 0) -> None:
        """Send a frame."""
        head = struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream)
        with suppress(OSError):
            self.socket.sendall(head + payload)

    def send_message(self, stream: int, message: bytes) -> None:
        """Headers of an answer and one message of gRPC."""
        self.send(HEADERS, _RESPONSE_HEADERS, flags=END_HEADERS, stream=stream)
        self.send(DATA, struct.pack(">BI", 0, len(message)) + message, stream=stream)

    def of_kind(self, kind: int, *, ack: bool = False) -> list[Frame]:
        """The frames of a kind that came."""
        with self._turn:
            return [one for one in self.came if one.kind == kind and (one.flags & ACK) == ack]

    def wait_for(self, condition: Callable[[], bool], timeout_s: float = _WAIT_S) -> bool:
        """Wait until it holds, looking after every frame; whether it came to hold."""
        with self._turn:
            return self._turn.wait_for(condition, timeout_s)

    def settings(self) -> dict[int, int]:
        """What the other end set first."""
        self.wait_for(lambda: bool(self.of_kind(SETTINGS)))
        body = self.of_kind(SETTINGS)[0].payload
        return dict(struct.iter_unpack(">HI", body))

    def read(self) -> None:
        """Take frames until the other end closes."""
        with suppress(OSError):
            stream = self.socket.makefile("rb")
            while head := stream.read(9):
                if len(head) < 9:
                    break
                length = int.from_bytes(head[:3], "big")
                kind, flags, number = struct.unpack(">BBI", head[3:])
                frame = Frame(kind, flags, number, stream.read(length), time.monotonic())
                self._note(frame)
        with self._turn:
            self.ended_s = time.monotonic()
            self._turn.notify_all()

    def _note(self, frame: Frame) -> None:
        with self._turn:
            self.came.append(frame)
            self._turn.notify_all()
        if frame.kind == SETTINGS and not frame.flags & ACK:
            self.send(SETTINGS, flags=ACK)
        if frame.kind == PING and not frame.flags & ACK and self.answers_pings:
            self.send(PING, frame.payload, flags=ACK)


class RawServer(Listening):
    """Takes connections of gRPC clients.

    Attributes:
        connections: those that came, oldest first.
        accepted_s: when each came, monotonic.
    """

    def __init__(self, *, answers_pings: bool = True, hangs_up: bool = False) -> None:
        """Listen.

        Args:
            answers_pings: as every peer has to.
            hangs_up: close every connection at once.
        """
        super().__init__()
        self.connections: list[Connection] = []
        self.accepted_s: list[float] = []
        self._answers_pings = answers_pings
        self._hangs_up = hangs_up
        threading.Thread(target=self._accept, daemon=True).start()

    def open_sockets(self) -> list[socket.socket]:
        """Of all connections that came."""
        return [connection.socket for connection in self.connections]

    def connection(self, number: int = 0) -> Connection:
        """Wait for a connection."""
        until_s = time.monotonic() + _WAIT_S
        while len(self.connections) <= number:
            assert time.monotonic() < until_s, "no client came"
            time.sleep(0.01)
        return self.connections[number]

    def _accept(self) -> None:
        while True:
            try:
                accepted, _ = self._listener.accept()
            except OSError:
                return
            self.accepted_s.append(time.monotonic())
            if self._hangs_up:
                accepted.close()
                continue
            connection = Connection(accepted, self._answers_pings)
            self.connections.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: Connection) -> None:
        if _exactly(connection.socket, len(PREFACE)) != PREFACE:
            return
        connection.send(SETTINGS)
        connection.read()


def raw_client(address: str) -> Connection:
    """A connection to a gRPC server, its preface sent."""
    host, _, port = address.rpartition(":")
    connection = Connection(socket.create_connection((host, int(port))))
    connection.socket.sendall(PREFACE)
    connection.send(SETTINGS)
    threading.Thread(target=connection.read, daemon=True).start()
    return connection


def _exactly(source: socket.socket, size: int) -> bytes:
    got = b""
    while len(got) < size and (more := source.recv(size - len(got))):
        got += more
    return got

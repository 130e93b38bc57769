"""A client that asks at a steady rate: redis, memcached or a web server, over one connection.

    client.py redis SOCKET --keys 80000 --fill                   # put the values there, and end
    client.py redis SOCKET --keys 80000 --rate 5000 --sets 0.5 --for 40

Requests are due at fixed times and go out together every millisecond; answers are counted as they
come. At the end, or at SIGTERM, it prints how many were answered a second, and how many of those
that were due had no answer by then. Keys are drawn uniformly. Nothing but the standard library.
"""

from __future__ import annotations

import argparse
import os
import random
import select
import signal
import socket
import sys
import time

TICK_S = 0.001


class Redis:
    """Commands of redis. Values are hexadecimal, so these bytes begin answers and nothing else."""

    answers = (b"$", b"+", b"-")

    def get(self, key: int) -> bytes:
        """Asks for a value."""
        return b"*2\r\n$3\r\nGET\r\n$10\r\nkey:%06d\r\n" % key

    def set(self, key: int, value: bytes) -> bytes:
        """Stores a value."""
        head = b"*3\r\n$3\r\nSET\r\n$10\r\nkey:%06d\r\n$%d\r\n" % (key, len(value))
        return head + value + b"\r\n"


class Memcached:
    """Commands of memcached's text protocol: a get is answered up to END, a set by STORED."""

    answers = (b"EN", b"ST")

    def get(self, key: int) -> bytes:
        """Asks for a value."""
        return b"get key:%06d\r\n" % key

    def set(self, key: int, value: bytes) -> bytes:
        """Stores a value."""
        return b"set key:%06d 0 0 %d\r\n%s\r\n" % (key, len(value), value)


class Http:
    """Requests for files named by their number."""

    answers = (b"HTTP/1.1",)

    def get(self, key: int) -> bytes:
        """Asks for a value."""
        return b"GET /%06d HTTP/1.1\r\nHost: localhost\r\n\r\n" % key

    def set(self, _key: int, _value: bytes) -> bytes:
        """Stores nothing."""
        sys.exit("a web server is only read")


PROTOCOLS = {"redis": Redis, "memcached": Memcached, "http": Http}


class Connection:
    """Sends what it is given and counts what comes back.

    Attributes:
        answered: answers that came.
    """

    def __init__(self, address: str, answers: tuple[bytes, ...]) -> None:
        """Connect; `answers` are what answers begin or end with, all of one length."""
        self.answered = 0
        self._answers, self._tail = answers, b""
        if address.startswith("/"):
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.connect(address)
        else:
            host, _, port = address.rpartition(":")
            self._socket = socket.create_connection((host, int(port)))
        self._socket.setblocking(False)
        self._out = bytearray()
        self._quiet_since = time.monotonic()

    def send(self, data: bytes) -> None:
        """Put some requests behind those that wait."""
        self._out += data

    def run(self, until: float) -> None:
        """Move bytes both ways until then."""
        while (left := until - time.monotonic()) > 0:
            wanted = [self._socket] if self._out else []
            readable, writable, _ = select.select([self._socket], wanted, [], left)
            try:
                if writable:
                    del self._out[: self._socket.send(self._out)]
                closed = bool(readable) and not self._read()
            except ConnectionError:
                closed = True
            if closed:
                sys.exit("the server closed the connection")
            if readable:
                self._quiet_since = time.monotonic()

    def _read(self) -> int:
        data = self._socket.recv(1 << 20)
        seen = self._tail + data
        self.answered += sum(seen.count(one) for one in self._answers)
        kept = len(self._answers[0]) - 1
        self._tail = seen[len(seen) - kept :] if kept else b""
        return len(data)

    def settle(self) -> None:
        """Until everything was sent and nothing has come back for a while."""
        while self._out or time.monotonic() - self._quiet_since < 0.5:
            self.run(time.monotonic() + 0.05)


def fill(connection: Connection, protocol: Redis | Memcached, keys: int, size: int) -> None:
    """One value for every key."""
    for first in range(0, keys, 500):
        for key in range(first, min(keys, first + 500)):
            connection.send(protocol.set(key, value_of(size)))
        connection.run(time.monotonic() + 0.005)
    connection.settle()


def value_of(size: int) -> bytes:
    """Random bytes that no protocol takes for anything else."""
    return os.urandom(size // 2).hex().encode()


def ask(
    connection: Connection, protocol: Redis | Memcached | Http, given: argparse.Namespace
) -> None:
    """Requests at a steady rate for so many seconds."""
    draw = random.Random(given.seed)  # noqa: S311 - nothing secret
    over: list[int] = []
    signal.signal(signal.SIGTERM, lambda signum, _: over.append(signum))
    start = time.monotonic()
    sent = 0
    while (now := time.monotonic() - start) < given.seconds and not over:
        due = int(now * given.rate)
        for _ in range(due - sent):
            key = draw.randrange(given.keys)
            sets = draw.random() < given.sets
            connection.send(protocol.set(key, value_of(given.size)) if sets else protocol.get(key))
        sent = due
        connection.run(start + now + TICK_S)
    took = time.monotonic() - start
    print(f"{connection.answered / took:.0f} {sent - connection.answered}")


def main() -> None:
    """See the top of this file."""
    parser = argparse.ArgumentParser()
    parser.add_argument("protocol", choices=sorted(PROTOCOLS))
    parser.add_argument("address", help="path of a socket, or host:port")
    parser.add_argument("--keys", type=int, required=True)
    parser.add_argument("--size", type=int, default=1000, help="bytes of a value")
    parser.add_argument("--fill", action="store_true")
    parser.add_argument("--rate", type=float, default=1000)
    parser.add_argument("--sets", type=float, default=0.0, help="share of the requests that write")
    parser.add_argument("--for", dest="seconds", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    protocol = PROTOCOLS[given.protocol]()
    connection = Connection(given.address, protocol.answers)
    if given.fill:
        fill(connection, protocol, given.keys, given.size)
    else:
        ask(connection, protocol, given)


if __name__ == "__main__":
    main()

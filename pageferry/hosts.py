"""Where a migration happens: two hosts that run already, or two of our own on loopback."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from pageferry.loopback import Loopback


@dataclass(frozen=True)
class Hosts:
    """Two hosts.

    Attributes:
        source: address of the source host.
        destination: address of the destination host, as the source reaches it.
        ours: started for this run and gone after it.
        post_mortem: one line about a host of ours that ended by itself, else None.
        hurry: ends hosts of ours at once; others it leaves alone.
    """

    source: str
    destination: str
    ours: bool
    post_mortem: Callable[[], str | None]
    hurry: Callable[[], None] = lambda: None


@contextmanager
def hosts(
    source: str | None,
    destination: str | None,
    source_arguments: Sequence[str] = (),
    memory_bytes: int | None = None,
) -> Iterator[Hosts]:
    """The hosts at these addresses, or our own while the block lasts.

    Args:
        source: address of a source host; None starts one.
        destination: address of a destination host; None starts one.
        source_arguments: further ones of ``source-host serve``, if it is ours.
        memory_bytes: of the guest; hosts of our own take one of that size, and have nobody
            else to keep room for.

    Raises:
        HostUnreachable: a host of our own did not start.
    """
    if source is not None and destination is not None:
        yield Hosts(source, destination, ours=False, post_mortem=lambda: None)
        return
    room: tuple[str, ...] = ()
    if memory_bytes is not None:
        size = str(memory_bytes)
        room = ("--max-total-memory", size, "--max-guest-memory", size)
    with Loopback((*source_arguments, *room), room) as loopback:
        yield Hosts(
            loopback.source, loopback.destination, True, loopback.post_mortem, loopback.hurry
        )

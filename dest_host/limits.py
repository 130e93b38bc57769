"""What a destination is willing to take."""

from __future__ import annotations

from dataclasses import dataclass

from paging_core.errors import BadOption, LimitExceeded
from paging_core.units import FRAME_BYTES, format_bytes
from wire.channel import MAX_MESSAGE_BYTES, MAX_PAYLOAD_BYTES

GIB = 2**30


@dataclass(frozen=True)
class Limits:
    """What is refused is refused in Prepare, before anything moves.

    Attributes:
        max_guest_bytes: memory of one guest.
        max_total_bytes: memory of all guests and incoming migrations together; None leaves it to
            what the machine and its cgroups allow, which hold in any case.
        max_incoming: migrations under way at the same time.
        max_payload_bytes: of one batch after decompression.
        idle_expiry_s: a migration that says nothing for so long is dropped.
    """

    max_guest_bytes: int = 16 * GIB
    max_total_bytes: int | None = None
    max_incoming: int = 4
    max_payload_bytes: int = MAX_PAYLOAD_BYTES
    idle_expiry_s: float = 300.0

    def __post_init__(self) -> None:
        if not FRAME_BYTES <= self.max_payload_bytes <= MAX_MESSAGE_BYTES // 2:
            raise BadOption(
                f"--max-payload {format_bytes(self.max_payload_bytes)} is not between one frame "
                f"and {format_bytes(MAX_MESSAGE_BYTES // 2)}; 4MiB suits batches of 1024 frames"
            )
        total_bytes = 1 if self.max_total_bytes is None else self.max_total_bytes
        if min(self.max_guest_bytes, total_bytes, self.max_incoming) < 1:
            raise BadOption("a limit of 0 takes no guest at all; give a larger one")
        if self.idle_expiry_s <= 0:
            raise BadOption("--idle-expiry of 0 drops every migration at once; try 5min")

    def check_guest(self, memory_bytes: int, reserved_bytes: int, incoming: int) -> None:
        """Refuse a guest that is too much.

        Args:
            memory_bytes: of the guest that wants to come.
            reserved_bytes: memory of everything that is here.
            incoming: migrations that are under way.

        Raises:
            LimitExceeded: naming the limit and its option.
        """
        if memory_bytes > self.max_guest_bytes:
            raise LimitExceeded(
                f"a guest of {format_bytes(memory_bytes)} is larger than the "
                f"{format_bytes(self.max_guest_bytes)} that this host takes; migrate to another, "
                "or start the destination host with a larger --max-guest-memory"
            )
        if self.max_total_bytes is not None and (
            reserved_bytes + memory_bytes > self.max_total_bytes
        ):
            free_bytes = max(0, self.max_total_bytes - reserved_bytes)
            raise LimitExceeded(
                f"a guest of {format_bytes(memory_bytes)} does not fit the "
                f"{format_bytes(free_bytes)} that this host has left; delete guests there "
                "(pageferry guests), or start the destination host with a larger "
                "--max-total-memory"
            )
        if incoming >= self.max_incoming:
            raise LimitExceeded(
                f"this host takes {self.max_incoming} migrations at a time; wait for one to end, "
                "or start the destination host with a larger --max-incoming"
            )

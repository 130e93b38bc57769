"""The pre-copy engine: from the first page to the proof that all of them arrived.

    rounds while the guest runs ─ pause, last clean ─ last round, state ─ prove

It sees the guest through `paging_core.guest.Guest` and the destination through `Transport`;
it knows neither what kind of guest it moves nor what carries the pages. Nothing here takes
the guest away from this host: that is the commit, in `migration`.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Event

import numpy as np

from paging_core.guest import Guest, SendObserver
from paging_core.log_dirty import count
from paging_core.migration_key import MigrationKey
from paging_core.proof import Proof
from source_host.precopy.clocks import Clock, Lap
from source_host.precopy.encoder import Encoder
from source_host.precopy.flow import NO_FLOW, Flow
from source_host.precopy.plan import Plan
from source_host.precopy.policies import Decision, Policy
from source_host.precopy.progress import Progress
from source_host.precopy.results import Downtime
from source_host.precopy.rounds import RoundSender
from source_host.precopy.transport import Transport
from source_host.precopy.verification import Comparison, Difference
from source_host.states import MigrationState
from wire.memory_digest import digest_memory


class Engine:
    """Carries one guest's memory over, step by step; each step may raise `PageferryError`."""

    def __init__(
        self,
        *,
        plan: Plan,
        guest: Guest,
        key: MigrationKey,
        clock: Clock,
        transport: Transport,
        progress: Progress,
        max_payload_bytes: int,
        cancelled: Event,
        flow: Flow = NO_FLOW,
        encoder: Encoder | None = None,
        after_message: Callable[[], None] = lambda: None,
    ) -> None:
        """Nothing moves before `pre_copy`; the guest's writes are logged from before that.

        Args:
            key: the secret that this host and the destination share.
            after_message: called when a message was sent; may raise to end it.
            encoder: what says what to send for a frame; None makes the one that sends it all.
        """
        self._plan = plan
        self._guest = guest
        self._key = key
        self._clock = clock
        self._transport = transport
        self._progress = progress
        self._cancelled = cancelled
        self._flow = flow
        self._policy: Policy = plan.make_policy()
        self._sender = RoundSender(
            n_frames=guest.n_frames,
            encoder=encoder or Encoder(guest.memory.frames, key, suppress=plan.suppress),
            transport=transport,
            clock=clock,
            policy=self._policy,
            compression=plan.make_compression(),
            downtime_limit_ns=plan.downtime_limit_ns,
            max_payload_bytes=max_payload_bytes,
            cancelled=cancelled,
            flow=flow,
            send_observer=_send_observer(guest, plan),
            clear_chunk_frames=_chunk_frames(guest),
            after_message=after_message,
        )

    def pre_copy(self) -> None:
        """Rounds beside the running guest until the policy says stop."""
        self._progress.begin(self._clock, self._sender)
        self._progress.advance(MigrationState.PRE_COPY)
        while True:
            decision = self._policy.before_round(self._sender.facts())
            if decision is Decision.STOP or not self._sender.ledger.owed_frames:
                return  # an empty round would take no time, and so nothing would ever change
            self._send_round(live=True)
            stops = self._policy.stops_after_round(self._sender.facts())
            if stops or decision is Decision.SEND_AND_STOP:
                return
            self._clean()

    def pause(self) -> None:
        """Downtime begins: stop the guest, clean a last time."""
        lap = Lap(self._clock)
        self._progress.advance(MigrationState.STOP_AND_COPY)
        self._clock.pause()
        self._flow.moment("suspend", self._clock.now_ns, self._sender.round_number)
        self._clean()
        self._progress.downtime = Downtime(suspend_ns=lap.ns())

    def send_rest(self) -> bytes:
        """Send what is owed.

        Returns:
            Everything of the guest that is not memory.
        """
        lap = Lap(self._clock)
        self._send_round(live=False)
        last_round_ns = lap.ns()
        state = self._guest.state()
        self._clock.carry(len(state))
        self._progress.downtime = replace(
            self._progress.downtime, last_round_ns=last_round_ns, state_ns=lap.ns()
        )
        return state

    def verify(self) -> bytes:
        """Prove that the destination's memory is this memory; send again, once, what is not.

        Returns:
            The root of the proof.

        Raises:
            VerificationFailed: they differ still, or in more than can be sent again.
            ContractBroken: the destination answers what cannot be.
        """
        progress, lap = self._progress, Lap(self._clock)
        progress.advance(MigrationState.VERIFYING)
        self._transport.begin_compare()  # so that both hosts tag their memory at the same time
        proof, digest = self._tag_memory()
        comparison = Comparison(proof, self._guest.memory.frames, self._transport)
        difference = comparison.difference()
        if difference is not None:
            self._repair(difference)
            still = comparison.difference()
            if still is not None:
                progress.compared(agreed=False)
                raise still.failure(again=True)
        progress.memory_digest = digest
        progress.downtime = replace(progress.downtime, verify_ns=lap.ns())
        progress.compared(agreed=True)
        return proof.root

    def _tag_memory(self) -> tuple[Proof, int]:
        """The proof, and beside it the digest for comparison by users; each has a processor."""
        frames = self._guest.memory.frames
        with ThreadPoolExecutor(1, "digest") as pool:
            digest = pool.submit(digest_memory, frames, self._cancelled)
            return Proof(frames, self._key, self._cancelled.is_set), digest.result()

    def _repair(self, difference: Difference) -> None:
        """Send whole what the proof found different, as one more round while the guest stands.

        Raises:
            VerificationFailed: it is too much for a guest that stands still.
        """
        if not difference.complete:
            self._progress.compared(agreed=False)
            raise difference.failure(again=False)
        self._sender.ledger.owe_whole(np.array(difference.gfns, np.int64))
        self._send_round(live=False, repair=True)

    def _send_round(self, *, live: bool, repair: bool = False) -> None:
        stats = self._sender.send_round(live=live, repair=repair)
        self._progress.round_sent(stats, self._sender.meter.bytes_per_s)

    def _clean(self) -> None:
        """Turn what the log found dirty into debt."""
        with self._clock.exclusive() as guest:
            cleaned = guest.clean()
            counters = guest.counters()
        self._flow.moment(
            "clean",
            self._clock.now_ns,
            self._sender.round_number,
            count(cleaned.dirty),
            cleaned.falsely_dirty_count,
        )
        self._sender.owe(cleaned)
        self._progress.cleaned(cleaned, counters)


def _send_observer(guest: Guest, plan: Plan) -> SendObserver | None:
    """The guest, if its tracker uses what was sent and the sender compares."""
    return guest.parts.learner if plan.suppress else None


def _chunk_frames(guest: Guest) -> int:
    clearer = guest.parts.clearer
    return 0 if clearer is None else clearer.clear_chunk_frames

"""A virtual machine as guest: it satisfies `paging_core.guest.Guest`, on the real clock.

Its memory, page tables included, is what a model guest's kernel makes of it while it boots; from
there on the program in it (program.S) executes the load's accesses natively, in user mode. It has
no kernel that runs: what needs one (fork, mmap) it cannot do, and switches of address spaces are
the host's work. What KVM counts is its account of faults.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from guests.kvm.program import ACCESS_KINDS, OWN_ENTRY, DeviceSlot, Report, slot_pages
from guests.kvm.runner import GUEST_SLOT, Runner
from guests.kvm.state import check_registers, decode, encode
from guests.kvm.tracking import ClearLog, DirtyLog, DirtyRing, Tracking, UserFault
from guests.kvm.vcpu_thread import VcpuThread
from paging_core.config import CleanPolicy, GuestConfig, GuestKind, Paging, TrackerConfig
from paging_core.config import Tracking as Way
from paging_core.errors import BadOption, GuestCrashed, IllegalTransition, InvalidInput
from paging_core.guest import Cleaned, DirtyWords, GuestCounters, Parts
from paging_core.guest_accounts import KVM, Accounts
from paging_core.guest_state import architectural_state, encode_state
from paging_core.memory import GuestMemory
from paging_core.model_guest import ModelGuest
from paging_core.units import FRAME_BYTES, PS_PER_NS
from paging_core.workloads.ops import MMAP, OP_DTYPE, SWITCH, Ops, Workload

LIST_PAGES = 96
RING_ENTRIES = 4096
NOTES_VA = 201 << 39
"""Where the program's notes are mapped, in a guest of one process."""
_NOTE_BYTES = 16
_FRAMES_PER_NOTES_FRAME = 256
_COUNTERS = ("pf_taken", "pf_fixed", "pf_fast", "pf_spurious", "pf_emulate", "mmio_exits")
_LOOKED_AT_OPS = 4096


class KvmGuest:
    """A virtual machine of this host's KVM. One caller at a time.

    Attributes:
        config: what it was made from.
        memory: its frames.
    """

    accounts: Accounts = KVM

    def __init__(self, config: GuestConfig, executor: ModelGuest, runner: Runner, ran_ns: int):
        """Use `boot` or `resume_from`.

        Args:
            config: of the guest.
            executor: a model guest over the same memory, which made its tables; it never runs.
            runner: the machine over that memory.
            ran_ns: how long it ran before.
        """
        self.config = config
        self.memory: GuestMemory = executor.memory
        self._executor = executor
        self._runner = runner
        process = int(executor.machine.core["vcpu"]["process"][0])
        self._thread = VcpuThread(runner, executor.workload, executor.position, process, ran_ns)
        self._tracking: Tracking | None = None
        self._clearer = self._clear_log() if config.tracking is Way.CLEAR_LOG else None
        self._dirtied = 0
        self._start = (self._thread.position, dict(self._counts()))
        self._final: GuestCounters | None = None
        self._closed = False

    @classmethod
    def boot(
        cls,
        config: GuestConfig,
        memory: GuestMemory | None = None,
        look_up: Callable[[], None] = lambda: None,
    ) -> KvmGuest:
        """A fresh guest: stands still, untracked, at the beginning of its load.

        Args:
            config: what it is made of.
            memory: its frames, all zero; made when None.
            look_up: called now and then while it boots; what it raises ends that.

        Raises:
            CannotVirtualize: this machine runs none; says what to do.
            BadOption: its load takes a guest kernel.
            As `paging_core.model_guest.ModelGuest.boot`.
        """
        with ExitStack() as undo:
            executor = ModelGuest.boot(_executor_config(config), memory, _workload(config), look_up)
            undo.callback(executor.close)
            _check_load(executor.workload)
            roots = _roots(executor)
            notes_va, n_notes = _notes(executor.n_frames, len(roots))
            if n_notes:
                executor.execute(_map_notes(n_notes))
            runner = Runner(
                executor.memory,
                roots,
                list_pages=LIST_PAGES,
                ring_entries=_ring_entries(config),
                notes_va=notes_va,
                n_notes=n_notes,
            )
            undo.callback(runner.close)
            runner.expect(Report.EMPTY)
            made = cls(config, executor, runner, 0)
            undo.pop_all()
            return made

    @classmethod
    def resume_from(
        cls, memory: GuestMemory, state: bytes, workload: Workload | None = None
    ) -> KvmGuest:
        """Go on with a guest whose memory and state came from elsewhere; it stands still.

        Its registers, its page tables and all that they map are looked at before anything runs.

        Args:
            memory: all of its frames.
            state: what `state` returned there.
            workload: what it runs; must be given to a guest that replays a trace.

        Raises:
            InvalidInput: not a state of such a guest, or memory that none could have.
            CannotVirtualize: this machine runs none.
        """
        config, vcpu, time_ps, registers = decode(state)
        if memory.n_frames != config.n_frames:
            raise InvalidInput(f"{memory.n_frames} frames came for a guest of {config.n_frames}")
        roots = [int(gfn) for gfn in vcpu["roots"][0] if gfn]
        check_registers(registers, *_notes(memory.n_frames, len(roots)))
        _take_program_out(memory, roots)
        inner = encode_state(_executor_config(config), vcpu, 0)
        with ExitStack() as undo:
            executor = ModelGuest.resume(memory, inner, workload or _workload(config))
            runner = Runner(
                memory,
                roots,
                list_pages=LIST_PAGES,
                ring_entries=_ring_entries(config),
                registers=registers,
            )
            undo.callback(runner.close)
            runner.load_root(int(vcpu["cr3"][0]))
            runner.expect(Report.EMPTY)
            made = cls(config, executor, runner, time_ps // PS_PER_NS)
            undo.pop_all()
            return made

    @property
    def parts(self) -> Parts:
        """See `paging_core.guest.Guest`."""
        clears = self if self._clearer is not None else None
        return Parts(paced=self, stepped=self, clearer=clears, comparable=self)

    @property
    def n_frames(self) -> int:
        """Frames of guest memory."""
        return self.memory.n_frames

    @property
    def trace_digest(self) -> int:
        """XXH3-64 of the trace that it replays; 0 without one."""
        return self._executor.trace_digest

    @property
    def time_ns(self) -> int:
        """Time that it ran, on the clock of its machine."""
        return self._thread.ran_ns

    @property
    def position(self) -> int:
        """Operations executed since it booted."""
        return self._thread.position

    def resume(self) -> None:
        """See `paging_core.guest.Paced`."""
        self._thread.resume()

    def pause(self) -> None:
        """See `paging_core.guest.Paced`.

        Raises:
            GuestCrashed: it stands still for good.
        """
        self._thread.pause()
        self.check()

    def run_accesses(self, count: int) -> None:
        """Execute exactly `count` more operations, as fast as it goes; it stood still.

        Raises:
            GuestCrashed: it did anything else.
        """
        self.check()
        self._thread.run(count)

    def check(self) -> None:
        """See `paging_core.guest.Guest`.

        Raises:
            GuestCrashed: it left its program, lost a store, or its load cannot be read any more.
        """
        failure = self._thread.failure
        if isinstance(failure, GuestCrashed):
            raise failure
        if failure is not None:
            raise GuestCrashed(f"the virtual machine ended: {failure}; delete it and boot it anew")

    def start_tracking(self) -> None:
        """See `paging_core.guest.Guest`.

        Raises:
            CannotTrack: not on this machine, or not by this user; says what to do.
        """
        if self._tracking is not None:
            raise IllegalTransition("this guest's writes are being logged already")
        with self._thread.held():
            self._tracking = self._made_tracking()
            self._tracking.start()
            self._dirtied = 0
            self._start = (self.position, self._counts())
            self._final = None

    def clean(self) -> Cleaned:
        """See `paging_core.guest.Guest`. What was really written nobody knows.

        Raises:
            TrackingLost: the handler of its faults has ended.
        """
        tracking = self._tracked()
        before_ns = time.monotonic_ns()
        with self._still():
            dirty = tracking.clean()
        cost_ns = time.monotonic_ns() - before_ns
        dirty_count = int(np.bitwise_count(dirty).sum())
        self._dirtied += dirty_count
        return Cleaned(dirty, dirty_count, self._faults()["total"], None, cost_ns)

    def peek(self) -> DirtyWords:
        """See `paging_core.guest.Guest`."""
        tracking = self._tracked()
        with self._still():
            return tracking.peek()

    def stop_tracking(self) -> None:
        """See `paging_core.guest.Guest`; what was counted stays."""
        if self._tracking is None:
            return
        with self._thread.held():
            self._final = self.counters()
            tracking, self._tracking = self._tracking, None
            tracking.stop()

    @property
    def clear_chunk_frames(self) -> int:
        """See `paging_core.guest.LogClearer`."""
        return self.config.tracker.clear_chunk_frames

    def clear_log(self, gfns: npt.NDArray[np.int64]) -> None:
        """See `paging_core.guest.LogClearer`."""
        self._tracked()
        if self._clearer is not None:
            self._clearer.clear_log(gfns)

    def counters(self) -> GuestCounters:
        """Totals since tracking was started (or since the guest came here)."""
        if self._tracking is None and self._final is not None:
            return self._final
        return GuestCounters(
            faults=self._faults(),
            events={},
            tracking_ns={},
            base_ns=None,
            accesses=self.position - self._start[0],
        )

    def state(self) -> bytes:
        """See `paging_core.guest.Guest`."""
        vcpu = self._vcpu()
        return encode(self.config, vcpu, self.time_ns * PS_PER_NS, self._runner.registers())

    def architectural_state(self) -> bytes:
        """See `paging_core.guest.Comparable`."""
        return architectural_state(self.config, self._vcpu())

    def close(self) -> None:
        """See `paging_core.guest.Guest`."""
        if self._closed:
            return
        self._closed = True
        self._thread.pause()
        if self._tracking is not None:
            self._tracking.stop()
        self._runner.close()
        self._executor.close()

    def _vcpu(self) -> npt.NDArray[np.void]:
        """The registers as the model's kernel keeps them."""
        vcpu: npt.NDArray[np.void] = self._executor.machine.core["vcpu"]
        vcpu["position"] = self.position
        vcpu["process"] = self._thread.process
        vcpu["cr3"] = vcpu["roots"][0, self._thread.process]
        return vcpu

    def _tracked(self) -> Tracking:
        if self._tracking is None:
            raise IllegalTransition("this guest's writes are not logged; start tracking first")
        return self._tracking

    @contextmanager
    def _still(self) -> Iterator[None]:
        """KVM's bitmap and the handler may be asked while it runs; a ring, or to blow, not."""
        if isinstance(self._tracking, DirtyRing) or self._blows():
            with self._thread.held():
                yield
        else:
            yield

    def _blows(self) -> bool:
        return self.config.tracker.clean is CleanPolicy.BLOW

    def _clear_log(self) -> ClearLog:
        return ClearLog(self._runner.machine, GUEST_SLOT)

    def _made_tracking(self) -> Tracking:
        way = self.config.tracking
        if way is Way.UFFD_SYNC:
            return UserFault(self.memory, self.config.tracker.group)
        if self._clearer is not None:
            return self._clearer
        if way is Way.DIRTY_RING:
            ring = DirtyRing(self._runner.machine, GUEST_SLOT)
            self._runner.when_full = ring.when_full
            return ring
        return DirtyLog(self._runner.machine, GUEST_SLOT, blow=self._blows())

    def _counts(self) -> dict[str, int]:
        found = self._runner.machine.vcpu_counters.read(_COUNTERS)
        reports = found.pop("mmio_exits")
        found["pf_taken"] -= reports
        found["pf_emulate"] -= reports
        return found

    def _faults(self) -> dict[str, int]:
        now, then = self._counts(), self._start[1]
        faults = {name: now[name] - then[name] for name in now}
        taken = faults.pop("pf_taken")
        faults["pf_retried"] = max(0, taken - sum(faults.values()))
        handler = self._tracking.counts() if isinstance(self._tracking, UserFault) else None
        faults["userfault"] = handler.messages if handler is not None else 0
        faults["total"] = sum(faults.values())
        return {**faults, "fixup": self._dirtied}


def _executor_config(config: GuestConfig) -> GuestConfig:
    """The model whose kernel makes the guest's tables: hardware pages, nothing tracked."""
    return replace(config, kind=GuestKind.MODEL, tracker=TrackerConfig(paging=Paging.HAP))


def _workload(config: GuestConfig) -> Workload | None:
    """Of a trace, all pages mapped from the start: no kernel hands one out later."""
    if not config.trace:
        return None
    from paging_core.traces.opening import make_replay  # noqa: PLC0415 - pyarrow is slow

    return make_replay(config.trace, config.seed, needs_reads=True, demand_zero=False)


def _check_load(workload: Workload) -> None:
    ops = np.zeros(_LOOKED_AT_OPS, OP_DTYPE)
    workload.fill(0, ops)
    if not np.isin(ops["kind"], [*ACCESS_KINDS, SWITCH]).all():
        raise BadOption(
            f"workload {workload.spec.partition(':')[0]} takes a guest kernel, which a virtual "
            "machine of this kind does not have; use another workload, or another kind of guest"
        )


def _roots(executor: ModelGuest) -> list[int]:
    return [int(gfn) for gfn in executor.machine.core["vcpu"]["roots"][0] if gfn]


def _notes(n_frames: int, n_roots: int) -> tuple[int, int]:
    """Where the program's notes are and how many: a 256th of the guest; none with processes."""
    if n_roots > 1:
        return 0, 0
    frames = 1 << (max(1, n_frames // _FRAMES_PER_NOTES_FRAME).bit_length() - 1)
    return NOTES_VA, frames * FRAME_BYTES // _NOTE_BYTES


def _map_notes(n_notes: int) -> Ops:
    ops = np.zeros(1, OP_DTYPE)
    ops["kind"], ops["address"] = MMAP, NOTES_VA
    ops["value"] = n_notes * _NOTE_BYTES // FRAME_BYTES
    return ops


def _ring_entries(config: GuestConfig) -> int:
    return (config.tracker.dirty_ring or RING_ENTRIES) if config.tracking is Way.DIRTY_RING else 0


def _take_program_out(memory: GuestMemory, roots: list[int]) -> None:
    """The entries that map the program are its host's: what was there is taken out and looked at.

    Raises:
        InvalidInput: something else than the program was mapped there.
    """
    expected = DeviceSlot(np.zeros((slot_pages(LIST_PAGES), 512), np.int64), memory.n_frames)
    for root in roots:
        if memory.words[root, OWN_ENTRY] != expected.root_entry:
            raise InvalidInput("a guest that maps its program elsewhere; migrate it again")
        memory.words[root, OWN_ENTRY] = 0

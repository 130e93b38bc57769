"""The model guest: a real small operating system under a modelled hypervisor.

Implements `paging_core.guest.Guest`. Its memory, page tables included, are real bytes; what
is modelled is who translates its addresses and how its writes are logged.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from paging_core.accounts import counters_between
from paging_core.boot import lay_out
from paging_core.config import GuestConfig, GuestKind, GuestTables, Paging
from paging_core.density import Written
from paging_core.errors import (
    BadOption,
    GuestCrashed,
    GuestOutOfMemory,
    IllegalTransition,
    InvalidInput,
    LimitExceeded,
)
from paging_core.flow import FlowRows
from paging_core.flow_buffer import FlowBuffer
from paging_core.footprint import check_fits
from paging_core.guest import Cleaned, DirtyWords, GuestCounters, Parts, ShadowPool
from paging_core.guest_accounts import MODEL, Accounts
from paging_core.guest_state import architectural_state, decode_state, encode_state
from paging_core.kernels.adaptive import note_sent, reset_groups
from paging_core.kernels.bitmap import count_false
from paging_core.kernels.cr3 import set_root
from paging_core.kernels.execute import execute
from paging_core.kernels.log_dirty_ops import (
    clear_log,
    judge_groups,
    pay_bitmap_copy,
    rearm,
    start_log,
    stop_log,
    sync_hardware_log,
    take_bitmap,
)
from paging_core.kernels.state import PANICKED
from paging_core.machine import Machine, copy_machine, make_machine
from paging_core.memory import GuestMemory
from paging_core.twin import copy_memory
from paging_core.units import PS_PER_NS, format_bytes
from paging_core.well_formed import check_well_formed
from paging_core.workloads.ops import OP_DTYPE, Ops, Workload

_CHUNK_OPS = 16384
_FOREVER_PS = 2**62
"""No guest comes to that: nothing overflows, and kernels would run nothing from there on."""


def _make_workload(config: GuestConfig) -> Workload:
    if config.trace:
        from paging_core.traces.opening import make_replay  # noqa: PLC0415 - pyarrow is slow

        shadow = config.tracker.paging is Paging.SHADOW
        linux = config.guest_tables is GuestTables.LINUX
        return make_replay(config.trace, config.seed, needs_reads=shadow, demand_zero=linux)
    from paging_core.workloads.catalog import workload_of  # noqa: PLC0415 - see above

    return workload_of(config)


def _close_workload(workload: Workload) -> None:
    close = getattr(workload, "close", None)  # of a trace: the others hold nothing open
    if close is not None:
        close()


def _named(workload: str) -> str:
    return f"workload {workload.partition(':')[0]}"


class ModelGuest:
    """A guest that runs a workload under shadow paging or HAP. One caller at a time.

    Attributes:
        config: what it was made from.
        memory: its frames.
        machine: the arrays that the kernels work on; for tests and analysis.
    """

    def __init__(self, config: GuestConfig, memory: GuestMemory, workload: Workload) -> None:
        """Use `boot` or `resume`."""
        if memory.n_frames != config.n_frames:
            raise BadOption(f"{memory.n_frames} frames of memory for a guest of {config.n_frames}")
        if config.kind is not GuestKind.MODEL:
            raise BadOption(f"a guest of kind {config.kind} is no model; make it a model")
        self.config = config
        self.memory = memory
        self.workload = workload
        self.machine: Machine = make_machine(config, memory)
        self._ops: Ops = np.zeros(_CHUNK_OPS, OP_DTYPE)
        self._ops_start = -1
        self._start: npt.NDArray[np.void] = self.machine.core.copy()
        self._flow: FlowBuffer | None = None
        self._twin: ModelGuest | None = None

    @classmethod
    def boot(
        cls,
        config: GuestConfig,
        memory: GuestMemory | None = None,
        workload: Workload | None = None,
        look_up: Callable[[], None] = lambda: None,
    ) -> ModelGuest:
        """A fresh guest, its workload set up and at position 0, untracked.

        Args:
            config: what it is made of.
            memory: its frames, all zero; made when None.
            workload: what it runs; that of the configuration when None.
            look_up: called now and then while it boots; what it raises ends that.

        Raises:
            UnknownWorkload, BadTrace: there is no such workload or trace.
            GuestOutOfMemory: the workload's set-up does not fit the guest.
        """
        with ExitStack() as undo:  # a kept error would keep alive what was made here
            if workload is None:
                workload = _make_workload(config)
                undo.callback(_close_workload, workload)
            if memory is None:
                memory = undo.enter_context(GuestMemory(config.n_frames))
            guest = cls._boot(config, memory, workload, look_up)
            undo.pop_all()
            return guest

    @classmethod
    def _boot(
        cls,
        config: GuestConfig,
        memory: GuestMemory,
        workload: Workload,
        look_up: Callable[[], None],
    ) -> ModelGuest:
        guest = cls(config, memory, workload)
        lay_out(guest.machine, config, look_up)
        set_root(guest.machine.record, int(guest.machine.core["vcpu"]["cr3"][0]))
        setup = guest.workload.setup()
        needed = getattr(guest.workload, "footprint", guest.workload.setup)()
        what = f"trace {Path(config.trace).name}" if config.trace else _named(config.workload)
        free_frames = int(guest.machine.core["vcpu"]["free_frames"][0])
        check_fits(what, needed, free_frames, config.memory_bytes)
        for first in range(0, len(setup), _CHUNK_OPS):
            look_up()
            guest.execute(setup[first : first + _CHUNK_OPS])
        return guest

    def close(self) -> None:
        """Give its memory back, and whatever its workload holds open; nothing runs it any more."""
        self._end_twin()
        self.memory.close()
        _close_workload(self.workload)

    @classmethod
    def resume(
        cls, memory: GuestMemory, state: bytes, workload: Workload | None = None
    ) -> ModelGuest:
        """Go on with a guest whose memory and state came from elsewhere, untracked.

        Args:
            memory: all of its frames.
            state: what `state` returned there.
            workload: what it runs; must be given to a guest that replays a trace, whose state
                names the file and not its folder.

        Raises:
            InvalidInput: not a guest state, or memory that no guest could have.
        """
        config, vcpu, time_ps = decode_state(state)
        if memory.n_frames != config.n_frames:
            raise InvalidInput(
                f"the state is of a guest of {config.n_frames} frames, and {memory.n_frames} came; "
                "migrate it again"
            )
        check_well_formed(memory, vcpu)
        guest = cls(config, memory, workload or _make_workload(config))
        guest.machine.core["vcpu"][:] = vcpu
        guest.machine.core["time"]["run_ps"] = time_ps
        set_root(guest.machine.record, int(vcpu["cr3"][0]))
        guest._start = guest.machine.core.copy()
        return guest

    @property
    def accounts(self) -> Accounts:
        """See `paging_core.guest.Guest`."""
        return MODEL

    @property
    def parts(self) -> Parts:
        """See `paging_core.guest.Guest`: it is driven, and knows all that a model can."""
        tracker = self.config.tracker
        return Parts(
            driven=self,
            stepped=self,
            learner=self if tracker.group.adaptive else None,
            clearer=self if tracker.clean_rules.defers else None,
            flow=self,
            twin=self,
            comparable=self,
        )

    def check(self) -> None:
        """See `paging_core.guest.Guest`."""
        self._check_alive()

    @property
    def n_frames(self) -> int:
        """Frames of guest memory."""
        return self.memory.n_frames

    @property
    def trace_digest(self) -> int:
        """XXH3-64 of the trace that it replays; 0 without one."""
        return int(getattr(self.workload, "digest", 0)) if self.config.trace else 0

    @property
    def position(self) -> int:
        """Workload operations executed since the guest booted."""
        return int(self.machine.core["vcpu"]["position"][0])

    @property
    def time_ns(self) -> int:
        """The guest's virtual time: what it ran, plus what the hypervisor cost it."""
        return self._time_ps() // PS_PER_NS

    def run(self, until_ns: int) -> None:
        """Run the workload until guest time reaches `until_ns`.

        Raises:
            GuestCrashed: its kernel found no free frame, or nonsense in its own tables.
            LimitExceeded: it ran for so long that time would overflow.
        """
        until_ps = until_ns * PS_PER_NS
        while self._time_ps() < until_ps:
            self._run_chunk(until_ps, _CHUNK_OPS)
        self._run_twin()

    def run_accesses(self, count: int) -> None:
        """Run exactly `count` more workload operations.

        Raises:
            GuestCrashed, LimitExceeded: as `run`.
        """
        end = self.position + count
        while self.position < end:
            self._run_chunk(_FOREVER_PS, end - self.position)
        self._run_twin()

    def execute(self, ops: Ops) -> None:
        """Run the given operations now, outside the workload.

        Raises:
            GuestCrashed: as `run`.
        """
        execute(self.machine.record, ops, 0, _FOREVER_PS)
        self._check_alive()
        if self._twin is not None:
            self._twin.execute(ops)

    def keep_twin(self) -> None:
        """See `paging_core.guest.Twinned`. It takes as much memory again.

        Raises:
            IllegalTransition: tracking has started.
            LimitExceeded: the machine has no room for it.
        """
        if self.machine.core["log"]["enabled"][0]:
            raise IllegalTransition("a twin is made before tracking starts")
        self._end_twin()
        with ExitStack() as undo:
            memory = undo.enter_context(GuestMemory(self.n_frames, "twin"))
            copy_memory(self.memory, memory)
            twin = ModelGuest(self.config, memory, self.workload)
            copy_machine(self.machine, twin.machine)
            twin._start = twin.machine.core.copy()
            undo.pop_all()
        self._twin = twin

    def _run_twin(self) -> None:
        if self._twin is not None:
            self._twin.run_accesses(self.position - self._twin.position)

    def _end_twin(self) -> None:
        twin, self._twin = self._twin, None
        if twin is not None:
            twin.memory.close()  # the workload is shared

    def stall(self, duration_ns: int) -> None:
        """Let virtual time pass with the guest stopped."""
        self.machine.core["time"]["run_ps"] += duration_ns * PS_PER_NS

    def start_tracking(self) -> None:
        """Enable log-dirty: from here on no frame is writable unseen.

        Raises:
            IllegalTransition: it is enabled already (Xen answers EINVAL).
        """
        core = self.machine.core
        if core["log"]["enabled"][0]:
            raise IllegalTransition("this guest's writes are being logged already")
        take_bitmap(self.machine.record)
        core["ring"]["used"] = 0
        reset_groups(self.machine.record)
        self._start = core.copy()
        start_log(self.machine.record)

    def clean(self) -> Cleaned:
        """Get and clear the dirty bitmap; statistics are read before they are reset.

        Raises:
            IllegalTransition: logging is off.
        """
        machine = self.machine
        self._check_logging()
        pool = self._shadow_pool()
        before_ps = int(machine.core["time"]["spent_ps"][0])
        sync_hardware_log(machine.record)
        group = self.config.tracker.group
        if group.d_bit_filter or group.adaptive:
            judge_groups(machine.record, group.d_bit_filter)
        dirty = machine.dirty.view(np.uint64).copy()
        pay_bitmap_copy(machine.record)
        defers = self.config.tracker.clean_rules.defers
        if not defers:
            rearm(machine.record, False)
        dirty_count = int(machine.core["log"]["dirty_count"][0])
        fault_count = int(machine.core["log"]["fault_count"][0])
        written = Written.of(np.flatnonzero(machine.frames["written"]))
        false_count = (count_false if defers else take_bitmap)(machine.record)
        cost_ps = int(machine.core["time"]["spent_ps"][0]) - before_ps
        if self._flow is not None:
            self._flow.check()
        cost_ns = cost_ps // PS_PER_NS
        return Cleaned(dirty, dirty_count, fault_count, false_count, cost_ns, pool, written)

    def _shadow_pool(self) -> ShadowPool | None:
        if self.config.tracker.paging is Paging.HAP:
            return None
        pages = int(self.machine.core["shadow"]["pool_pages"][0])
        return ShadowPool(pages - int(self.machine.core["shadow"]["free_pages"][0]), pages)

    @property
    def clear_chunk_frames(self) -> int:
        """See `paging_core.guest.LogClearer`."""
        return self.config.tracker.clear_chunk_frames

    def clear_log(self, gfns: npt.NDArray[np.int64]) -> None:
        """See `paging_core.guest.LogClearer`.

        Raises:
            IllegalTransition: logging is off.
        """
        self._check_logging()
        clear_log(self.machine.record, gfns)

    def peek(self) -> DirtyWords:
        """A copy of the dirty bitmap; nothing is cleared or revoked.

        Raises:
            IllegalTransition: logging is off.
        """
        self._check_logging()
        sync_hardware_log(self.machine.record)
        pay_bitmap_copy(self.machine.record)
        return self.machine.dirty.view(np.uint64).copy()

    def note_sent(self, gfns: npt.NDArray[np.int64], changed: npt.NDArray[np.bool_]) -> None:
        """See `paging_core.guest.SendObserver`."""
        note_sent(self.machine.record, gfns, changed)

    def note_flow(self, sink: Callable[[FlowRows], Any] | None) -> None:
        """See `paging_core.flow.FlowSource`.

        Raises:
            Exception: whatever the last sink raised.
        """
        flow, self._flow = self._flow, None
        if flow is not None:
            flow.close()
        if sink is not None:
            self._flow = FlowBuffer(self.machine.core, sink)

    def stop_tracking(self) -> None:
        """Disable log-dirty; counters stay as they are."""
        if not self.machine.core["log"]["enabled"][0]:
            return
        self._end_twin()
        stop_log(self.machine.record)

    def counters(self) -> GuestCounters:
        """Totals since tracking was started (or since the guest came here)."""
        twin = self._twin
        beside = None if twin is None else (twin._start, twin.machine.core)  # noqa: SLF001 - ours
        return counters_between((self._start, self.machine.core), beside)

    def state(self) -> bytes:
        """The guest beside its memory, for another host."""
        return encode_state(self.config, self.machine.core["vcpu"], self._time_ps())

    def architectural_state(self) -> bytes:
        """What the guest itself could tell: equal for a guest that moved and one that did not."""
        return architectural_state(self.config, self.machine.core["vcpu"])

    def _time_ps(self) -> int:
        time = self.machine.core["time"][0]
        return int(time["run_ps"] + time["spent_ps"])

    def _check_logging(self) -> None:
        if not self.machine.core["log"]["enabled"][0]:
            raise IllegalTransition("this guest's writes are not logged; start tracking first")

    def _check_time(self) -> None:
        if not 0 <= self._time_ps() < _FOREVER_PS:
            raise LimitExceeded("this guest's time is over, it ran for 53 days; boot it anew")

    def _check_alive(self) -> None:
        if self._flow is not None:
            self._flow.check()
        gave_up = self.machine.core["vcpu"]["out_of_memory"][0]
        if gave_up == PANICKED:
            raise GuestCrashed(
                "the guest's kernel found page tables or reference counts in its memory that "
                "cannot be, and stopped; delete it and boot it anew"
            )
        if gave_up:
            size = format_bytes(self.config.memory_bytes)
            raise GuestOutOfMemory(
                f"the guest's kernel found no free frame in {size}; "
                "give it more memory or a smaller working set"
            )

    def _run_chunk(self, until_ps: int, limit: int) -> None:
        """Run from the current position to the end of the buffered operations at most."""
        self._check_alive()
        self._check_time()
        at = self.position - self._ops_start
        if self._ops_start < 0 or not 0 <= at < _CHUNK_OPS:
            # Known only once it is filled: what could not be filled is filled the next time.
            self._ops_start, start, at = -1, self.position, 0
            self.workload.fill(start, self._ops)
            self._ops_start = start
        ops = self._ops[: min(_CHUNK_OPS, at + limit)]
        reached = execute(self.machine.record, ops, at, until_ps)
        self.machine.core["vcpu"]["position"] = self._ops_start + reached
        self._check_alive()

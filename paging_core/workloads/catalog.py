"""Every workload by name: what there is, and how a spec becomes one.

A spec is ``name`` or ``name:key=value,key=value``. The canonical spec of a workload names
every parameter; a ``dirty`` rate is in it as the ``write_rate`` that it comes to. Nothing is
compiled, and numba is not imported, before a workload is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from paging_core.config import GuestConfig
from paging_core.errors import BadOption, InvalidInput, UnknownWorkload
from paging_core.footprint import MIB, memory_for
from paging_core.units import FRAME_BYTES, format_bytes
from paging_core.workloads.dirty_rate import PATTERNS, Dirty, DirtyRate, write_rate
from paging_core.workloads.ops import FILE_PAGES, MAX_PROCESSES, Workload
from paging_core.workloads.parameters import (
    Count,
    Duration,
    Exponent,
    Number,
    Parameter,
    Rate,
    Settings,
    Size,
)

DIRTY = "dirty"
"""Instead of `write_rate`: the distinct pages that are written, see `dirty_rate`."""
_SUPERPAGE_BYTES = 1 << 21
_EVER = 1 << 40
_FLAG = Count(0, 1)


@dataclass(frozen=True)
class WorkloadInfo:
    """What `pageferry workloads` shows of a workload.

    Attributes:
        name: as it is typed.
        summary: one line.
        parameters: in the order of the canonical spec.
    """

    name: str
    summary: str
    parameters: tuple[Parameter, ...]

    @property
    def options(self) -> tuple[Parameter, ...]:
        """What may be typed: the parameters, and the dirty rate where there is one."""
        return (*self.parameters, _DIRTY_RATE) if self.name in PATTERNS else self.parameters


def _wss(default: str, least_bytes: int = FRAME_BYTES) -> Parameter:
    return Parameter("wss", Size(least_bytes=least_bytes), default, "working set, mapped at boot")


_DIRTY_RATE = Parameter(
    DIRTY,
    Dirty(),
    "",
    "instead of write_rate: distinct pages written, such as 0.5link (of --link) or 20MB/s",
)
_INIT = Parameter("init", _FLAG, "1", "1: the working set holds data at boot, 0: zeros")


def _accesses(wss: str, write_rate: str = "500k", writes: str = "0.5") -> tuple[Parameter, ...]:
    """The parameters that all workloads with accesses have."""
    return (
        _wss(wss),
        Parameter("write_rate", Rate(), write_rate, "writes per second, if nothing held them up"),
        Parameter("writes", Number(1e-6, 1), writes, "fraction of the accesses that write"),
        Parameter("words", Count(1, 512), "8", "8-byte words per write"),
        Parameter("silent", Number(0, 1), "0", "fraction of the writes that change nothing"),
        _INIT,
    )


_HUGE = Parameter("huge", _FLAG, "0", "1: map the working set with 2 MiB superpages")


def _pattern(
    name: str, summary: str, *own: Parameter, common: tuple[Parameter, ...] | None = None
) -> WorkloadInfo:
    return WorkloadInfo(name, summary, (*(common or _accesses("32MiB")), _HUGE, *own))


_WORKLOADS = (
    _pattern("sequential", "Straight through the working set, again and again."),
    _pattern("uniform", "Pages at random, each as likely as every other."),
    _pattern(
        "zipf",
        "Few pages often, most seldom: the page of rank k as k**-s.",
        Parameter("s", Exponent(), "0.99", "the exponent, in steps of 1/1024"),
        Parameter("scatter", _FLAG, "1", "1: ranks spread over the working set, 0: in order"),
    ),
    _pattern(
        "hotcold",
        "A small hot start of the working set, and a cold rest.",
        Parameter("hot", Number(0, 1), "0.05", "fraction of the working set that is hot"),
        Parameter("hot_accesses", Number(0, 1), "0.98", "fraction of the accesses that go there"),
    ),
    _pattern(
        "strided",
        "Every so many bytes, as a column of a matrix.",
        Parameter("stride", Size(8, 8), "16KiB", "from one access to the next"),
    ),
    _pattern(
        "phased",
        "One part of the working set after the other.",
        Parameter("phases", Count(1, 1 << 20), "4", "parts of the working set"),
        Parameter("phase_ops", Count(1, _EVER), "500000", "accesses in one part before the next"),
    ),
    _pattern(
        "read-mostly",
        "Reads anywhere, few writes, and those in a small part.",
        Parameter("written", Number(0, 1), "0.1", "fraction of the working set that is written"),
        common=_accesses("32MiB", "20k", "0.02"),
    ),
    WorkloadInfo(
        "churn",
        "Page-table churn: fork with copy-on-write, mmap, munmap, switches, exit.",
        (
            *_accesses("8MiB"),
            Parameter("region", Size(least_bytes=8192), "1MiB", "what each child maps for itself"),
            Parameter("fork_every", Count(4, _EVER), "50000", "accesses from a fork to the next"),
            Parameter("children", Count(1, MAX_PROCESSES - 1), "4", "processes beside the parent"),
        ),
    ),
    WorkloadInfo(
        "switches",
        "Processes that take turns, each with its own tables and working set.",
        (
            *_accesses("8MiB"),
            Parameter("processes", Count(2, MAX_PROCESSES), "2", "that take turns"),
            Parameter(
                "switch_every", Count(1, _EVER), "5000", "accesses from a switch to the next"
            ),
        ),
    ),
    WorkloadInfo(
        "files",
        "A file in the page cache: mapped shared and private, read() and write(), write-back.",
        (
            *_accesses("4MiB"),
            Parameter("file", Size(most_bytes=FILE_PAGES * FRAME_BYTES), "4MiB", "the file's size"),
            Parameter("shared", Number(0, 1), "0.4", "fraction of the accesses by shared mapping"),
            Parameter("private", Number(0, 1), "0.1", "fraction by private mapping"),
            Parameter("calls", Number(0, 1), "0.3", "fraction by read() and write()"),
            Parameter("sync_every", Count(1, _EVER), "50000", "accesses between two write-backs"),
        ),
    ),
    WorkloadInfo(
        "idle",
        "Nothing at all.",
        (
            _wss("0", least_bytes=0),
            Parameter("tick", Duration(1, 10**9), "100us", "length of one operation"),
            _INIT,
        ),
    ),
)
_BY_NAME = {info.name: info for info in _WORKLOADS}


def describe_workloads() -> list[WorkloadInfo]:
    """Every workload with its parameters, for display."""
    return list(_WORKLOADS)


def _unknown(what: str, given: str, known: Iterable[str]) -> UnknownWorkload:
    names = sorted(known)
    close = get_close_matches(given, names, 1)
    hint = f"did you mean {close[0]}? " if close else ""
    return UnknownWorkload(f"no {what} {given!r}; {hint}there are {', '.join(names)}")


def _info(name: str) -> WorkloadInfo:
    if name not in _BY_NAME:
        raise _unknown("workload", name, _BY_NAME)
    return _BY_NAME[name]


def _assignments(name: str, text: str) -> dict[str, str]:
    given: dict[str, str] = {}
    for item in text.split(",") if text else ():
        key, equals, value = item.partition("=")
        key, value = key.strip(), value.strip()
        if not equals or not key or not value:
            raise BadOption(
                f"workload {name}: {item!r} is not key=value; write it like {name}:wss=64MiB"
            )
        if key in given:
            raise BadOption(f"workload {name}: {key} is given twice; keep one")
        given[key] = value
    return given


def parse_spec(spec: str, link_bits_per_s: int | None = None) -> tuple[WorkloadInfo, Settings]:
    """What a spec asks for, the defaults filled in.

    Args:
        spec: ``name`` or ``name:key=value,…``.
        link_bits_per_s: that its dirty rate may be a share of; None if there is no such link.

    Raises:
        UnknownWorkload: no such workload, or it has no such parameter.
        BadOption: a value that cannot be, or parameters that do not go together.
    """
    name, _, rest = spec.strip().partition(":")
    info = _info(name.strip())
    given = _assignments(info.name, rest)
    known = {parameter.name for parameter in info.parameters}
    if info.name in PATTERNS:
        known.add(DIRTY)
    for key in given:
        if key not in known:
            raise _unknown(f"parameter of workload {info.name}:", key, known)
    settings = {
        parameter.name: parameter.parse(given.get(parameter.name, parameter.default), info.name)
        for parameter in info.parameters
    }
    _check_together(info.name, settings)
    if DIRTY in given:
        settings["write_rate"] = _write_rate(info.name, given, settings, link_bits_per_s)
    return info, settings


def _write_rate(
    name: str, given: Mapping[str, str], settings: Settings, link_bits_per_s: int | None
) -> float:
    if "write_rate" in given:
        raise BadOption(f"workload {name}: {DIRTY} is another way to say write_rate; keep one")
    try:
        rate = DirtyRate.parse(given[DIRTY])
        return write_rate(name, settings, rate, link_bits_per_s)
    except InvalidInput as error:
        raise BadOption(f"workload {name}: {DIRTY}={given[DIRTY]}: {error}") from error


def _check_together(name: str, settings: Settings) -> None:
    if settings.get("huge") and int(settings["wss"]) % _SUPERPAGE_BYTES:
        raise BadOption(
            f"workload {name}: huge=1 needs a wss of whole superpages; use a multiple of 2MiB"
        )
    shares = [float(settings.get(key, 0)) for key in ("shared", "private", "calls")]
    if round(sum(shares), 9) > 1:
        raise BadOption(
            f"workload {name}: shared, private and calls are parts of all accesses and add up to "
            f"{sum(shares):g}; make them 1 or less"
        )


def _spec_of(info: WorkloadInfo, settings: Settings) -> str:
    items = (f"{p.name}={p.kind.text(settings[p.name])}" for p in info.parameters)
    return f"{info.name}:{','.join(items)}"


def canonical_spec(spec: str, link_bits_per_s: int | None = None) -> str:
    """The spec with every parameter; checks it without making the workload.

    Args:
        spec, link_bits_per_s: as of `parse_spec`.

    Raises:
        UnknownWorkload, BadOption: as `parse_spec`.
    """
    return _spec_of(*parse_spec(spec, link_bits_per_s))


def make_workload(spec: str, seed: int) -> Workload:
    """The workload of a spec.

    Args:
        spec: ``name`` or ``name:key=value,…``.
        seed: the same one gives the same operations on any machine.

    Raises:
        UnknownWorkload, BadOption: as `parse_spec`.
    """
    # Here and not above: it imports numba, and listing workloads must not.
    from paging_core.workloads.generators import make_generator  # noqa: PLC0415

    info, settings = parse_spec(spec)
    return make_generator(info.name, _spec_of(info, settings), settings, seed)


def workload_of(config: GuestConfig) -> Workload:
    """The workload that a guest without a trace runs.

    Raises:
        UnknownWorkload, BadOption: as `parse_spec` and `check_working_set`.
    """
    check_working_set(config)
    return make_workload(config.workload, config.seed)


def check_working_set(config: GuestConfig) -> None:
    """Refuse what no guest can hold, before tables as large as it are made for its workload.

    Page tables and the rest are counted at boot.

    Raises:
        UnknownWorkload, BadOption: as `parse_spec`, or the working set is as large as the guest.
    """
    info, settings = parse_spec(config.workload)
    wss_bytes = int(settings["wss"]) + int(settings.get("file", 0))
    if wss_bytes >= config.memory_bytes:
        wss, memory = format_bytes(wss_bytes), format_bytes(config.memory_bytes)
        enough = memory_for(wss_bytes // FRAME_BYTES) // MIB
        raise BadOption(
            f"workload {info.name} has a working set of {wss}, too much for a guest of "
            f"{memory}; use --memory {enough}MiB or a smaller wss"
        )

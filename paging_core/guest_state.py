"""The guest beside its memory, as bytes: configuration, registers, place in its workload.

JSON with sorted keys: small, deterministic, readable in a debugger. The version is of this
format and not of the product.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import PurePath
from typing import Any

import numpy as np

from paging_core.config import GuestConfig
from paging_core.costs import CostTable
from paging_core.errors import InvalidInput
from paging_core.kernels.state import VCPU_DTYPE, Records
from paging_core.state_document import cut, integer, integers, members, parse_document, read
from paging_core.workloads.ops import MAX_PROCESSES

STATE_VERSION = 2
MAX_POSITION = 2**53
MAX_TIME_PS = 2**61
"""Most of what is taken over: a month of guest time, and more operations than anybody runs in it.
Far below what overflows, so that the guest can go on."""
_OF_A_FILE = ("mappings", "file_index")
"""Registers that are left out while the guest has no file: a state is no longer for them."""


def encode_state(config: GuestConfig, vcpu: Records, time_ps: int) -> bytes:
    """Everything that another host needs, beside the memory, to go on with the guest."""
    document = {
        "version": STATE_VERSION,
        "config": _config_document(config),
        "vcpu": _vcpu_document(vcpu),
        "time_ps": time_ps,
    }
    return _dump(document)


def architectural_state(config: GuestConfig, vcpu: Records) -> bytes:
    """What the guest itself could tell: no time, no tracking. Equal for equal guests."""
    document = {"workload": config.workload, "seed": config.seed, "vcpu": _vcpu_document(vcpu)}
    return _dump(document)


def decode_state(state: bytes) -> tuple[GuestConfig, Records, int]:
    """The (config, vcpu, time_ps) that `encode_state` was given.

    The host that hands a guest over can write anything here. So it is checked: every member is
    there and no other, and each is of its own type and in range.

    Raises:
        InvalidInput: not a guest state, or of another version.
    """
    document = parse_document(state)
    version = document.get("version") if isinstance(document, dict) else None
    if type(version) is not int:
        raise InvalidInput(f"these {len(state)} bytes are no guest state; migrate it again")
    if version != STATE_VERSION:
        raise InvalidInput(
            f"guest state of version {cut(version)}, this host reads {STATE_VERSION}; "
            "run the same release on both hosts"
        )
    top = members(document, "the state", ("version", "config", "vcpu", "time_ps"))
    config = read(GuestConfig, top["config"], "config")
    vcpu = _vcpu_of(top["vcpu"])
    time_ps = integer(top["time_ps"], "time_ps")
    _check_registers(vcpu, config.n_frames, time_ps)
    return config, vcpu, time_ps


def _check_registers(vcpu: Records, n_frames: int, time_ps: int) -> None:
    """Kernels index by these without looking: no value may point outside the guest."""
    names = ("cr3", "kernel_table", "first_frame", "file_index")
    frames = [vcpu[name][0] for name in names]
    frames += vcpu["roots"][0].tolist() + vcpu["mappings"][0].tolist()
    inside = all(0 <= gfn < n_frames for gfn in frames)
    inside &= 0 <= vcpu["alloc_hint"][0] <= n_frames and 0 <= vcpu["free_frames"][0] <= n_frames
    inside &= 0 <= vcpu["process"][0] < MAX_PROCESSES
    if not inside:
        raise InvalidInput("guest state with registers that point outside the guest's memory")
    if not (0 <= vcpu["position"][0] < MAX_POSITION and 0 <= time_ps < MAX_TIME_PS):
        raise InvalidInput(
            "guest state of a guest that ran for longer than one can go on; boot it anew"
        )


def _dump(document: dict[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def _config_document(config: GuestConfig) -> dict[str, Any]:
    document = asdict(config)
    # Where a trace lies is each host's own business, and its length no part of the guest.
    document["trace"] = PurePath(config.trace).name
    document["costs"] = _costs_document(config.costs)
    return document


def _costs_document(costs: CostTable) -> dict[str, float | list[float]]:
    """A number, or of an interval what is charged between its ends."""
    prices: dict[str, float | list[float]] = {}
    for name, ns in costs.overrides_ns.items():
        span = costs.spans_ns.get(name)
        prices[name] = ns if span is None else [span[0], ns, span[1]]
    return prices


def _vcpu_document(vcpu: Records) -> dict[str, Any]:
    without = () if any(vcpu[name].any() for name in _OF_A_FILE) else _OF_A_FILE
    names = VCPU_DTYPE.names or ()
    return {name: vcpu[name][0].tolist() for name in names if name not in without}


def _vcpu_of(document: Any) -> Records:
    names = VCPU_DTYPE.names or ()
    if isinstance(document, dict) and not any(name in document for name in _OF_A_FILE):
        names = tuple(name for name in names if name not in _OF_A_FILE)
    values = members(document, "vcpu", names)
    vcpu = np.zeros(1, VCPU_DTYPE)
    for name in names:
        shape = VCPU_DTYPE[name].shape
        where = f"vcpu.{name}"
        value = integers(values[name], shape[0], where) if shape else integer(values[name], where)
        vcpu[name][0] = value
    return vcpu

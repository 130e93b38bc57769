"""KVM's numbers and structures against the headers of a machine that has some."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from guests.kvm import abi

_NAMES = {
    "MemoryRegion": "kvm_userspace_memory_region", "Registers": "kvm_regs",
    "Segment": "kvm_segment", "DescriptorTable": "kvm_dtable", "SystemRegisters": "kvm_sregs",
    "DirtyLog": "kvm_dirty_log", "ClearDirtyLog": "kvm_clear_dirty_log",
    "EnableCap": "kvm_enable_cap", "StatsHeader": "kvm_stats_header",
    "VcpuEvents": "kvm_vcpu_events", "Xsave": "kvm_xsave",
}  # fmt: skip
_OFFSETS = {
    "exit_reason": "exit_reason", "immediate_exit": "immediate_exit", "mmio.phys_addr": "address",
    "mmio.data": "data", "mmio.len": "length", "mmio.is_write": "is_write",
}  # fmt: skip
_HEAD = (
    "#include <linux/kvm.h>\n#include <stddef.h>\n#include <stdio.h>",
    '#define P(n, x) printf("%s %lu\\n", n, (unsigned long)(x))',
    "int main(void) {",
)


def _constants() -> list[str]:
    return [name for name in vars(abi) if name.startswith("KVM_")]


def _from_headers(folder: Path) -> dict[str, int]:
    """What a C compiler says of each."""
    sizes = [f'P("{ours}", sizeof(struct {theirs}));' for ours, theirs in _NAMES.items()]
    offsets = [f'P("{f}", offsetof(struct kvm_run, {f}));' for f in _OFFSETS]
    numbers = [f'#ifdef {name}\nP("{name}", {name});\n#endif' for name in _constants()]
    exits = [f'P("{one.name}", KVM_EXIT_{one.name});' for one in abi.Exit]
    source = "\n".join([*_HEAD, *sizes, *offsets, *numbers, *exits, "return 0; }"])
    (folder / "ask.c").write_text(source)
    built = subprocess.run(
        ["cc", "ask.c", "-o", "ask"], cwd=folder, capture_output=True, text=True, check=False
    )
    if built.returncode:
        pytest.skip(f"no headers of KVM that are new enough: {built.stderr[:200]}")
    told = subprocess.run([folder / "ask"], capture_output=True, text=True, check=True)
    return {name: int(value) for name, value in (line.split() for line in told.stdout.splitlines())}


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler here")
@pytest.mark.skipif(not Path("/usr/include/linux/kvm.h").exists(), reason="no kernel headers here")
def test_numbers_are_those_of_the_kernels_headers(tmp_path: Path) -> None:
    theirs = _from_headers(tmp_path)
    ours = {name: getattr(abi, name) for name in _constants()}
    ours |= {name: ctypes.sizeof(getattr(abi, name)) for name in _NAMES}
    ours |= {theirs: getattr(abi.RunHead, field).offset for theirs, field in _OFFSETS.items()}
    ours |= {one.name: one.value for one in abi.Exit}
    assert len(theirs) > 50
    newer = set(ours) - set(theirs)
    assert newer <= {"KVM_X86_QUIRK_SLOT_ZAP_ALL"}  # since Linux 6.11
    assert {name: ours[name] for name in theirs} == theirs


def test_every_request_is_in_the_comparison() -> None:
    source = Path(abi.__file__).read_text()
    assert set(re.findall(r"^(KVM_\w+) =", source, re.MULTILINE)) == set(_constants())

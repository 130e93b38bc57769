"""A virtual machine in an unmodified QEMU, recorded from outside by guest physical address."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pageferry.record.command import command_line
from pageferry.record.guest_ram import find
from pageferry.record.mappings import Maps
from paging_core.traces.written.reader import WrittenPagesFile
from paging_core.traces.written.schema import VM, Mapping
from tests.record.test_cli import CLI, run

QEMU = shutil.which("qemu-system-x86_64") or ""
FIRST_GFN, STEP, COUNT = 0x30, 3, 30
"""The boot sector increments a word in each third frame, round and round."""
BOOT = (
    bytes.fromhex(
        "fa"  # cli
        "bb0030"  # mov $0x3000, %bx      a segment: address >> 4
        "b91e00"  # mov $30, %cx
        "8ec3"  # next: mov %bx, %es
        "26ff060000"  # incw %es:0
        "81c30003"  # add $0x300, %bx      three frames on
        "e2f3"  # loop next
        "ebeb"  # jmp the start
    ).ljust(510, b"\0")
    + b"\x55\xaa"
)

pytestmark = pytest.mark.skipif(not QEMU, reason="needs qemu-system-x86_64")

Boot = Callable[..., int]


@pytest.fixture
def boot(can_record: None, tmp_path: Path) -> Iterator[Boot]:
    """Starts a QEMU; gives its process id."""
    del can_record
    processes = []

    def begin(*arguments: str, memory: str = "64") -> int:
        command = [QEMU, "-accel", "tcg", "-m", memory, "-nodefaults", "-display", "none"]
        processes.append(subprocess.Popen([*command, *arguments], cwd=tmp_path))
        return processes[-1].pid

    yield begin
    for one in processes:
        one.kill()
        one.wait()


@pytest.fixture
def disk(tmp_path: Path) -> list[str]:
    """Options that boot the sector."""
    image = tmp_path / "boot.img"
    image.write_bytes(BOOT)
    return ["-drive", f"file={image},format=raw,if=floppy", "-boot", "a"]


def word(pid: int, gfn: int) -> int:
    """A guest's 16-bit word, read through the process."""
    maps = Maps(pid)
    ram = find(maps, command_line(pid))
    maps.close()
    with Path(f"/proc/{pid}/mem").open("rb") as memory:
        memory.seek(ram.start + gfn * 4096)
        return int.from_bytes(memory.read(2), "little")


def wait_until_it_runs(pid: int) -> None:
    """Until it has written its last frame."""
    deadline = time.monotonic() + 60
    last = FIRST_GFN + STEP * (COUNT - 1)
    while not Path(f"/proc/{pid}/maps").read_bytes() or not _written(pid, last):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _written(pid: int, gfn: int) -> bool:
    try:
        return word(pid, gfn) != 0
    except Exception:  # noqa: BLE001 - it has no RAM yet
        return False


@pytest.mark.parametrize("backend", ["private", "memfd"])
def test_a_guest_whose_writes_are_known(
    boot: Boot, disk: list[str], tmp_path: Path, backend: str
) -> None:
    shared = [
        "-object",
        "memory-backend-memfd,id=ram,size=64M",
        "-machine",
        "pc,memory-backend=ram",
    ]
    pid = boot(*disk, *(shared if backend == "memfd" else ["-machine", "pc"]))
    wait_until_it_runs(pid)
    out = tmp_path / "vm.parquet"
    done = run("--pid", str(pid), "--out", str(out), "--windows", "300ms,500ms", "--for", "3s",
               "--content", "--quiet")  # fmt: skip
    assert done.exit_code == 0, done.output
    trace = WrittenPagesFile(str(out))
    assert trace.recording.recorded == VM
    assert trace.recording.memory_bytes == 64 << 20
    assert trace.recording.mappings == (Mapping(0, 16384, "RAM"),)
    windows = list(trace.windows())
    assert len(windows) == trace.description.windows > 2
    known = [FIRST_GFN + STEP * i for i in range(COUNT)]
    for window in windows:
        assert window.written.tolist() == known
    trace.close()
    before = word(pid, FIRST_GFN)
    deadline = time.monotonic() + 60
    while word(pid, FIRST_GFN) == before:  # it runs on
        assert time.monotonic() < deadline


def test_the_firmware_boots_while_it_is_recorded(boot: Boot, tmp_path: Path) -> None:
    """SeaBIOS copies itself into RAM below 1 MiB, and finds nothing to boot."""
    pid = boot("-S", "-qmp", f"unix:{tmp_path}/qmp,server=on,wait=off", "-machine", "q35")
    deadline = time.monotonic() + 60
    while not (tmp_path / "qmp").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    out = tmp_path / "boot.parquet"
    recording = subprocess.Popen(
        [*CLI, "record", "--pid", str(pid), "--out", str(out), "--for", "8s"],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert recording.stderr
    assert recording.stderr.readline().startswith("guest RAM at ")
    qmp(tmp_path / "qmp", "cont")
    recording.communicate()
    assert recording.returncode == 0
    trace = WrittenPagesFile(str(out))
    written = {page for window in trace.windows() for page in window.written.tolist()}
    trace.close()
    assert any(page < 256 for page in written)
    assert max(written) < 16384


def qmp(path: Path, command: str) -> None:
    """One command to QEMU's monitor."""
    with socket.socket(socket.AF_UNIX) as monitor:
        monitor.connect(str(path))
        with monitor.makefile("rw") as lines:
            lines.readline()
            for one in ("qmp_capabilities", command):
                lines.write(json.dumps({"execute": one}) + "\n")
                lines.flush()
                lines.readline()


def test_mappings_are_listed_and_ram_is_among_them(boot: Boot, disk: list[str]) -> None:
    pid = boot(*disk, "-machine", "pc")
    wait_until_it_runs(pid)
    listed = json.loads(run("--list", str(pid), "--json", "-").stdout)
    (one,) = [row for row in listed["mappings"] if row["guest_ram"]]
    assert one["size_bytes"] >= 64 << 20
    assert listed["guest_ram"]["end"] - listed["guest_ram"]["start"] == 64 << 20
    assert "guest RAM" in run("--list", str(pid)).stdout

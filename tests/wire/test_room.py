"""How much memory there is to give: read from trees of files as kernels lay them out."""

from __future__ import annotations

from pathlib import Path

import pytest

from paging_core.errors import LimitExceeded
from wire.hosting.room import HEADROOM_BYTES, OWN_BYTES, OWN_SHARE, MemoryOfHost, Room

MIB = 2**20
GIB = 2**30
NO_LIMIT_V1 = 9223372036854771712
MACHINE = 8 * GIB


class Tree:
    """A root file system with a machine of 8 GiB, of which 6 GiB are free, and no cgroups yet."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.write("proc/meminfo", f"MemTotal: {MACHINE >> 10} kB\nMemFree: 1 kB\n"
                   f"MemAvailable: {6 * GIB >> 10} kB\nHugePages_Total: 0\n")  # fmt: skip
        self.write("proc/self/mountinfo", "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n")
        self.write("proc/self/cgroup", "")

    def write(self, name: str, text: object) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n" if isinstance(text, int) else str(text))

    def mount(self, version: int, at: str, root: str = "/") -> None:
        kind = "cgroup2 cgroup2 rw" if version == 2 else "cgroup cgroup rw,memory"
        with (self.root / "proc/self/mountinfo").open("a") as file:
            file.write(f"30 22 0:27 {root} {at} rw,nosuid shared:9 - {kind}\n")

    def join(self, line: str) -> None:
        with (self.root / "proc/self/cgroup").open("a") as file:
            file.write(f"{line}\n")

    def v1(self, folder: str, limit: int, used: int, inactive: int = 0) -> None:
        self.write(f"{folder}/memory.limit_in_bytes", limit)
        self.write(f"{folder}/memory.usage_in_bytes", used)
        self.write(f"{folder}/memory.stat", f"cache 5\ntotal_inactive_file {inactive}\n")

    def v2(self, folder: str, limit: object, used: int, inactive: int = 0) -> None:
        self.write(f"{folder}/memory.max", limit)
        self.write(f"{folder}/memory.high", "max\n")
        self.write(f"{folder}/memory.current", used)
        self.write(f"{folder}/memory.stat", f"anon 1\ninactive_file {inactive}\n")

    def room(self) -> Room:
        room = MemoryOfHost(self.root).room()
        assert room is not None
        return room

    def assert_room(self, free_bytes: int, total_bytes: int, folder: str | None) -> None:
        room = self.room()
        assert (room.free_bytes, room.total_bytes) == (free_bytes, total_bytes)
        what = "this machine" if folder is None else f"cgroup {self.root / folder}"
        assert room.what == what


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_a_machine_without_cgroups(tree: Tree) -> None:
    tree.assert_room(6 * GIB, MACHINE, None)


def test_version_1(tree: Tree) -> None:
    tree.mount(1, "/sys/fs/cgroup/memory")
    tree.join("5:cpu,cpuacct:/other")
    tree.join("4:memory:/lab/host")
    tree.v1("sys/fs/cgroup/memory", NO_LIMIT_V1, 7 * GIB)
    tree.v1("sys/fs/cgroup/memory/lab", NO_LIMIT_V1, 5 * GIB)
    tree.v1("sys/fs/cgroup/memory/lab/host", 500 * MIB, 120 * MIB, 20 * MIB)
    tree.assert_room(400 * MIB, 500 * MIB, "sys/fs/cgroup/memory/lab/host")


def test_version_2(tree: Tree) -> None:
    tree.mount(2, "/sys/fs/cgroup")
    tree.join("0::/lab/host")
    tree.v2("sys/fs/cgroup/lab/host", 300 * MIB, 100 * MIB, 30 * MIB)
    tree.v2("sys/fs/cgroup/lab", "max\n", 900 * MIB)
    tree.assert_room(230 * MIB, 300 * MIB, "sys/fs/cgroup/lab/host")


def test_a_group_around_it_is_tighter(tree: Tree) -> None:
    """Its neighbours in that group have used nearly all of it."""
    tree.mount(2, "/sys/fs/cgroup")
    tree.join("0::/lab/rack/host")
    tree.v2("sys/fs/cgroup/lab/rack/host", 4 * GIB, 10 * MIB)
    tree.v2("sys/fs/cgroup/lab", 5 * GIB, 5 * GIB - 50 * MIB)
    tree.assert_room(50 * MIB, 5 * GIB, "sys/fs/cgroup/lab")


def test_what_is_throttled_counts_like_a_limit(tree: Tree) -> None:
    tree.mount(2, "/sys/fs/cgroup")
    tree.join("0::/host")
    tree.v2("sys/fs/cgroup/host", 4 * GIB, 10 * MIB)
    tree.write("sys/fs/cgroup/host/memory.high", 110 * MIB)
    room = tree.room()
    assert (room.free_bytes, room.way_out) == (100 * MIB, "raise its memory.high")


def test_the_machine_is_tighter_than_its_groups(tree: Tree) -> None:
    tree.mount(2, "/sys/fs/cgroup")
    tree.join("0::/host")
    tree.v2("sys/fs/cgroup/host", 64 * GIB, 10 * MIB)
    tree.assert_room(6 * GIB, MACHINE, None)


def test_both_versions_at_once(tree: Tree) -> None:
    """Where systemd runs on version 2 and memory is still with version 1."""
    tree.mount(1, "/sys/fs/cgroup/memory")
    tree.mount(2, "/sys/fs/cgroup/unified")
    tree.join("4:memory:/host")
    tree.join("0::/")
    tree.v1("sys/fs/cgroup/memory/host", GIB, 0)
    tree.assert_room(GIB, GIB, "sys/fs/cgroup/memory/host")


@pytest.mark.parametrize("named", ["/docker/abc", "/docker/abc/", "/", "/../elsewhere"])
def test_a_container(tree: Tree, named: str) -> None:
    """Its own group is what is mounted there, whatever the group is called outside."""
    tree.mount(1, "/sys/fs/cgroup/memory", root="/docker/abc")
    tree.join(f"4:memory:{named}")
    tree.v1("sys/fs/cgroup/memory", 200 * MIB, 50 * MIB)
    tree.assert_room(150 * MIB, 200 * MIB, "sys/fs/cgroup/memory")


def test_more_used_than_allowed(tree: Tree) -> None:
    """As after the limit was lowered."""
    tree.mount(2, "/sys/fs/cgroup")
    tree.join("0::/host")
    tree.v2("sys/fs/cgroup/host", 100 * MIB, 150 * MIB)
    tree.assert_room(0, 100 * MIB, "sys/fs/cgroup/host")


def test_where_nothing_can_be_read_nothing_is_refused(tmp_path: Path) -> None:
    machine = MemoryOfHost(tmp_path)
    assert machine.room() is None
    machine.check(2**60, 0)


def test_what_fits_and_what_does_not(tree: Tree) -> None:
    tree.mount(2, "/sys/fs/cgroup")
    tree.join("0::/host")
    tree.v2("sys/fs/cgroup/host", 500 * MIB, 20 * MIB)
    machine, guest = MemoryOfHost(tree.root), 256 * MIB
    promised = 480 * MIB - HEADROOM_BYTES - (guest + guest // OWN_SHARE + OWN_BYTES)
    machine.check(guest, promised)
    with pytest.raises(LimitExceeded, match=r"256\.0 MiB.* 500\.0 MiB that cgroup .*/host allows"):
        machine.check(guest, promised + 1)
    with pytest.raises(LimitExceeded, match=r"raise its memory\.max, delete guests"):
        machine.check(GIB, 0)


def test_it_is_read_anew_each_time(tree: Tree) -> None:
    """A host may be moved to another group, or its limit lowered, while it serves."""
    machine = MemoryOfHost(tree.root)
    machine.check(GIB, 0)
    tree.mount(2, "/sys/fs/cgroup")
    tree.join("0::/host")
    tree.v2("sys/fs/cgroup/host", 200 * MIB, 0)
    with pytest.raises(LimitExceeded):
        machine.check(GIB, 0)


def test_this_machine() -> None:
    """Against what the kernel says elsewhere."""
    room = MemoryOfHost().room()
    assert room is not None
    lines = Path("/proc/meminfo").read_text().splitlines()
    total_kib = next(int(line.split()[1]) for line in lines if line.startswith("MemTotal"))
    assert 0 < room.free_bytes <= total_kib << 10

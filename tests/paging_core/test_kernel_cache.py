"""Compiled kernels are pickles: a folder that anybody else can write to is never read."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from paging_core.kernel_cache import fault

ATTACKER = 12345
"""A user that no system has; needs root to act as one."""
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="gives folders to another user, as root")

PROGRAM = """
import os
from paging_core.kernel_cache import cache_folder
folder = cache_folder("kernels-0")
print(folder, oct(os.stat(folder).st_mode & 0o7777))
"""


def cache_of(temporary: Path, **variables: str) -> tuple[Path, str, int]:
    """Where a process compiles to, what it says about that, and the mode of the folder."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in {"NUMBA_CACHE_DIR", "PAGEFERRY_KERNELS", "XDG_CACHE_HOME"}
    }
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=120,
        env=kept | {"TMPDIR": str(temporary), "HOME": str(temporary / "no-home")} | variables,
    )  # fmt: skip
    folder, mode = ended.stdout.split()
    return Path(folder), ended.stderr, int(mode, 8)


def folder(path: Path, mode: int = 0o700, owner: int | None = None) -> Path:
    path.mkdir(parents=True)
    path.chmod(mode)
    if owner is not None:
        os.chown(path, owner, owner)
    return path


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    """As /tmp is: everybody writes there, and only the owner of a thing takes it away."""
    return folder(tmp_path / "tmp", 0o1777)


def assert_private(found: tuple[Path, str, int], temporary: Path) -> None:
    """It compiles for itself alone, in a folder that it made, and says so."""
    path, said, mode = found
    assert path.is_relative_to(temporary)
    assert "pageferry-kernels-" in str(path)
    assert mode == 0o700
    assert "for this process alone" in said
    assert not path.exists()  # it went with the process


def test_a_folder_of_our_own_is_kept_and_closed(temporary: Path, tmp_path: Path) -> None:
    home = folder(tmp_path / "cache", 0o755)
    for _ in range(2):
        path, said, mode = cache_of(temporary, XDG_CACHE_HOME=str(home))
        assert path.parent == home / "pageferry"
        assert (said, mode) == ("", 0o700)
        path.chmod(0o755)  # as earlier versions left it


def test_the_temporary_folder_is_used_where_there_is_no_other(temporary: Path) -> None:
    path, said, mode = cache_of(temporary, HOME="/proc/1/nowhere")
    assert path.parent == temporary / f"pageferry-{os.geteuid()}"
    assert (said, mode) == ("", 0o700)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("variable", ["XDG_CACHE_HOME", "NUMBA_CACHE_DIR"])
@pytest.mark.parametrize("mode", [0o777, 0o775, 0o757])
def test_a_folder_that_others_write_to(
    temporary: Path, tmp_path: Path, variable: str, mode: int
) -> None:
    open_one = folder(tmp_path / "cache", mode)
    if mode == 0o775:
        try:
            os.chown(open_one, -1, 12345)
        except PermissionError:
            pytest.skip("gives a folder to another group, as root")
    path, said, _ = cache_of(temporary, **{variable: str(open_one)})
    assert not path.is_relative_to(open_one)
    assert "can be written by others" in said
    assert str(open_one) in said
    assert not list(open_one.iterdir())


def test_a_link_in_the_place_of_the_folder(temporary: Path, tmp_path: Path) -> None:
    elsewhere = folder(tmp_path / "elsewhere")
    (temporary / f"pageferry-{os.geteuid()}").symlink_to(elsewhere)
    ordered = temporary / "ordered"
    ordered.symlink_to(elsewhere)
    for variables in ({"NUMBA_CACHE_DIR": str(ordered)}, {"HOME": "/proc/1/nowhere"}):
        found = cache_of(temporary, **variables)
        assert "is a link" in found[1]
        assert_private(found, temporary)
    assert not list(elsewhere.iterdir())


@as_root
@pytest.mark.parametrize("mode", [0o700, 0o755, 0o777])
def test_a_folder_that_was_made_before(temporary: Path, mode: int) -> None:
    """Its name in the shared temporary folder can be guessed."""
    theirs = folder(temporary / f"pageferry-{os.geteuid()}", mode, ATTACKER)
    found = cache_of(temporary, HOME="/proc/1/nowhere")
    assert f"belongs to uid {ATTACKER}" in found[1]
    assert_private(found, temporary)
    assert not list(theirs.iterdir())


@as_root
def test_a_link_of_another_user(temporary: Path, tmp_path: Path) -> None:
    elsewhere = folder(tmp_path / "elsewhere")
    link = temporary / f"pageferry-{os.geteuid()}"
    link.symlink_to(elsewhere)
    os.chown(link, ATTACKER, ATTACKER, follow_symlinks=False)
    found = cache_of(temporary, HOME="/proc/1/nowhere")
    assert "is a link" in found[1]
    assert_private(found, temporary)
    assert not list(elsewhere.iterdir())


@as_root
def test_root_in_the_home_of_another_user(temporary: Path, tmp_path: Path) -> None:
    """As sudo leaves it when it keeps HOME."""
    home = folder(tmp_path / "home", 0o700, ATTACKER)
    folder(home / ".cache", 0o700, ATTACKER)
    path, said, _ = cache_of(temporary, HOME=str(home))
    assert path.parent == temporary / "pageferry-0"
    assert f"belongs to uid {ATTACKER}" in said
    assert not list((home / ".cache").iterdir())


@as_root
def test_a_parent_of_another_user(temporary: Path, tmp_path: Path) -> None:
    """Who owns a folder above puts another one in the place of ours."""
    theirs = folder(tmp_path / "theirs", 0o755, ATTACKER)
    ours = folder(theirs / "ours")
    assert fault(ours) == f"{theirs} belongs to uid {ATTACKER}"
    path, _, _ = cache_of(temporary, NUMBA_CACHE_DIR=str(ours))
    assert not path.is_relative_to(theirs)


def test_kernels_that_came_with_an_installation(temporary: Path, tmp_path: Path) -> None:
    shipped = folder(tmp_path / "kernels")
    (folder(shipped / "inner") / "one.nbi").write_bytes(b"")
    for each in (shipped / "inner", shipped):
        each.chmod(0o555)
    path, said, mode = cache_of(temporary, PAGEFERRY_KERNELS=str(shipped))
    assert (said, mode) == ("", 0o700)
    assert path.is_relative_to(temporary)


@as_root
def test_kernels_that_another_user_could_have_changed(temporary: Path, tmp_path: Path) -> None:
    shipped = folder(tmp_path / "kernels", 0o755)
    (shipped / "one.nbi").write_bytes(b"planted")
    os.chown(shipped / "one.nbi", ATTACKER, ATTACKER)
    path, said, _ = cache_of(temporary, PAGEFERRY_KERNELS=str(shipped))
    assert "PAGEFERRY_KERNELS are not used" in said
    assert path != shipped


def test_a_pickle_in_a_folder_of_others_is_not_read(temporary: Path, tmp_path: Path) -> None:
    """The attack whole: numba unpickles the index of a function when it is first called."""
    (tmp_path / "victim.py").write_text(
        "import numba.core.caching as caching\n"
        "from paging_core.compiled import kernel\n"
        "read = caching.IndexDataCacheFile._load_index\n"
        "def told(self): print(self._index_path); return read(self)\n"
        "caching.IndexDataCacheFile._load_index = told\n"
        "one = kernel(lambda number: number + 1)\n"
        "one(1)\n"
    )
    planted = folder(tmp_path / "planted", 0o777)
    ended = subprocess.run(
        [sys.executable, tmp_path / "victim.py"], capture_output=True, text=True, check=True,
        env=os.environ | {"NUMBA_CACHE_DIR": str(planted), "TMPDIR": str(temporary)}, timeout=300,
    )  # fmt: skip
    assert ended.stdout
    assert str(planted) not in ended.stdout

"""Where compiled kernels are kept: in pickles, and who can write there runs code here.

A folder is used only if nobody but this user and root can put anything into it or in its place.
Where there is none, kernels are compiled for this process alone, and one line says so.
"""

from __future__ import annotations

import atexit
import grp
import logging
import os
import pwd
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

_ROOT = 0
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_PRIVATE = 0o700
_READABLE = 0o755
"""A folder that was asked for may be readable by others: an image is built so."""

_log = logging.getLogger("paging_core.kernel_cache")


def cache_folder(name: str) -> Path:
    """Where this process compiles to and loads from.

    `NUMBA_CACHE_DIR` is an order, then kernels that came with an installation
    (`PAGEFERRY_KERNELS`, copied: numba refuses a cache that it cannot write), then the user's cache
    folder (`XDG_CACHE_HOME`, or `~/.cache`), then one in the temporary folder.

    Args:
        name: of the folder, in what several versions share.
    """
    ordered = os.environ.get("NUMBA_CACHE_DIR")
    if ordered:
        return _usable(Path(ordered), mode=_READABLE) or _for_this_process()
    shipped = os.environ.get("PAGEFERRY_KERNELS")
    if shipped:
        return _copy_of(Path(shipped))
    for base in _bases():
        found = _usable(base / name, mode=_PRIVATE)
        if found is not None:
            return found
    return _for_this_process()


def _bases() -> Iterator[Path]:
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111
    if os.path.isabs(home):  # noqa: PTH117 - else there is no home, or the variable means nothing
        yield Path(home) / "pageferry"
    yield Path(tempfile.gettempdir()) / f"pageferry-{os.geteuid()}"


def fault(folder: Path, *, shared: bool = False) -> str | None:
    """Why a folder is not this user's alone; None when it is.

    Each folder on the way to it, links followed, has to be owned by this user or by root and to be
    writable by nobody else, or sticky, as /tmp is. The last one has to be no link.

    Args:
        folder: to look at.
        shared: the last one, too, may be sticky: something shall be made in it.

    Raises:
        OSError: it cannot be looked at.
    """
    absolute = Path(os.path.abspath(folder))  # noqa: PTH100 - resolve() would follow links
    if absolute.is_symlink():
        return f"{absolute} is a link"
    resolved = absolute.resolve(strict=True)
    if not resolved.is_dir():
        return f"{resolved} is no folder"
    for one in dict.fromkeys((absolute, *absolute.parents, resolved, *resolved.parents)):
        status = one.lstat()
        if status.st_uid not in (os.geteuid(), _ROOT):
            return f"{one} belongs to {_user(status.st_uid)}"
        if stat.S_ISLNK(status.st_mode) or not _others_write(status):
            continue
        is_last = one in (absolute, resolved) and not shared
        if is_last or not status.st_mode & stat.S_ISVTX:
            return f"{one} can be written by others (mode {stat.S_IMODE(status.st_mode):04o})"
    return None


def _usable(folder: Path, mode: int) -> Path | None:
    """The folder, made where it is missing; None where it cannot be used, and a line says why."""
    try:
        why = _made(folder, mode)
        if why is None and os.access(folder, os.W_OK):
            return folder
    except OSError:
        return None  # a home that is read-only, or not there, is no attack
    if why is not None:
        _log.warning(
            "compiled kernels are not kept in %s: %s; remove it, or set XDG_CACHE_HOME to a folder "
            "of your own",
            folder,
            why,
        )
    return None


def _made(folder: Path, mode: int) -> str | None:
    """Make it and what is missing above it; returns what is wrong with it all."""
    missing = [one for one in (folder, *folder.parents) if not os.path.lexists(one)]
    if missing:
        why = fault(missing[-1].parent, shared=True)
        if why is not None:
            return why  # nothing is made in, or through, what another user owns
    for one in reversed(missing):
        one.mkdir(mode=mode, exist_ok=True)  # another process of ours may do the same now
    why = fault(folder)
    if why is None and mode == _PRIVATE and folder.stat().st_uid == os.geteuid():
        folder.chmod(mode)  # earlier versions made it readable
    return why


def _copy_of(shipped: Path) -> Path:
    folder = _for_this_process(told=True)
    try:
        why = next(_faults_of_tree(shipped), None)
    except OSError as error:
        why = str(error)
    if why is not None:
        _log.warning("the kernels of PAGEFERRY_KERNELS are not used: %s; install them anew", why)
        return folder
    copy = folder / "kernels"
    shutil.copytree(shipped, copy, copy_function=shutil.copy2)
    for one in (copy, *(each for each in copy.rglob("*") if each.is_dir())):
        one.chmod(_PRIVATE)  # where they came from may be read-only
    return copy


def _faults_of_tree(shipped: Path) -> Iterator[str]:
    why = fault(shipped)
    if why is not None:
        yield why
    for one in shipped.rglob("*"):
        status = one.lstat()
        if status.st_uid not in (os.geteuid(), _ROOT):
            yield f"{one} belongs to {_user(status.st_uid)}"
        if not stat.S_ISLNK(status.st_mode) and _others_write(status):
            yield f"{one} can be written by others"


def _for_this_process(*, told: bool = False) -> Path:
    """A fresh folder that goes with this process."""
    folder = Path(tempfile.mkdtemp(prefix="pageferry-kernels-"))
    atexit.register(_remove, folder, os.getpid())
    if not told:
        _log.warning("kernels are compiled for this process alone, which takes half a minute")
    return folder


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # and not a process that was forked from it
        shutil.rmtree(folder, ignore_errors=True)


def _others_write(status: os.stat_result) -> bool:
    """Whether others than the owner may write; the owner's private group does not count."""
    writers = status.st_mode & _OTHERS_WRITE
    if writers == stat.S_IWGRP:
        return not _is_private_group(status.st_gid, status.st_uid)
    return bool(writers)


def _is_private_group(gid: int, uid: int) -> bool:
    """As most systems make one for each user: of the user's name, with no other member."""
    if gid == uid == _ROOT:
        return True
    try:
        group, user = grp.getgrgid(gid), pwd.getpwuid(uid)
    except KeyError:
        return False
    return group.gr_name == user.pw_name and set(group.gr_mem) <= {user.pw_name}


def _user(uid: int) -> str:
    try:
        return f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"uid {uid}"

"""A userfaultfd in write-protect mode: made, agreed on, and its requests.

Asynchronous (UFFD_FEATURE_WP_ASYNC): the first write to a protected page removes the protection
within the kernel's fault handler. Nobody waits for anybody, and nothing has to be read from the
descriptor.

Synchronous: the writer waits until a handler, who reads of it from the descriptor, removes the
protection (guests.linux.fault_loop).

Closing the last copy of a descriptor removes every protection and wakes whoever waits.

Source of the numbers: Linux, include/uapi/linux/userfaultfd.h.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from enum import IntFlag
from pathlib import Path

from guests.linux.calls import SYS_USERFAULTFD, system_call
from paging_core.errors import CannotTrack

_USER_MODE_ONLY = 1
ALL_FAULTS = os.O_CLOEXEC | os.O_NONBLOCK
"""The kernel's own accesses wait as well, those of KVM and of system calls; takes a right."""
USER_FAULTS = ALL_FAULTS | _USER_MODE_ONLY
"""Takes no right. A system call that stores to a protected page fails with EFAULT, unless the
protection is asynchronous: then nobody waits."""
_DEVICE = Path("/dev/userfaultfd")
_SYSCTL = Path("/proc/sys/vm/unprivileged_userfaultfd")
_IOC_NEW = 0xAA00
_API = 0xAA


class Features(IntFlag):
    """What both sides have to agree on."""

    FLAG_WP = 1 << 0
    HUGETLBFS_SHMEM = 1 << 12
    UNPOPULATED = 1 << 13
    ASYNC = 1 << 15


SYNCHRONOUS = Features.FLAG_WP | Features.HUGETLBFS_SHMEM | Features.UNPOPULATED
ASYNCHRONOUS = Features.HUGETLBFS_SHMEM | Features.UNPOPULATED | Features.ASYNC
_SINCE = {SYNCHRONOUS: "6.4", ASYNCHRONOUS: "6.7"}
_MODE_WP = 1 << 1
_WRITEPROTECT_WP = 1 << 0

UFFDIO_API = 0xC018AA3F
UFFDIO_REGISTER = 0xC020AA00
UFFDIO_UNREGISTER = 0x8010AA01
UFFDIO_WAKE = 0x8010AA02
UFFDIO_WRITEPROTECT = 0xC018AA06


def make(flags: int = USER_FAULTS) -> int:
    """A descriptor for the memory of this process.

    Args:
        flags: USER_FAULTS or ALL_FAULTS.

    Raises:
        CannotTrack: this kernel gives none, or not to this user; says how to get the right.
    """
    try:
        return system_call(SYS_USERFAULTFD, flags)
    except OSError as error:
        if error.errno != errno.EPERM or flags & _USER_MODE_ONLY:
            raise CannotTrack(
                f"this kernel gives no userfaultfd ({error.strerror}); tracking writes needs Linux "
                "6.7 or newer with CONFIG_USERFAULTFD, and in a container a seccomp profile that "
                "allows it"
            ) from error
    return _from_device(flags)


def _from_device(flags: int) -> int:
    """The way for users without CAP_SYS_PTRACE: whoever may open the device may have one."""
    try:
        device = os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise CannotTrack(
            f"a userfaultfd that the kernel's own accesses wait for takes a right ({_DEVICE}: "
            f"{error.strerror}); give this user that device, or the capability SYS_PTRACE, or "
            f"write 1 to {_SYSCTL}"
        ) from error
    try:
        return fcntl.ioctl(device, _IOC_NEW, flags)
    except OSError as error:
        raise CannotTrack(f"{_DEVICE} gives no userfaultfd ({error.strerror})") from error
    finally:
        os.close(device)


def check_kernel(features: Features = ASYNCHRONOUS, flags: int = USER_FAULTS) -> None:
    """Ask this kernel, by a descriptor of our own, before anything else is done.

    Raises:
        CannotTrack: it cannot protect in this way, or not for this user.
    """
    own = make(flags)
    try:
        enable(own, features)
    finally:
        os.close(own)


def enable(descriptor: int, features: Features = ASYNCHRONOUS) -> None:
    """Agree on a way of write protection; once for each descriptor.

    Raises:
        CannotTrack: the kernel is too old.
    """
    try:
        fcntl.ioctl(descriptor, UFFDIO_API, struct.pack("3Q", _API, features, 0))
    except OSError as error:
        wanted = "asynchronous" if features & Features.ASYNC else "shared"
        raise CannotTrack(
            f"Linux {os.uname().release} has no {wanted} write protection by userfaultfd "
            f"({error.strerror}); tracking writes in this way needs {_SINCE[features]} or newer"
        ) from error


def register(descriptor: int, start: int, end: int) -> None:
    """Put a range of the process's memory under the descriptor, not protected yet.

    Raises:
        OSError: EBUSY when it is under another one; EINVAL or ENOMEM when it has gone; ESRCH when
            the process has.
    """
    fcntl.ioctl(descriptor, UFFDIO_REGISTER, struct.pack("4Q", start, end - start, _MODE_WP, 0))


def protect(descriptor: int, start: int, end: int) -> None:
    """Protect all of a range, pages that are not there yet as well.

    Raises:
        OSError: as `register`.
    """
    request = struct.pack("3Q", start, end - start, _WRITEPROTECT_WP)
    while True:
        try:
            fcntl.ioctl(descriptor, UFFDIO_WRITEPROTECT, request)
        except OSError as error:
            if error.errno != errno.EAGAIN:  # the process changes its mappings meanwhile
                raise
        else:
            return

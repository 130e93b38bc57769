"""A userfaultfd in asynchronous write-protect mode: which it is, and its three requests.

Asynchronous (UFFD_FEATURE_WP_ASYNC): the first write to a protected page removes the protection
within the kernel's fault handler. Nobody waits for anybody, and nothing has to be read from the
descriptor.

Source of the numbers: Linux, include/uapi/linux/userfaultfd.h.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct

from pageferry.record.errors import CannotRecord
from pageferry.record.linux import SYS_USERFAULTFD, syscall

USER_MODE_ONLY = 1
"""Makes it without privileges. It forbids to wait for the kernel's own faults; here none waits."""
MAKE_FLAGS = os.O_CLOEXEC | os.O_NONBLOCK | USER_MODE_ONLY
_API = 0xAA
_WP_HUGETLBFS_SHMEM, _WP_UNPOPULATED, _WP_ASYNC = 1 << 12, 1 << 13, 1 << 15
_FEATURES = _WP_HUGETLBFS_SHMEM | _WP_UNPOPULATED | _WP_ASYNC
_MODE_WP = 1 << 1
_WRITEPROTECT_WP = 1 << 0

_UFFDIO_API = 0xC018AA3F
_UFFDIO_REGISTER = 0xC020AA00
_UFFDIO_WRITEPROTECT = 0xC018AA06


def check_kernel() -> None:
    """Ask this kernel, by a descriptor of our own, before any process is touched.

    Raises:
        CannotRecord: it cannot protect asynchronously.
    """
    try:
        own = syscall(SYS_USERFAULTFD, MAKE_FLAGS)
    except OSError as error:
        raise CannotRecord(
            f"this kernel gives no userfaultfd ({error.strerror}); recording needs Linux 6.7 or "
            "newer with CONFIG_USERFAULTFD, and in a container a seccomp profile that allows it"
        ) from error
    try:
        enable(own)
    finally:
        os.close(own)


def enable(descriptor: int) -> None:
    """Agree on asynchronous write protection; once for each descriptor.

    Raises:
        CannotRecord: the kernel is older than 6.7.
    """
    try:
        fcntl.ioctl(descriptor, _UFFDIO_API, struct.pack("3Q", _API, _FEATURES, 0))
    except OSError as error:
        release = os.uname().release
        raise CannotRecord(
            f"Linux {release} has no asynchronous write protection (UFFD_FEATURE_WP_ASYNC); "
            "recording needs 6.7 or newer"
        ) from error


def register(descriptor: int, start: int, end: int) -> None:
    """Put a range of the process's memory under the descriptor, not protected yet.

    Raises:
        OSError: EBUSY when it is under another one; EINVAL or ENOMEM when it has gone; ESRCH when
            the process has.
    """
    fcntl.ioctl(descriptor, _UFFDIO_REGISTER, struct.pack("4Q", start, end - start, _MODE_WP, 0))


def protect(descriptor: int, start: int, end: int) -> None:
    """Protect all of a range, pages that are not there yet as well.

    Raises:
        OSError: as `register`.
    """
    request = struct.pack("3Q", start, end - start, _WRITEPROTECT_WP)
    while True:
        try:
            fcntl.ioctl(descriptor, _UFFDIO_WRITEPROTECT, request)
        except OSError as error:
            if error.errno != errno.EAGAIN:  # the process changes its mappings meanwhile
                raise
        else:
            return

"""/dev/kvm: opened, asked what it can do, and its requests.

No binding of KVM for Python is kept up (looked for on PyPI, November 2026), and no extension is
needed: requests go through `ioctl` of the C library, which lets go of the interpreter lock and, as
`fcntl.ioctl` need not, comes back when a signal interrupts KVM_RUN.
"""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

from guests.kvm import abi
from guests.kvm.errors import CannotVirtualize

DEVICE = Path("/dev/kvm")
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.ioctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p]


def request(descriptor: int, number: int, argument: int | ctypes.Structure = 0) -> int:
    """One ioctl.

    Args:
        descriptor: of the device, a machine or a vCPU.
        number: KVM_….
        argument: a structure, or a number.

    Raises:
        OSError: it failed.
    """
    place = argument if isinstance(argument, int) else ctypes.addressof(argument)
    result: int = _LIBC.ioctl(descriptor, number, place)
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def open_device(path: Path = DEVICE) -> int:
    """A descriptor of /dev/kvm.

    Raises:
        CannotVirtualize: there is none, or not for this user; says how to get it.
    """
    try:
        device = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise CannotVirtualize(_why_not(path, error)) from error
    try:
        version = request(device, abi.KVM_GET_API_VERSION)
    except OSError:
        version = -1
    if version != abi.API_VERSION:
        os.close(device)
        raise CannotVirtualize(f"{path} is not KVM with its API of version {abi.API_VERSION}")
    return device


def _why_not(path: Path, error: OSError) -> str:
    if error.errno in {errno.EACCES, errno.EPERM}:
        return (
            f"{path} is there and this user may not open it; add the user to the group that owns "
            "it (usermod -aG kvm USER), or pass the device to the container (--device /dev/kvm)"
        )
    return (
        f"no virtual machine runs here: {path}: {error.strerror}; load the module kvm_intel or "
        "kvm_amd, switch nested virtualization on, or pass the device to the container "
        "(--device /dev/kvm)"
    )


def check_machine(path: Path = DEVICE) -> None:
    """Whether this machine runs virtual machines for this user.

    Raises:
        CannotVirtualize: it does not; what is missing, in one line.
    """
    device = open_device(path)
    try:
        lacks = request(device, abi.KVM_CHECK_EXTENSION, abi.KVM_CAP_BINARY_STATS_FD) <= 0
        os.close(request(device, abi.KVM_CREATE_VM))
    except OSError as error:
        raise CannotVirtualize(f"{path} makes no machine: {error.strerror}") from error
    finally:
        os.close(device)
    if lacks:
        raise CannotVirtualize("KVM of this kernel has no binary counters; use Linux 5.14 or newer")

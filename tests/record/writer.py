"""A process that writes the pages it is told to: lines on stdin are commands, on stdout answers.

python writer.py    (a script of its own: it imports nothing of ours)
"""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

PAGE = 4096
HUGE = 2 << 20
LIBC: Any = ctypes.CDLL(None, use_errno=True)
LIBC.mmap.restype = ctypes.c_void_p
LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
LIBC.mremap.restype = ctypes.c_void_p
LIBC.mremap.argtypes = [
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_void_p,
]
for name in ("munmap", "mprotect", "madvise"):
    getattr(LIBC, name).argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int][
        : 2 + (name != "munmap")
    ]
MAYMOVE, DONTNEED, HUGEPAGE, FIXED = 1, 4, 14, 0x10
PRIVATE_ANONYMOUS = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS


def new(pages: int, flags: int = PRIVATE_ANONYMOUS, fd: int = -1, at: int = 0) -> int:
    modes = mmap.PROT_READ | mmap.PROT_WRITE
    address = LIBC.mmap(at or None, pages * PAGE, modes, flags | (FIXED if at else 0), fd, 0)
    if address in (None, 2**64 - 1):
        raise OSError(ctypes.get_errno(), "mmap")
    return int(address)


class Writer:
    """Each method is a command; numbers are arguments, and what it returns is answered."""

    def private(self, pages: int) -> int:
        return new(pages)

    def again(self, address: int, pages: int) -> int:
        """Unmap, and map something else at the same place."""
        LIBC.munmap(address, pages * PAGE)
        return new(pages, at=address)

    def unmap(self, address: int, pages: int) -> None:
        LIBC.munmap(address, pages * PAGE)

    def memfd(self, pages: int) -> int:
        fd = os.memfd_create("ram")
        os.truncate(fd, pages * PAGE)
        for page in range(pages):  # there before it is mapped
            os.pwrite(fd, b"\1", page * PAGE)
        return new(pages, mmap.MAP_SHARED, fd)

    def file(self, pages: int) -> int:
        """A file of the size, mapped privately."""
        fd = os.open(f"writer-{os.getpid()}", os.O_RDWR | os.O_CREAT)
        os.write(fd, b"\1" * pages * PAGE)
        return new(pages, mmap.MAP_PRIVATE, fd)

    def huge(self) -> int:
        """Room for one huge page, which nobody has touched."""
        address = (new(2 * HUGE // PAGE) + HUGE - 1) // HUGE * HUGE
        LIBC.madvise(address, HUGE, HUGEPAGE)
        return address

    def write(self, address: int, value: int, *pages: int) -> None:
        for page in pages:
            ctypes.memset(address + page * PAGE + 8, value, 1)

    def read(self, address: int, *pages: int) -> int:
        return sum(ctypes.string_at(address + page * PAGE, 1)[0] for page in pages)

    def receive(self, address: int, *pages: int) -> int:
        """Have the kernel store a byte into each; how many it could."""
        with Path("/dev/zero").open("rb", buffering=0) as zero:
            number = zero.fileno()
            return sum(
                LIBC.read(number, ctypes.c_void_p(address + page * PAGE + 8), 1) for page in pages
            )

    def protect(self, address: int, pages: int, modes: int) -> None:
        LIBC.mprotect(address, pages * PAGE, modes)

    def drop(self, address: int, pages: int) -> None:
        LIBC.madvise(address, pages * PAGE, DONTNEED)

    def move(self, address: int, pages: int) -> int:
        return int(LIBC.mremap(address, pages * PAGE, 2 * pages * PAGE, MAYMOVE, None))

    def fork_and_write(self, address: int, value: int, page: int) -> int:
        """A child that writes, and has ended."""
        child = os.fork()
        if child == 0:
            self.write(address, value, page)
            os._exit(0)
        return os.waitpid(child, 0)[1]

    def open_files(self) -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    def wait_for_events(self, milliseconds: int) -> None:
        """Threads that wait in system calls: each says how its wait ended."""
        self.ended: list[tuple[str, int, int, float]] = []
        poll, pipe = LIBC.epoll_create1(0), os.pipe()
        self.pipe = pipe[1]
        event = (ctypes.c_uint32 * 3)(1, pipe[0], 0)
        LIBC.epoll_ctl(poll, 1, pipe[0], ctypes.byref(event))
        byte, span = (
            (ctypes.c_char * 8)(),
            (ctypes.c_long * 2)(milliseconds // 1000, milliseconds % 1000 * 1_000_000),
        )
        waits = {
            "epoll_wait": lambda: LIBC.epoll_wait(poll, ctypes.byref(event), 1, -1),
            "nanosleep": lambda: LIBC.nanosleep(ctypes.byref(span), None),
            "poll": lambda: LIBC.poll(None, 0, milliseconds),
            "read": lambda: LIBC.read(pipe[0], ctypes.byref(byte), 1),
        }
        del waits["read"]
        self.threads = []
        for one, wait in waits.items():
            thread = threading.Thread(target=self._wait, args=(one, wait))
            thread.start()
            self.threads.append(thread)

    def _wait(self, name: str, wait: object) -> None:
        ctypes.set_errno(0)
        began = time.monotonic()
        answer = wait()  # type: ignore[operator]
        self.ended.append((name, answer, ctypes.get_errno(), time.monotonic() - began))

    def how_waits_ended(self) -> str:
        os.write(self.pipe, b"e")
        for thread in self.threads:
            thread.join()
        return repr(sorted(self.ended))

    def churn(self) -> None:
        """From now on threads begin and end all the time, each with memory of its own."""
        for _ in range(8):
            threading.Thread(target=self._churn, daemon=True).start()

    def _churn(self) -> None:
        while True:
            one = threading.Thread(target=bytearray, args=(1 << 16,))
            one.start()
            one.join()

    def have_the_kernel_poll(self) -> int:
        """From now on there is a thread that never leaves the kernel (io_uring, SQPOLL)."""
        parameters = (ctypes.c_uint32 * 30)()
        parameters[2] = 2
        return int(LIBC.syscall(425, 4, ctypes.byref(parameters)))

    def count_signals(self) -> None:
        self.signals = 0
        signal.signal(signal.SIGUSR1, self._signal)

    def _signal(self, *_: object) -> None:
        self.signals += 1

    def signals_seen(self) -> int:
        return self.signals

    def forbid_userfaultfd(self) -> int:
        """From now on the kernel kills this process where it makes one (seccomp)."""
        steps = [
            (0x20, 0, 0, 0),  # load the number of the system call
            (0x15, 0, 1, 323),  # userfaultfd?
            (0x06, 0, 0, 0x80000000),  # kill the process
            (0x06, 0, 0, 0x7FFF0000),  # allow
        ]
        code = b"".join(
            op.to_bytes(2, "little") + bytes([yes, no]) + value.to_bytes(4, "little")
            for op, yes, no, value in steps
        )
        buffer = ctypes.create_string_buffer(code)
        program = (ctypes.c_uint64 * 2)(len(steps), ctypes.addressof(buffer))
        LIBC.prctl(38, 1, 0, 0, 0)
        return int(LIBC.prctl(22, 2, ctypes.byref(program), 0, 0))

    def make_userfaultfd(self) -> int:
        return int(LIBC.syscall(323, 1))

    def execute(self) -> None:
        os.execv("/bin/sleep", ["sleep", "1000"])  # noqa: S606


def main() -> None:
    writer = Writer()
    print("ready", flush=True)
    for line in sys.stdin:
        name, *numbers = line.split()
        print(getattr(writer, name)(*map(int, numbers)), flush=True)


if __name__ == "__main__":
    main()

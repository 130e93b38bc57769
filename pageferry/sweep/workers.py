"""Who runs points: processes on this machine."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from threading import Thread
from typing import Protocol

from pageferry.sweep.work import Finished, Task, perform_quietly

_DIED = (
    "its worker process died, perhaps for want of memory; give it a smaller guest, or "
    "--jobs 1 so that it has the machine to itself"
)


class Workers(Protocol):
    """Processes that run points."""

    def run(self, tasks: Sequence[Task]) -> Iterator[tuple[int, Finished]]:
        """Run them all, in any order; closing the iterator gives up what is left.

        Yields:
            The index of a task, and what became of it.
        """


class LocalWorkers:
    """Processes on this machine, one task each at a time."""

    def __init__(self, jobs: int) -> None:
        """Use so many processes."""
        self._jobs = jobs

    def run(self, tasks: Sequence[Task]) -> Iterator[tuple[int, Finished]]:
        """See `Workers.run`. A task that kills its process fails; no other one is lost."""
        left = deque(range(len(tasks)))
        while left:
            suspects = yield from self._run_until_one_dies(tasks, left)
            for index in suspects:
                yield index, _alone(tasks[index])

    def _run_until_one_dies(
        self, tasks: Sequence[Task], left: deque[int]
    ) -> Generator[tuple[int, Finished], None, list[int]]:
        """Take tasks from `left`; those that were under way when a process died are returned."""
        running: dict[Future[Finished], int] = {}
        pool = _pool(min(self._jobs, len(left)))
        try:
            while left or running:
                while left and len(running) <= self._jobs:  # one more waits, so that none idles
                    index = left.popleft()
                    running[pool.submit(perform_quietly, tasks[index])] = index
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    finished = future.result()
                    yield running.pop(future), finished
        except BrokenProcessPool:
            return sorted(running.values())
        except BaseException:  # Ctrl-C, or the rest is not wanted
            _end_children()
            raise
        finally:
            pool.shutdown(cancel_futures=True)
        return []


def _alone(task: Task) -> Finished:
    """Run a task that may have killed a process, where it can harm no other."""
    with _pool(1) as pool:
        try:
            return pool.submit(perform_quietly, task).result()
        except BrokenProcessPool:
            return Finished(None, _DIED)


def _pool(jobs: int) -> ProcessPoolExecutor:
    # Spawned, not forked: the libraries below have threads, and threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin)


def _begin() -> None:
    """In a worker: Ctrl-C is the parent's business, and without a parent there is no work."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, name="parent", daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _end_children() -> None:
    for child in multiprocessing.active_children():
        child.terminate()

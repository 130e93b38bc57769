"""Points on a Dask cluster: the same tasks, on workers that may be anywhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Self

from pageferry.sweep.work import Finished, Task, perform_quietly
from paging_core.errors import BadOption, HostUnreachable

_CONNECT_S = 5.0


class ClusterWorkers:
    """The workers of a Dask scheduler. A context manager.

    A worker that dies takes no point with it: the scheduler hands its points to others.
    """

    def __init__(self, address: str) -> None:
        """Connect.

        Args:
            address: of the scheduler, such as ``tcp://host:8786``.

        Raises:
            BadOption: dask.distributed is not installed, or not an address.
            HostUnreachable: no answer from there.
        """
        try:
            import distributed  # noqa: PLC0415 - an extra, and slow to import
        except ImportError:
            raise BadOption(
                "--scheduler needs dask.distributed; install pageferry with its extra cluster"
            ) from None
        self._address = address
        self._distributed: Any = distributed
        try:
            self._client: Any = self._distributed.Client(
                address, timeout=_CONNECT_S, set_as_default=False, heartbeat_interval=1000
            )
        except (OSError, TimeoutError) as error:
            raise HostUnreachable(
                f"no Dask scheduler answers at {address}; start one with dask scheduler"
            ) from error
        except (ValueError, TypeError) as error:
            raise BadOption(
                f"{address!r} is no address of a Dask scheduler; write it like tcp://host:8786"
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._client.close()

    def run(self, tasks: Sequence[Task]) -> Iterator[tuple[int, Finished]]:
        """See `pageferry.sweep.workers.Workers.run`.

        Raises:
            HostUnreachable: the scheduler went away.
        """
        futures = self._client.map(perform_quietly, tasks, pure=False)
        index_of = {future.key: index for index, future in enumerate(futures)}
        done = self._distributed.as_completed(futures, loop=self._client.loop, raise_errors=False)
        try:
            for future in done:
                yield index_of[future.key], self._result(future)
                future.release()
        finally:
            self._client.cancel(futures)

    def _result(self, future: Any) -> Finished:
        if future.status == "finished":
            finished: Finished = future.result()
            return finished
        if future.status == "error":
            error = future.exception()
            return Finished(None, f"its Dask worker failed: {type(error).__name__}: {error}")
        raise HostUnreachable(
            f"the Dask scheduler at {self._address} went away; start it again and repeat the "
            "command: finished points are kept"
        )

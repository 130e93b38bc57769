"""Migrations that were aborted before they were prepared: their Prepare may still come."""

from __future__ import annotations

from paging_core.errors import IllegalTransition


class Refusals:
    """What each source has had refused in advance, by the name of the migration.

    Of each source apart: what one has refused concerns no other, and is not forgotten for it.
    Not thread-safe by itself: callers hold a lock.
    """

    def __init__(self, most: int) -> None:
        """Nothing is refused.

        Args:
            most: that are remembered of each source; the oldest are forgotten first.
        """
        self._most = most
        self._reasons: dict[str, dict[str, str]] = {}

    def add(self, owner: str, migration_id: str, reason: str) -> None:
        """Refuse it from now on; the first reason stands."""
        reasons = self._reasons.setdefault(owner, {})
        reasons.setdefault(migration_id, reason)
        if len(reasons) > self._most:
            del reasons[next(iter(reasons))]

    def reason(self, owner: str, migration_id: str) -> str | None:
        """Why it is refused; None when it is not."""
        return self._reasons.get(owner, {}).get(migration_id)

    def check(self, owner: str, migration_id: str) -> None:
        """Refuse what was refused.

        Raises:
            IllegalTransition: with the reason.
        """
        reason = self.reason(owner, migration_id)
        if reason is not None:
            raise IllegalTransition(
                f"migration {migration_id!r} was aborted ({reason}); start a new one"
            )

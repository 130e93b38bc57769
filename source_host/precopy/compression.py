"""Which zstd level pays."""

from __future__ import annotations

import zstandard

from paging_core.errors import BadOption

OFF = 0
"""The level that means no compression."""
DEFAULT_LEVEL = 1
"""QEMU's default; see docs/migration.md for what other levels bring."""
PAYS_BELOW_BYTES_PER_S = 625_000_000
"""5 Gbit/s: on a faster link compressing takes longer than sending (measured, one core)."""
MIN_LEVEL = -50


class CompressionLevel:
    """The level to use next.

    A level that was asked for is used. Otherwise, on a modelled link, whose time is bytes
    alone, anything smaller pays; on a real one nothing is compressed until the bandwidth
    was measured, and that first measurement decides once: later ones would measure the
    compressor.
    """

    def __init__(self, requested: int | None, *, modelled: bool) -> None:
        """Decide for one migration.

        Raises:
            BadOption: a level that zstd does not have.
        """
        if requested is not None and not MIN_LEVEL <= requested <= zstandard.MAX_COMPRESSION_LEVEL:
            raise BadOption(
                f"zstd has no level {requested}; use {MIN_LEVEL} (fastest) to "
                f"{zstandard.MAX_COMPRESSION_LEVEL} (smallest), or 0 for none"
            )
        self._level = requested
        if requested is None and modelled:
            self._level = DEFAULT_LEVEL

    def after(self, bytes_per_s: int) -> int:
        """The level now that so much bandwidth was measured; 0 before it was."""
        if self._level is None:
            if bytes_per_s == 0:
                return OFF
            self._level = DEFAULT_LEVEL if bytes_per_s < PAYS_BELOW_BYTES_PER_S else OFF
        return self._level

"""The secret of one migration, and the keys that are made of it.

Only both hosts know it: what proves memory is only as good as that. Every use has a
key of its own, so that nothing that is done with one says anything about another.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field
from typing import Self

from paging_core.errors import BadOption

KEY_BYTES = 32
"""Length of the secret: 256 bits, as AES-256 and SHAKE256 have them."""
_DOMAIN = b"pageferry migration key 1\0"


@dataclass(frozen=True)
class MigrationKey:
    """Drawn by the source, told to the destination in Prepare.

    Attributes:
        secret: 32 bytes; never in a log, a document or the text of this object.
    """

    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        """Check its length.

        Raises:
            BadOption: it is not 32 bytes long.
        """
        if len(self.secret) != KEY_BYTES:
            raise BadOption(
                f"the key of a migration has {KEY_BYTES} bytes, not {len(self.secret)}; "
                "draw it at random"
            )

    @classmethod
    def random(cls) -> Self:
        """A key that cannot be guessed."""
        return cls(secrets.token_bytes(KEY_BYTES))

    @classmethod
    def of_seed(cls, seed: int) -> Self:
        """The key of a guest's seed, so that a migration can be repeated byte for byte.

        It is no secret to who knows the seed.

        Args:
            seed: of the guest, 0 to 2**63 - 1.
        """
        return cls(hashlib.shake_256(_DOMAIN + b"of a seed\0%d" % seed).digest(KEY_BYTES))

    def stretch(self, purpose: bytes, n_bytes: int) -> bytes:
        """A key for one purpose: SHAKE256 (FIPS 202) of domain, secret and purpose.

        Args:
            purpose: names the use; different ones give unrelated keys.
            n_bytes: how long.
        """
        return hashlib.shake_256(_DOMAIN + self.secret + purpose).digest(n_bytes)

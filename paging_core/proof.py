"""The proof: a tree of tags over all memory as it stands, under the secret of a migration.

A tag is GMAC (NIST SP 800-38D: the tag of AES-256-GCM over data that is only authenticated),
16 bytes, of the library `cryptography`. Level 0 has a tag per frame and is made only for the
frames that are asked about; level 1 a tag per 32 frames (128 KiB, large enough that the call
costs little beside it); level k + 1 one per 512 tags of level k; the last level the root alone.

Two memories that differ, chosen without the secret, have the same root with a chance of less
than 2**-113: GHASH of n blocks of 16 bytes collides with (n + 1) / 2**128 (McGrew and Viega,
"The security and performance of the Galois/Counter mode", 2004, lemma 2), n is 8192 for a
leaf and 512 for a node, and a root lies on at most four such steps above what differs. Each
level has a key of its own, without which the bound for a node would not follow from that of
its children, and each node a nonce of its own, its level and index: that binds the place.

The same nonce may serve twice, for memory before and after a repair. GMAC's key is open to
who sees such tags, so this is a comparison between two hosts that share the secret, under
TLS; it is no signature to be shown to others.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from paging_core.errors import MigrationCancelled
from paging_core.memory import Frames
from paging_core.migration_key import MigrationKey

TAG_BYTES = 16
LEAF_FRAMES = 32
"""Frames under a node of level 1."""
NODE_TAGS = 512
"""Children of a node above level 1."""
COMPARED_NODES = 4096
"""Most nodes that one question may ask about: 64 KiB of tags."""

Tags = npt.NDArray[np.uint8]
"""Tags, shape (n, 16)."""
Asked = Callable[[], bool]
"""Whether to end early."""

_NONCE = struct.Struct("<IQ")
_AES_KEY_BYTES = 32
_STATE_LEVEL = 2**32 - 1
_LOOK_NODES = 128
"""Tagged between two checks for a cancel: 16 MiB."""


class Tagger:
    """Makes tags under the keys of one migration."""

    def __init__(self, key: MigrationKey) -> None:
        """Keys are made when they are needed."""
        self._key = key
        self._ciphers: dict[int, AESGCM] = {}

    def tag(self, level: int, index: int, content: memoryview | bytes) -> bytes:
        """The tag of one node's content."""
        cipher = self._ciphers.get(level)
        if cipher is None:
            material = self._key.stretch(b"proof, level %d" % level, _AES_KEY_BYTES)
            cipher = self._ciphers[level] = AESGCM(material)
        return cipher.encrypt(_NONCE.pack(level, index), b"", content)

    def tag_state(self, state: bytes) -> bytes:
        """The tag of everything of a guest that is not memory."""
        return self.tag(_STATE_LEVEL, 0, state)


class Proof:
    """The tree over memory as it stood when this was made; holds tags and no memory.

    Attributes:
        n_frames: of the memory.
        top: the level that has the root alone; at least 1.
    """

    def __init__(
        self, frames: Frames, key: MigrationKey, cancelled: Callable[[], bool] = lambda: False
    ) -> None:
        """Tag memory that stands still, in this thread: the library holds the interpreter lock.

        Args:
            frames: guest memory, uint8, shape (n_frames, 4096), n_frames at least 1.
            key: of the migration.
            cancelled: asked now and then; True ends it early.

        Raises:
            MigrationCancelled: `cancelled` said so.
        """
        self.n_frames = len(frames)
        self._tagger = Tagger(key)
        with frames.data.cast("B") as memory:
            leaves = self._tag_all(1, memory, LEAF_FRAMES * frames.shape[1], cancelled)
        self._levels = [leaves]
        while len(self._levels[-1]) > 1:
            below = self._levels[-1].data.cast("B")
            level = len(self._levels) + 1
            self._levels.append(self._tag_all(level, below, NODE_TAGS * TAG_BYTES, cancelled))
        self.top = len(self._levels)

    @property
    def root(self) -> bytes:
        """The tag of everything, 16 bytes."""
        return self._levels[-1].tobytes()

    def n_nodes(self, level: int) -> int:
        """How many nodes a level has."""
        return self.n_frames if level == 0 else len(self._levels[level - 1])

    def children(self, level: int, node: int) -> range:
        """Indexes at the level below, for a level from 1 on."""
        fan_out = LEAF_FRAMES if level == 1 else NODE_TAGS
        return range(node * fan_out, min((node + 1) * fan_out, self.n_nodes(level - 1)))

    def parent(self, level: int, node: int) -> int:
        """Index at the level above."""
        return node // (LEAF_FRAMES if level == 0 else NODE_TAGS)

    def tags(self, level: int, nodes: Sequence[int], frames: Frames) -> Tags:
        """Tags of some nodes.

        Args:
            level: 0 to `top`.
            nodes: indexes at that level, each within `n_nodes`.
            frames: the same memory, for level 0.
        """
        if level > 0:
            return self._levels[level - 1][np.asarray(nodes, np.int64)]
        made = b"".join(self._tagger.tag(0, gfn, frames[gfn].data) for gfn in nodes)
        return np.frombuffer(made, np.uint8).reshape(-1, TAG_BYTES)

    def _tag_all(
        self, level: int, content: memoryview, node_bytes: int, cancelled: Callable[[], bool]
    ) -> Tags:
        tags = bytearray()
        for index, at in enumerate(range(0, len(content), node_bytes)):
            if index % _LOOK_NODES == 0 and cancelled():
                raise MigrationCancelled("cancelled while memory was proved")
            tags += self._tagger.tag(level, index, content[at : at + node_bytes])
        return np.frombuffer(tags, np.uint8).reshape(-1, TAG_BYTES)


def state_tag(key: MigrationKey, state: bytes) -> bytes:
    """The tag of everything of a guest that is not memory, 16 bytes."""
    return Tagger(key).tag_state(state)

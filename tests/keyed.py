"""What is keyed in a migration, written a second time from proto/README.md: slow and plain."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache

import xxhash
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import ECB, GCM

from paging_core.migration_key import MigrationKey

SECRET = bytes(range(32))
"""Of the migrations of tests."""
KEY = MigrationKey(SECRET)
PUBLIC = bytes(32)
"""Of the digest that people compare."""
P = 2**61 - 1
STATE = 2**32 - 1


def stretched(secret: bytes, purpose: str, n_bytes: int) -> bytes:
    said = b"pageferry migration key 1\0" + secret + purpose.encode()
    return hashlib.shake_256(said).digest(n_bytes)


def words_of(content: bytes) -> list[int]:
    """32-bit words, little-endian."""
    return [int.from_bytes(content[at : at + 4], "little") for at in range(0, len(content), 4)]


@lru_cache(8)
def frame_keys(secret: bytes) -> tuple[list[int], list[int]]:
    drawn = stretched(secret, "frames, finish", 64)
    finish = [int.from_bytes(drawn[at : at + 16], "little") % P for at in range(0, 64, 16)]
    return words_of(stretched(secret, "frames", 4104)), finish


def nh(words: list[int], keys: list[int]) -> int:
    """The sum of products of pairs, modulo 2**64."""
    pairs = range(0, len(words), 2)
    added = [(word + key) % 2**32 for word, key in zip(words, keys, strict=False)]
    return sum(added[i] * added[i + 1] for i in pairs) % 2**64


def frame_digest(frame: bytes, secret: bytes = SECRET) -> int:
    keys, finish = frame_keys(secret)
    words = words_of(frame)
    first, second = nh(words, keys), nh(words, keys[2:])
    halves = [first % 2**32, first >> 32, second % 2**32, second >> 32]
    return sum(c * half for c, half in zip(finish, halves, strict=True)) % P


def memory_digest(frames: Sequence[bytes]) -> int:
    digests = b"".join(frame_digest(frame, PUBLIC).to_bytes(8, "little") for frame in frames)
    return xxhash.xxh3_64_intdigest(digests)


def tag(level: int, index: int, content: bytes, secret: bytes = SECRET) -> bytes:
    """By the library's other interface to AES-GCM."""
    key = stretched(secret, f"proof, level {level}", 32)
    nonce = level.to_bytes(4, "little") + index.to_bytes(8, "little")
    encryptor = Cipher(AES256(key), GCM(nonce)).encryptor()
    encryptor.authenticate_additional_data(content)
    encryptor.finalize()
    return encryptor.tag


def plain_tag(level: int, index: int, content: bytes, secret: bytes = SECRET) -> bytes:
    """By NIST SP 800-38D, section 6 and 7, block by block; the library is asked for AES alone."""
    key = stretched(secret, f"proof, level {level}", 32)
    nonce = level.to_bytes(4, "little") + index.to_bytes(8, "little")
    aes = Cipher(AES256(key), ECB()).encryptor()  # noqa: S305 - the block cipher itself
    h = int.from_bytes(aes.update(bytes(16)), "big")
    mask = int.from_bytes(aes.update(nonce + b"\0\0\0\1"), "big")
    padded = content + bytes(-len(content) % 16) + (8 * len(content)).to_bytes(8, "big") + bytes(8)
    y = 0
    for at in range(0, len(padded), 16):
        y = _times(y ^ int.from_bytes(padded[at : at + 16], "big"), h)
    return (y ^ mask).to_bytes(16, "big")


def _times(x: int, y: int) -> int:
    """Multiplication in GF(2**128) with GCM's order of bits."""
    product = 0
    for bit in range(127, -1, -1):
        if x >> bit & 1:
            product ^= y
        y = (y >> 1) ^ (0xE1 << 120 if y & 1 else 0)
    return product


def state_tag(state: bytes) -> bytes:
    return tag(STATE, 0, state)


def proof(frames: Sequence[bytes]) -> list[list[bytes]]:
    """Levels from that of frames up to the root."""
    levels = [[tag(0, gfn, frame) for gfn, frame in enumerate(frames)]]
    leaves = [b"".join(frames[at : at + 32]) for at in range(0, len(frames), 32)]
    levels.append([tag(1, i, leaf) for i, leaf in enumerate(leaves)])
    while len(levels[-1]) > 1:
        below = levels[-1]
        nodes = [b"".join(below[at : at + 512]) for at in range(0, len(below), 512)]
        levels.append([tag(len(levels), i, node) for i, node in enumerate(nodes)])
    return levels

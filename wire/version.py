"""The version of the contract that this code has, and the versions it accepts."""

from __future__ import annotations

from pageferry.v1 import common_pb2
from paging_core.errors import ContractMismatch

CONTRACT = (1, 3)
"""Major and minor. A higher minor version only adds; another major one is refused."""
OLDEST_MINOR = 2
"""Earlier versions proved memory without a key: anybody could make two memories that pass."""


def contract_message() -> common_pb2.ContractVersion:
    """Our own version, as Prepare carries it in both directions."""
    return common_pb2.ContractVersion(major=CONTRACT[0], minor=CONTRACT[1])


def check_version(theirs: common_pb2.ContractVersion) -> None:
    """Refuse a peer of another major version, or one that is too old.

    Raises:
        ContractMismatch: naming both versions.
    """
    both = (
        f"the other host has contract {theirs.major}.{theirs.minor}, this one "
        f"{CONTRACT[0]}.{CONTRACT[1]}"
    )
    if theirs.major != CONTRACT[0]:
        raise ContractMismatch(f"{both}; run releases with the same major version on both")
    if theirs.minor < OLDEST_MINOR:
        raise ContractMismatch(
            f"{both}, and before {CONTRACT[0]}.{OLDEST_MINOR} memory was proved without a key; "
            "upgrade the older host"
        )

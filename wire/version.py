"""The version of the contract that this code speaks, and what it can talk to."""

from __future__ import annotations

from pageferry.v1 import common_pb2
from paging_core.errors import ContractMismatch

CONTRACT = (1, 2)
"""Major and minor. A higher minor version only adds; another major one is refused."""


def contract_message() -> common_pb2.ContractVersion:
    """Our own version, as Prepare carries it in both directions."""
    return common_pb2.ContractVersion(major=CONTRACT[0], minor=CONTRACT[1])


def check_version(theirs: common_pb2.ContractVersion) -> None:
    """Refuse a peer of another major version.

    Raises:
        ContractMismatch: naming both versions.
    """
    if theirs.major == CONTRACT[0]:
        return
    raise ContractMismatch(
        f"the other host speaks contract {theirs.major}.{theirs.minor}, this one "
        f"{CONTRACT[0]}.{CONTRACT[1]}; run releases with the same major version on both"
    )

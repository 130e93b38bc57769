"""Versions of the contract that may meet."""

from __future__ import annotations

import pytest

from pageferry.v1 import common_pb2
from paging_core.errors import ContractMismatch
from wire.version import CONTRACT, check_version, contract_message


def test_a_higher_minor_version_only_adds() -> None:
    check_version(contract_message())
    check_version(common_pb2.ContractVersion(major=CONTRACT[0], minor=CONTRACT[1] + 7))


@pytest.mark.parametrize("major", [0, CONTRACT[0] + 1])
def test_another_major_version_is_refused(major: int) -> None:
    theirs = common_pb2.ContractVersion(major=major, minor=3)
    with pytest.raises(ContractMismatch, match=rf"{major}\.3.*{CONTRACT[0]}\.{CONTRACT[1]}"):
        check_version(theirs)


@pytest.mark.parametrize("minor", [0, 1])
def test_what_proved_memory_without_a_key_is_refused(minor: int) -> None:
    with pytest.raises(ContractMismatch, match=rf"contract 1\.{minor}, .*upgrade the older host"):
        check_version(common_pb2.ContractVersion(major=1, minor=minor))
    check_version(common_pb2.ContractVersion(major=1, minor=2))

"""Addresses, and the settings of the allocator."""

from __future__ import annotations

import platform

import pytest

from paging_core.errors import BadOption
from wire.address import parse_address
from wire.channel import connect, malloc_environment, tune_malloc

GOOD = ("127.0.0.1:50051", "localhost:0", "[::1]:65535", "[::]:1", "dest.example:1", "unix:/tmp/x")
BAD = ("", "localhost", ":50051", "localhost:", "localhost:65536", "localhost:x", "unix:", "::1:50")


@pytest.mark.parametrize("address", GOOD)
def test_addresses(address: str) -> None:
    assert parse_address(address) == address


@pytest.mark.parametrize("address", [*BAD, "a b:1", "http://localhost:1"])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(BadOption, match=r"host:port"):
        parse_address(address)
    with pytest.raises(BadOption):
        connect(address)


def test_the_allocator_environment_leaves_a_choice_alone() -> None:
    environment = malloc_environment({"PATH": "/bin", "MALLOC_TOP_PAD_": "1"})
    assert environment["MALLOC_TOP_PAD_"] == "1"
    assert environment["PATH"] == "/bin"
    assert int(environment["MALLOC_MMAP_THRESHOLD_"]) == 2**25


def test_the_allocator_takes_the_settings() -> None:
    assert tune_malloc() is (platform.libc_ver()[0] == "glibc")

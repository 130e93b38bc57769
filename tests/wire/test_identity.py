"""Who a host is, and what migrations are called: drawn, and never twice the same."""

from __future__ import annotations

import pytest

from wire.identity import HOST_ID_CHARS, is_host_id, new_host_id
from wire.names import MIGRATION_CHARS, check_name, migration_name, new_life


@pytest.mark.parametrize("name", ["", "rack2", "a name", "x" * 200, "\x1b[31m"])
def test_an_identity_fits_logs_and_messages_whatever_the_certificate_says(name: str) -> None:
    host_id = new_host_id(name)
    assert is_host_id(host_id)
    assert len(host_id) <= HOST_ID_CHARS
    assert host_id.startswith(name) is (name in {"", "rack2"})
    assert host_id != new_host_id(name)


@pytest.mark.parametrize("text", ["", "a b", "x" * 129, "a\nb", "\x1b[31m"])
def test_what_is_no_identity(text: str) -> None:
    assert not is_host_id(text)


def test_a_migration_has_a_name_that_is_new() -> None:
    life = new_life()
    names = {migration_name("web", 1, life) for _ in range(100)}
    assert len(names) == 100
    assert {name.rsplit("-", 1)[0] for name in names} == {f"web-1-{life}"}
    assert all(len(name.rsplit("-", 1)[1]) == 16 for name in names)


def test_the_longest_name_is_a_name() -> None:
    check_name(migration_name("g" * 64, 10**9, new_life()), "migration_id", MIGRATION_CHARS)

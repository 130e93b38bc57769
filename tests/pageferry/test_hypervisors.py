"""A hypervisor sets several options together; one that is given explicitly takes precedence."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from pageferry.cli.axes import options_of
from pageferry.configured import configured
from pageferry.request import MigrationOptions

PARTS = ("shadow_mmu", "clean", "reads_map", "violations", "split", "out_of_sync", "policy")
EXPECTED = {
    ("xen", "shadow"): ("xen", "blow", "read-only", None, None, True, "xen"),
    ("xen", "hap"): (None, "lazy", None, "sync", "on-write", True, "xen"),
    ("xen-2009", "shadow"): ("xen", "blow", "read-only", None, None, True, "xen-2009"),
    ("xen-2009", "hap"): (None, "eager", None, "sync", "on-write", True, "xen-2009"),
    ("kvm", "shadow"): ("kvm", "write-protect", "writable", None, None, True, "qemu"),
    ("kvm", "hap"): (None, "write-protect", None, "no-sync", "on-write", True, "qemu"),
}


def shown(options: MigrationOptions) -> dict[str, Any]:
    """The `config` of the document."""
    return configured(options.guest_config(), options.plan())


@pytest.mark.parametrize(("hypervisor", "paging"), EXPECTED)
def test_the_document_shows_every_part_that_was_chosen(hypervisor: str, paging: str) -> None:
    config = shown(MigrationOptions.of(hypervisor=hypervisor, paging=paging))
    assert config["hypervisor"] == hypervisor
    assert tuple(config[part] for part in PARTS) == EXPECTED[hypervisor, paging]


def test_xen_is_the_default() -> None:
    assert shown(MigrationOptions.of()) == shown(MigrationOptions.of(hypervisor="xen"))


ALONE = {
    "shadow_mmu": "xen",
    "clean": "clear-log", "reads_map": "read-only", "out_of_sync": False, "policy": "xen-2009",
}  # fmt: skip


@pytest.mark.parametrize("part", ALONE)
def test_a_part_that_is_set_alone_wins_and_leaves_the_others(part: str) -> None:
    config = shown(MigrationOptions.of(**{"hypervisor": "kvm", part: ALONE[part]}))
    expected = dict(zip(PARTS, EXPECTED["kvm", "shadow"], strict=True))
    assert {name: config[name] for name in PARTS} == {**expected, part: ALONE[part]}


def test_a_hypervisor_is_an_axis_like_every_setting() -> None:
    cleans = ("blow", "clear-log")
    for hypervisor, clean in itertools.product(("xen", "kvm"), cleans):
        config = shown(options_of({"hypervisor": hypervisor, "clean": clean}, Path()))
        assert (config["hypervisor"], config["clean"]) == (hypervisor, clean)

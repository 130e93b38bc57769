"""On the virtual clock a seed gives the same bytes: in other processes, on other hosts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from pageferry.cli.main import main
from tests.journey.hosts import BUSY, CHURN, Pair
from tests.pageferry.hosts import pageferry

CASES = {
    "shadow": ["--paging", "shadow", "--workload", BUSY],
    "shadow, tables that change": ["--paging", "shadow", "--no-out-of-sync", "--workload", CHURN],
    "KVM": ["--hypervisor", "kvm", "--workload", CHURN],
    "write-protect, grouped": ["--clean", "write-protect", "--group-pages", "8", "--group-scope",
                               "physical", "--d-bit-filter", "--workload", CHURN],
    "blow, grouped": ["--group-pages", "64", "--policy", "xen-2009", "--workload", BUSY],
    "hap": ["--paging", "hap", "--group-pages", "16", "--policy", "xen-2009", "--workload", CHURN],
    "pml": ["--paging", "hap", "--clean", "eager", "--pml", "--policy", "qemu", "--downtime-limit",
            "5ms", "--workload", "zipf:wss=4MiB,huge=1"],
}  # fmt: skip
COMMON = ["--memory", "8MiB", "--max-rounds", "4", "--seed", "3", "--quiet"]


@pytest.fixture(scope="module")
def other_pair() -> Iterator[Pair]:
    """Two hosts more, whose hashes come out in another order."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONHASHSEED", "12345")
        pair = Pair()
    with pair:
        yield pair


def written(pair: Pair, options: list[str], target: Path) -> bytes:
    """The document of a migration between these hosts."""
    where = ["--source", pair.source.address, "--dest", pair.destination.address]
    arguments = ["migrate", *where, *COMMON, *options, "--json", str(target)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    return target.read_bytes()


@pytest.mark.parametrize("case", CASES)
def test_two_pairs_of_hosts_say_the_same(
    pair: Pair, other_pair: Pair, tmp_path: Path, case: str
) -> None:
    options = CASES[case]
    first = written(pair, options, tmp_path / "first.json")
    assert written(other_pair, options, tmp_path / "other.json") == first
    assert written(pair, options, tmp_path / "again.json") == first
    seeded = written(pair, [*options, "--seed", "4"], tmp_path / "seeded.json")
    assert seeded != first


def test_fresh_hosts_and_another_process_say_the_same(pair: Pair, tmp_path: Path) -> None:
    options = CASES["blow, grouped"]
    target = tmp_path / "fresh.json"
    done = pageferry(
        "migrate", *COMMON, *options, "--json", str(target), env={"PYTHONHASHSEED": "99"}
    )
    assert done.returncode == 0, done.stderr
    assert target.read_bytes() == written(pair, options, tmp_path / "shared.json")

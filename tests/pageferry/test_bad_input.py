"""Mistakes of a user: one clear line, the exit code, and nothing was started."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from pageferry.cli.main import main
from tests.pageferry.hosts import SMALL, pageferry
from wire.hosting.launch import HostProcess


def refused(*arguments: str, exit_code: int = 2) -> str:
    """The one line by which a command is refused."""
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == exit_code, result.output
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    return line


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("--memory 1000001", "not a positive multiple of the 4096-byte frame"),
        ("--memory 0", "not a positive multiple"),
        ("--memory 512KiB", "at least 1 MiB"),
        ("--memory lots", "write it like 256MiB"),
        ("--memory 3XiB", "unknown unit"),
        ("--group-pages 3", "not a power of two"),
        ("--group-pages 0", "not a power of two"),
        ("--group-pages 8192", "not a power of two from 1 to 4096"),
        ("--group-pages many", "neither a number of pages nor adaptive"),
        ("--link 0", "unknown unit"),
        ("--link 0bit/s", "carries nothing"),
        ("--link -1Gbit/s", "write it like 1Gbit/s"),
        ("--latency soon", "write it like 300ms"),
        ("--downtime-limit 0ms", "downtime limit of 0ms"),
        ("--downtime-limit 1000min", "downtime limit of 1000min"),
        ("--max-downtime 0ms", "longest downtime of 0ms"),
        ("--max-downtime 1000min", "longest downtime of 1000min"),
        ("--policy qemu --max-downtime 100ms", "raise --max-downtime or lower --downtime-limit"),
        ("--latency 1000min", "latency"),
        ("--max-rounds -1", "-1"),
        ("--max-rounds 99999999999", "99999999999"),
        ("--seed -1", "'--seed': -1 is not from 0"),
        ("--seed 9223372036854775808", "is not from 0 to 9223372036854775807"),
        ("--zstd-level 99", "99"),
        ("--workload sorting", "no workload 'sorting'"),
        ("--workload hotcol", "did you mean hotcold?"),
        ("--workload hotcold:size=1MiB", "no parameter of workload hotcold: 'size'"),
        ("--workload hotcold:wss", "is not key=value"),
        ("--workload hotcold:wss=1000", "not a multiple of 4096"),
        ("--workload hotcold --trace some.parquet", "not both"),
        ("--paging magic", "'shadow', 'hap'"),
        ("--clean lazy", "--clean lazy does not exist under shadow paging"),
        ("--paging hap --clean blow", "choose lazy or eager"),
        ("--pml", "needs --paging hap"),
        ("--paging hap --pml --group-pages 8", "nothing to group"),
        ("--paging hap --group-scope virtual", "use --group-scope physical"),
        ("--paging hap --no-out-of-sync", "needs --paging shadow"),
        ("--paging hap --reads-map writable", "needs --paging shadow"),
        ("--hypervisor bhyve", "'xen', 'xen-2009', 'kvm'"),
        ("--paging hap --no-prefetch", "needs --paging shadow"),
        ("--clock real --link 1Gbit/s", "models a link on the virtual clock"),
        ("--clock real --latency 1ms", "models a link on the virtual clock"),
        ("--policy none", "'xen', 'xen-2009', 'qemu'"),
        ("--source 127.0.0.1:50051", "--source and --dest go together"),
        ("--source here --dest 127.0.0.1:1", "neither host:port nor unix:path"),
        ("--costs /no/such/file.toml", "/no/such/file.toml"),
        ("--json /no/such/place/result.json", "there is no directory /no/such/place"),
        ("--trace /no/such/trace.parquet", "/no/such/trace.parquet"),
        ("--memory 32MiB", "hotcold has a working set of 32.0 MiB, too much for a guest of"),
        ("--memory 4MiB --workload uniform:wss=64MiB", "use --memory 128MiB or a smaller wss"),
        ("--fast", "No such option"),
        ("surplus", "unexpected extra argument"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(arguments: str, says: str) -> None:
    assert says in refused("migrate", *arguments.split())


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[ns]\nfixop = 3\n", "'fixop' is no event"),
        ("[ns]\nfixup = -3\n", "not a number of nanoseconds from 0"),
        ("fixup = 3\n", "must hold one table [ns]"),
        ("[ns\n", "costs.toml"),
    ],
)
def test_a_bad_cost_table_is_refused(tmp_path: Path, content: str, says: str) -> None:
    file = tmp_path / "costs.toml"
    file.write_text(content)
    assert says in refused("migrate", "--costs", str(file))
    assert says in refused("costs", "--costs", str(file))


def test_what_is_no_trace_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "not.parquet"
    file.write_text("no trace at all")
    assert "not.parquet" in refused("migrate", "--trace", str(file))


def test_comparing_what_is_no_result_is_refused(tmp_path: Path) -> None:
    assert "cannot read" in refused("compare", str(tmp_path / "missing.json"))


def test_a_demo_of_one_group_size_is_refused() -> None:
    assert "--group-pages" in refused("demo", "--group-pages", "1")
    assert "not a power of two" in refused("demo", "--group-pages", "3")


@pytest.fixture
def closed_port() -> Iterator[str]:
    """An address that nobody listens on, and nobody else is given meanwhile."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{holder.getsockname()[1]}"


def test_a_source_that_is_not_there(closed_port: str) -> None:
    arguments = [*SMALL, "--source", closed_port, "--dest", closed_port, "--no-progress"]
    line = refused("migrate", *arguments, exit_code=1)
    assert f"no host answers at {closed_port}" in line


def test_a_destination_that_is_not_there(
    hosts: list[str], closed_port: str, tmp_path: Path
) -> None:
    target = tmp_path / "result.json"
    arguments = [*SMALL, *hosts[:2], "--dest", closed_port, "--no-progress"]
    line = refused("migrate", *arguments, "--json", str(target), exit_code=1)
    assert f"no host answers at {closed_port}" in line
    text = target.read_text()
    assert '"outcome": "failed"' in text
    assert '"UNAVAILABLE"' in text
    assert closed_port not in text


def test_hosts_in_each_others_place(hosts: list[str]) -> None:
    source, dest = hosts[1], hosts[3]
    arguments = [*SMALL, "--source", dest, "--dest", source, "--no-progress"]
    assert f"{dest} does not serve this call" in refused("migrate", *arguments, exit_code=1)


def test_a_guest_larger_than_the_host_allows(hosts: list[str]) -> None:
    arguments = ["--memory", "64GiB", "--workload", "idle", *hosts, "--no-progress"]
    line = refused("migrate", *arguments, exit_code=1)
    assert "a guest of 64.0 GiB needs" in line
    assert "no guest was booted" in line


def test_a_workload_larger_than_its_guest(hosts: list[str]) -> None:
    arguments = ["--memory", "4MiB", "--workload", "uniform:wss=4092KiB", *hosts, "--no-progress"]
    line = refused("migrate", *arguments, exit_code=1)
    assert "workload uniform needs 4.0 MiB with its page tables" in line
    assert "use --memory 8MiB or more" in line


def test_a_trace_that_the_remote_source_does_not_have(hosts: list[str]) -> None:
    arguments = ["--memory", "8MiB", "--trace", "/no/such/trace.parquet", *hosts, "--no-progress"]
    assert "/no/such/trace.parquet" in refused("migrate", *arguments, exit_code=1)


def test_a_port_in_use_is_one_line_of_the_host(hosts: list[str]) -> None:
    with pytest.raises(Exception, match="in use") as caught:
        HostProcess("source_host", listen=hosts[1])
    assert "\n" not in str(caught.value)


def test_it_is_the_same_in_a_process_of_its_own() -> None:
    done = pageferry("migrate", "--group-pages", "3")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr

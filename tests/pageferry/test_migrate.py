"""`pageferry migrate` from the shell to the closing table, over real hosts."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from pageferry import results
from tests.pageferry.hosts import (
    ENDLESS,
    SMALL,
    children,
    interrupt,
    pageferry,
    read_until,
    running,
    wait_until_gone,
)


def document(path: Path) -> dict[str, Any]:
    """A result that was written, checked against its schema."""
    content: dict[str, Any] = json.loads(path.read_text())
    jsonschema.validate(content, results.schema())
    return content


def test_a_migration_ends_with_its_tables_and_its_document(tmp_path: Path) -> None:
    target = tmp_path / "result.json"
    done = pageferry("migrate", *SMALL, "--group-pages", "8", "--json", str(target))
    assert done.returncode == 0, done.stderr
    result = document(target)
    assert result["verified"]
    assert result["outcome"] == "completed"
    assert result["config"]["workload"].startswith("hotcold:wss=2MiB,")
    assert result["rounds"][-1]["stop_and_copy"]
    assert result["pages"]["unique"] == 2048
    assert result["faults"]["fixup"] > 0
    assert "yes, every page" in done.stdout
    assert "round 1: sent 2,048 of 2,048 pages" in done.stderr
    assert "\x1b" not in done.stdout + done.stderr


def test_what_is_set_for_hosts_that_serve_here_is_not_for_our_own(tmp_path: Path) -> None:
    settings = {f"{host}_TLS": str(tmp_path / "nowhere") for host in ("SOURCE_HOST", "DEST_HOST")}
    done = pageferry("migrate", *SMALL, "--quiet", env=settings)
    assert done.returncode == 0, done.stderr


def test_the_sums_of_the_document_hold(tmp_path: Path, hosts: list[str]) -> None:
    target = tmp_path / "result.json"
    options = ["--group-pages", "16", "--policy", "xen-2009", "--max-rounds", "6"]
    done = pageferry("migrate", *hosts, *SMALL, *options, "--json", str(target))
    assert done.returncode == 0, done.stderr
    result = document(target)
    pages, rounds = result["pages"], result["rounds"]
    assert pages["sent"] == pages["unique"] + pages["resent"]
    assert pages["sent"] == pages["data"] + pages["zero"] + pages["suppressed"]
    for field in ("sent", "data", "zero", "suppressed", "skipped", "falsely_dirty"):
        assert pages[field] == sum(r[field] for r in rounds), field
    assert result["bytes"]["raw"] == 4096 * pages["sent"]
    assert result["bytes"]["wire"] == sum(r["wire_bytes"] for r in rounds)
    guest_ns = result["guest"]["time_ns"]
    slowdown = sum(guest_ns.values()) / guest_ns["base"]
    assert result["guest"]["slowdown"] == pytest.approx(slowdown)
    time = result["time"]
    assert time["downtime_s"] == pytest.approx(sum(time["downtime_parts_s"].values()))


def test_the_same_seed_gives_the_same_bytes_and_another_one_does_not(
    tmp_path: Path, hosts: list[str]
) -> None:
    written = {}
    for name, seed in (("once", "7"), ("again", "7"), ("other", "8")):
        target = tmp_path / f"{name}.json"
        options = ["--seed", seed, "--quiet", "--json", str(target)]
        done = pageferry("migrate", *hosts, *SMALL, *options)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        written[name] = target.read_bytes()
    assert written["once"] == written["again"]
    assert written["once"] != written["other"]


def test_the_document_on_stdout_is_alone_there(hosts: list[str]) -> None:
    done = pageferry("migrate", *hosts, *SMALL, "--json", "-", "--no-progress")
    assert done.returncode == 0
    jsonschema.validate(json.loads(done.stdout), results.schema())
    assert "tracking overhead" in done.stderr


def test_the_real_clock_measures(tmp_path: Path, hosts: list[str]) -> None:
    target = tmp_path / "result.json"
    options = ["--clock", "real", "--no-progress", "--json", str(target)]
    done = pageferry("migrate", *hosts, *SMALL, *options)
    assert done.returncode == 0, done.stderr
    result = document(target)
    assert result["verified"]
    assert result["config"]["link_bits_per_s"] is None
    assert result["time"]["downtime_parts_s"]["verify"] > 0
    assert f"runs on {hosts[-1]} now" in done.stderr


def test_ctrl_c_cancels_and_the_hosts_go(tmp_path: Path) -> None:
    target = tmp_path / "result.json"
    with running("migrate", *ENDLESS, "--json", str(target)) as process:
        read_until(process, "pre-copy")
        hosts = children(process.pid)
        interrupt(process)
        lines = read_until(process, "error:")
        assert process.wait() == 130
    assert len(hosts) == 2
    assert any("cancelling" in line for line in lines)
    assert "the guest goes on at the source" in lines[-1]
    assert document(target)["outcome"] == "cancelled"
    wait_until_gone(hosts)


def test_sigterm_cancels_too() -> None:
    with running("migrate", *ENDLESS) as process:
        read_until(process, "pre-copy")
        hosts = children(process.pid)
        process.send_signal(signal.SIGTERM)
        read_until(process, "the guest goes on at the source")
        assert process.wait() == 143
    wait_until_gone(hosts)


def test_ctrl_c_while_the_hosts_start_leaves_nothing() -> None:
    with running("migrate", *ENDLESS) as process:
        read_until(process, "starting two hosts")
        interrupt(process)
        read_until(process, "error: stopped")
        assert process.wait() == 130


def test_the_hosts_end_with_a_command_that_is_killed() -> None:
    with running("migrate", *ENDLESS) as process:
        read_until(process, "pre-copy")
        hosts = children(process.pid)
        process.kill()
    assert len(hosts) == 2
    wait_until_gone(hosts)


def test_a_host_that_dies_in_the_middle_is_named(tmp_path: Path) -> None:
    target = tmp_path / "result.json"
    with running("migrate", *ENDLESS, "--json", str(target)) as process:
        read_until(process, "pre-copy")
        for pid in children(process.pid):
            if b"source_host" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)
        (*_, line) = read_until(process, "error:")
        assert process.wait() == 1
    assert "source_host ended in the middle of it" in line
    assert "SIGKILL" in line
    assert document(target)["outcome"] == "failed"

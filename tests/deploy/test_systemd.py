"""The systemd units, and the settings that docs/deployment.md gives them."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import textwrap
import tomllib
from configparser import ConfigParser
from pathlib import Path

import pytest

from paging_core.units import parse_memory_bytes
from tests.pageferry.hosts import pageferry

ROOT = Path(__file__).parents[2]
UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))
PAGE = (ROOT / "docs" / "deployment.md").read_text()
BIN = Path(sys.executable).parent


SERVICE = {
    "Type": "exec",
    "User": "pageferry",
    "KillMode": "mixed",
    "TimeoutStopSec": "60",
    "Restart": "on-failure",
    "CacheDirectory": "pageferry",
    "Environment": "XDG_CACHE_HOME=/var/cache/pageferry",
    "LimitNOFILE": "4096",
    "NoNewPrivileges": "yes",
    "CapabilityBoundingSet": "",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "PrivateDevices": "yes",
    "ProtectClock": "yes",
    "ProtectHostname": "yes",
    "ProtectControlGroups": "yes",
    "ProtectKernelLogs": "yes",
    "ProtectKernelModules": "yes",
    "ProtectKernelTunables": "yes",
    "ProtectProc": "invisible",
    "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX",
    "RestrictNamespaces": "yes",
    "RestrictRealtime": "yes",
    "RestrictSUIDSGID": "yes",
    "LockPersonality": "yes",
    "SystemCallArchitectures": "native",
    "SystemCallFilter": "@system-service",
    "SystemCallErrorNumber": "EPERM",
    "UMask": "0077",
}
"""What both units say alike: how a host ends, and how little of the machine it gets."""


def command_of(unit: Path) -> list[str]:
    """What it starts, with the commands of this installation."""
    (line,) = re.findall(r"^ExecStart=(.*)$", unit.read_text(), re.MULTILINE)
    program, *arguments = shlex.split(line)
    return [str(BIN / Path(program).name), *arguments]


def settings_on_the_page() -> dict[str, str]:
    """The TOML of each host, by the name of its file."""
    found = {}
    for name in ("source", "destination"):
        (block,) = re.findall(
            rf"/etc/pageferry/{name}\.toml\b.*\n((?: {{4}}[a-z-]+ = .*\n)+)", PAGE
        )
        found[name] = textwrap.dedent(block)
    return found


def test_there_is_one_for_each_host() -> None:
    assert [unit.stem for unit in UNITS] == ["pageferry-destination", "pageferry-source"]
    for unit in UNITS:
        assert unit.name in PAGE


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_a_host_gets_little_of_the_machine(unit: Path) -> None:
    parser = ConfigParser(interpolation=None, delimiters="=")
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(unit.read_text())
    service = dict(parser["Service"])
    kind, name = ("dest", "destination") if "destination" in unit.stem else ("source", "source")
    assert service.pop("ExecStart") == (
        f"/opt/pageferry/bin/{kind}-host serve --config /etc/pageferry/{name}.toml"
    )
    most = parse_memory_bytes(service.pop("MemoryMax") + "iB")
    settings = tomllib.loads(settings_on_the_page()[name])
    assert parse_memory_bytes(settings.get("max-total-memory", "8GiB")) < most
    assert service == SERVICE
    assert dict(parser["Install"]) == {"WantedBy": "multi-user.target"}


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_understands_it(unit: Path, tmp_path: Path) -> None:
    copy = tmp_path / unit.name
    program = command_of(unit)[0]
    copy.write_text(re.sub(r"(?m)^ExecStart=\S+", f"ExecStart={program}", unit.read_text()))
    verified = subprocess.run(
        ["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, check=False
    )
    assert (verified.returncode, verified.stdout) == (0, "")
    assert unit.name not in verified.stderr  # others of this machine may be complained of


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_it_starts_with_the_settings_on_the_page(unit: Path, tmp_path: Path) -> None:
    name = unit.stem.removeprefix("pageferry-")
    certs = tmp_path / "certs"
    assert pageferry("certs", str(certs)).returncode == 0
    settings = settings_on_the_page()[name].replace("/etc/pageferry/tls", str(certs / name))
    file = tmp_path / f"{name}.toml"
    file.write_text(settings)
    *command, option, path = command_of(unit)
    assert (option, path) == ("--config", f"/etc/pageferry/{name}.toml")
    shown = subprocess.run(
        [*command, "--config", str(file), "--print-config"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert shown.returncode == 0, shown.stderr
    effective = tomllib.loads(shown.stdout)
    for key, value in tomllib.loads(settings).items():
        assert effective[key] == (",".join(value) if isinstance(value, list) else value)

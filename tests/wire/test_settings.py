"""Settings of a host: which of four places wins, and what is said about bad ones."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

NAME, DEFAULT = "max-incoming", "4"


def dest_host(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dest_host", "serve", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={"PATH": "/usr/bin:/bin", **environment},
    )


def printed(*arguments: str, **environment: str) -> dict[str, str]:
    """By setting, what ``--print-config`` says: the value and, after #, where it is from."""
    ended = dest_host(*arguments, "--print-config", **environment)
    assert ended.returncode == 0, ended.stderr
    lines = [line for line in ended.stdout.splitlines() if not line.startswith("#")]
    return dict(line.split(" = ", 1) for line in lines)


def test_what_wins(tmp_path: Path) -> None:
    file = tmp_path / "dest.toml"
    file.write_text("max-incoming = 5\n")
    assert printed()[NAME] == "4  # default"
    assert printed("--config", str(file))[NAME] == f"5  # {file}, max-incoming"
    assert printed(DEST_HOST_CONFIG=str(file))[NAME] == f"5  # {file}, max-incoming"
    environment = {"DEST_HOST_MAX_INCOMING": "6"}
    said = printed("--config", str(file), **environment)
    assert said[NAME] == "6  # environment variable DEST_HOST_MAX_INCOMING"
    said = printed("--config", str(file), "--max-incoming", "7", **environment)
    assert said[NAME] == "7  # --max-incoming"


def test_what_is_printed_can_be_read_again(tmp_path: Path) -> None:
    first = tmp_path / "first.toml"
    first.write_text(
        'listen = "[::1]:7"\nmetrics-port = 9\ninsecure = true\nsources = ["a b", "c"]\n'
        'max-payload = "64KiB"\nidle-expiry = "3s"\n'
    )
    ended = dest_host("--config", str(first), "--print-config")
    again = tmp_path / "again.toml"
    again.write_text(ended.stdout)
    repeated = printed("--config", str(again))
    values = {key: text.partition("  #")[0] for key, text in repeated.items()}
    assert values["sources"] == '"a b,c"'
    assert values["insecure"] == "true"
    assert values == {
        key: text.partition("  #")[0] for key, text in printed("--config", str(first)).items()
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("max-incomming = 5", "'max-incomming' that does not exist; did you mean max-incoming?"),
        ("zzz = 5", "'zzz' that does not exist; --print-config lists them"),
        ("max-incoming = 0", "max-incoming: 0 is not in the range"),
        ('max-payload = "lots"', "max-payload: size 'lots' is not a number"),
        ('insecure = "perhaps"', "insecure: 'perhaps' is not a valid boolean"),
        ("[listen]\nhost = 1", "listen: it is one value and no table"),
        ('listen = ["a:1", "b:2"]', "listen: it is one value and no list"),
        ("metrics-port = true", "metrics-port: it is neither true nor false"),
        ('sources = ["a,b"]', 'sources: a list of names is written like ["rack1", "rack2"]'),
        ("sources = [1]", 'sources: a list of names is written like ["rack1", "rack2"]'),
        ("listen = ", "is not TOML"),
    ],
)
def test_a_bad_file(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "dest.toml"
    file.write_text(text)
    ended = dest_host("--config", str(file))
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: ")
    assert ended.stderr.count("\n") == 1
    assert str(file) in ended.stderr
    assert said in ended.stderr


def test_a_bad_variable_is_named() -> None:
    ended = dest_host(DEST_HOST_IDLE_EXPIRY="soon")
    assert ended.returncode == 2
    assert "environment variable DEST_HOST_IDLE_EXPIRY: duration 'soon'" in ended.stderr


def test_values_that_do_not_fit_together_name_their_setting() -> None:
    for arguments, said in (
        (["--max-payload", "48MiB"], "--max-payload"),
        (["--max-message", "1KiB"], "--max-message of 1024 bytes is not between"),
        (["--max-metadata", "3GiB"], "--max-metadata"),
        (["--stream-idle", "0s"], "--stream-idle"),
    ):
        ended = dest_host(*arguments)
        assert ended.returncode == 2, arguments
        assert said in ended.stderr


def test_a_file_that_is_not_there() -> None:
    ended = dest_host("--config", "/nowhere/dest.toml")
    assert ended.returncode == 2
    assert "cannot read /nowhere/dest.toml: No such file" in ended.stderr

"""A real Prometheus with our configuration, at the pace of a test."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping
from http.client import HTTPConnection
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

import pytest
import yaml

from tests.observability.deployed import PROMETHEUS, RULES, read

SCRAPE_S = 0.25
"""Migrations of tests last seconds."""
_READY_S = 60
_PACE = (
    (re.compile(r"\[(1|10)m\]"), "[10s]"),
    (re.compile(r"\[30m\]"), "[60s]"),
    (re.compile(r"^(\s+for:) [12]m$", re.MULTILINE), r"\1 1s"),
)


def hurried(rules: str) -> str:
    """The same rules with shorter durations, and nothing else changed."""
    for pattern, shorter in _PACE:
        rules = pattern.sub(shorter, rules)
    left = re.findall(r"\d+[mhd]\b", re.sub(r"rate1m", "", rules))
    assert not left, f"durations that a test would have to wait for: {left}"
    return rules


class PrometheusProcess:
    """Scrapes the given targets, evaluates our rules. Also a context manager.

    Attributes:
        address: where its API is.
    """

    def __init__(self, folder: Path, targets: Mapping[str, str]) -> None:
        """Start it and wait until it is ready.

        Args:
            folder: for its configuration and its data.
            targets: host:port by the name of the job.
        """
        program = shutil.which("prometheus")
        if program is None:
            pytest.skip("there is no prometheus; on Debian, apt-get install prometheus")
        self.address = f"127.0.0.1:{_free_port()}"
        self._log = folder / "prometheus.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    program,
                    f"--config.file={_configuration(folder, targets)}",
                    f"--storage.tsdb.path={folder / 'data'}",
                    f"--web.listen-address={self.address}",
                    "--enable-feature=exemplar-storage",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            self._wait_ready()
        except BaseException:
            self.stop()
            raise

    def instant(self, expr: str, at_s: float | None = None) -> list[dict[str, Any]]:
        """The series of an expression at a moment, now unless told."""
        asked = {"query": expr} | ({} if at_s is None else {"time": str(at_s)})
        found: list[dict[str, Any]] = self._ask("query", asked)["result"]
        return found

    def over(self, expr: str, start_s: float, end_s: float) -> list[dict[str, Any]]:
        """The series of an expression over a time, at every scrape."""
        asked = {"query": expr, "start": str(start_s), "end": str(end_s), "step": str(SCRAPE_S)}
        found: list[dict[str, Any]] = self._ask("query_range", asked)["result"]
        return found

    def exemplars(self, expr: str, start_s: float, end_s: float) -> list[dict[str, str]]:
        """Labels of the exemplars that belong to an expression."""
        asked = {"query": expr, "start": str(start_s), "end": str(end_s)}
        found = self._ask("query_exemplars", asked)
        return [one["labels"] for series in found for one in series["exemplars"]]

    def firing(self) -> list[dict[str, str]]:
        """Labels of the alerts that fire."""
        alerts = self._ask("alerts", {})["alerts"]
        return [one["labels"] for one in alerts if one["state"] == "firing"]

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(60)

    def _ask(self, what: str, asked: Mapping[str, str]) -> Any:
        status, body = self._get(f"/api/v1/{what}?{urlencode(asked)}")
        reply = json.loads(body)
        assert status == 200, reply
        assert "warnings" not in reply, reply
        return reply["data"]

    def _get(self, path: str) -> tuple[int, str]:
        connection = HTTPConnection(self.address, timeout=60)
        try:
            connection.request("GET", path)
            reply = connection.getresponse()
            return reply.status, reply.read().decode()
        finally:
            connection.close()

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + _READY_S
        while True:
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, self._log.read_text()
            try:
                if self._get("/-/ready")[0] == 200:
                    return
            except OSError:
                pass
            time.sleep(0.05)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


def _configuration(folder: Path, targets: Mapping[str, str]) -> Path:
    """Ours, with other targets and a faster pace."""
    document = read(PROMETHEUS / "prometheus.yml")
    pace = f"{int(SCRAPE_S * 1000)}ms"
    document["global"] = {
        "scrape_interval": pace, "scrape_timeout": pace, "evaluation_interval": pace,
    }  # fmt: skip
    for job in document["scrape_configs"]:
        job["static_configs"] = [{"targets": [targets[job["job_name"]]]}]
    (folder / "rules").mkdir()
    for path in RULES:
        (folder / "rules" / path.name).write_text(hurried(path.read_text()))
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(document))
    return file


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port

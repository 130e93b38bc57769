"""Every scenario prints what is written below its commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.scenarios.journeys import Journey
from tests.scenarios.paging import TrackedGuest
from tests.scenarios.runner import replayed

HERE = Path(__file__).parent
SCENARIOS = sorted(HERE.glob("*/*.txt"))


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: str(path.relative_to(HERE)))
def test_a_scenario(path: Path, request: pytest.FixtureRequest) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# "), "a scenario begins with a line that says what it shows"
    printed = replayed(text, TrackedGuest().verbs | Journey().verbs)
    if request.config.getoption("--rewrite-scenarios"):
        path.write_text(printed, encoding="utf-8")
    else:
        assert printed == text

"""How hypothesis runs here: the same examples everywhere, no clock, few of them."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile(
    "everyday",
    derandomize=True,  # a failure in one place is the same failure in every other
    deadline=None,  # the first example may compile a kernel
    max_examples=40,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("thorough", parent=settings.get_profile("everyday"), max_examples=1000)
settings.load_profile("everyday")

"""Every alert is seen to fire, by a real Prometheus, because of what it is there for.

`make test-observability` runs this; the everyday tests have the unit tests of the same rules.
"""

from __future__ import annotations

from typing import NoReturn

from pageferry.v1 import common_pb2
from pageferry.v1 import source_pb2 as pb
from tests.journey.hosts import new_name, spec
from tests.journey.relay import Cut
from tests.journey.tamper import Damage
from tests.observability.deployed import alerts
from tests.observability.observed import Observed, slow

BUSIER_THAN_THE_LINK = "uniform:wss=4MiB,write_rate=4M"
SPARSE = "hotcold:wss=6MiB,hot=0.001,hot_accesses=1,write_rate=10k"
MANY_SPACES = "churn:wss=1MiB,region=64KiB,fork_every=500,children=4,write_rate=20M,writes=0.05"


def test_a_migration_that_does_not_converge(observed: Observed) -> None:
    """The guest writes all of its working set again in the time that sending it takes."""
    observed.quiet()
    observed.relay.on_batch = slow
    migration = observed.migrate(BUSIER_THAN_THE_LINK, policy=pb.POLICY_QEMU, max_rounds=1000,
                                 downtime_limit_ns=1)  # fmt: skip
    observed.until_fires(
        "PageferryMigrationNotConverging", lambda labels: labels["migration_id"] == migration
    )
    observed.pair.source.cancel(migration)
    observed.pair.source.follow(migration)


def test_a_downtime_over_its_limit(observed: Observed) -> None:
    observed.quiet()
    status = observed.pair.source.follow(observed.migrate("idle", downtime_limit_ns=1))
    assert status.state == pb.MIGRATION_STATE_COMPLETED
    observed.until_fires("PageferryDowntimeOverLimit", lambda _: True)


def test_memory_that_differs(observed: Observed) -> None:
    observed.quiet()
    observed.relay.on_batch = Damage(2)
    status = observed.pair.source.follow(observed.migrate("idle"))
    assert status.state == pb.MIGRATION_STATE_FAILED
    observed.until_fires("PageferryMemoryRepaired", lambda _: True)
    for job in ("pageferry-source", "pageferry-destination"):
        observed.until_fires("PageferryVerifyFailed", lambda labels: labels["job"] == job)  # noqa: B023


def test_groups_that_are_too_large(observed: Observed) -> None:
    """Two frames are written, and each opens as many of 1024 as its table maps."""
    observed.quiet()
    observed.relay.on_batch = slow
    tracker = common_pb2.TrackerConfig(group=common_pb2.GroupPolicy(frames=1024))
    migration = observed.migrate(SPARSE, tracker, policy=pb.POLICY_QEMU, max_rounds=1000,
                                 downtime_limit_ns=1)  # fmt: skip
    observed.until_fires("PageferryFalseDirtyStorm", lambda _: True)
    observed.pair.source.cancel(migration)
    observed.pair.source.follow(migration)


def test_shadows_that_are_built_again_and_again(observed: Observed) -> None:
    """Forks and exits, and cleans that follow so close that nothing that was built lasts."""
    observed.quiet()
    tracker = common_pb2.TrackerConfig(clean=common_pb2.CLEAN_POLICY_BLOW)
    fast = {"clock": common_pb2.CLOCK_VIRTUAL, "link_bits_per_s": 40 * 10**9}
    migration = observed.migrate(MANY_SPACES, tracker, policy=pb.POLICY_QEMU, max_rounds=100,
                                 downtime_limit_ns=1, **fast)  # fmt: skip
    observed.until_fires("PageferryShadowRebuildStorm", lambda _: True)
    observed.pair.source.follow(migration)


def test_a_destination_that_ends_with_the_guest_it_took(observed: Observed) -> None:
    migration = observed.migrate("idle", downtime_limit_ns=10**12)
    status = observed.pair.source.follow(migration)
    assert status.state == pb.MIGRATION_STATE_COMPLETED
    observed.quiet()
    observed.pair.destination.kill()
    observed.until_fires(
        "PageferryHostDown", lambda labels: labels["job"] == "pageferry-destination"
    )
    observed.until_fires(
        "PageferryGuestOnNeitherHost",
        lambda labels: labels["guest_id"] == status.guest_id,
    )


def test_a_destination_that_ends_in_the_commit(observed: Observed) -> None:
    def die(_message: bytes) -> NoReturn:
        observed.pair.destination.kill()
        raise Cut

    observed.quiet()
    observed.relay.after["Commit"] = die
    migration = observed.migrate("idle")
    observed.until_fires(
        "PageferryGuestInDoubt", lambda labels: labels["migration_id"] == migration
    )


def test_a_guest_that_is_booted_again_where_it_left(observed: Observed) -> None:
    source, guest = observed.pair.source, spec(new_name(), "idle")
    name = source.boot(guest)
    status = source.follow(source.migrate(name, observed.pair.destination.address))
    assert status.state == pb.MIGRATION_STATE_COMPLETED
    observed.quiet()
    source.delete(name)
    source.boot(guest)
    observed.until_fires("PageferryGuestOnBothHosts", lambda labels: labels["guest_id"] == name)


def test_no_alert_is_left_out() -> None:
    """Each stands in a test above."""
    with open(__file__, encoding="utf-8") as file:  # noqa: PTH123
        text = file.read()
    assert not [name for name in alerts() if f'"{name}"' not in text]

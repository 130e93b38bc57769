"""From the options of a command to what the source host is asked, checked before it starts."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from pageferry.settings import SETTINGS
from pageferry.v1 import source_pb2 as pb
from paging_core.config import (
    HYPERVISORS,
    GroupScope,
    GuestConfig,
    GuestKind,
    Hypervisor,
    Paging,
)
from paging_core.errors import BadOption
from paging_core.settings import made
from paging_core.workloads.catalog import canonical_spec, check_working_set
from source_host.messages import request_of
from source_host.precopy.clock_name import ClockName
from source_host.precopy.plan import Plan
from wire.address import parse_address
from wire.trust.security import THIS_MACHINE, Security


@dataclass(frozen=True)
class MigrationOptions:
    """What ``pageferry migrate`` is asked for.

    Attributes:
        values: settings by name, each as its kind parses it; what is left out has its default.
        source, dest: addresses of running hosts; None for hosts of our own.
        tls, insecure: who we are to `source`.
        flow: where the flow goes; None for none.
        guest: name of a guest that is at `source` already; None boots one.
    """

    values: Mapping[str, Any]
    source: str | None = None
    dest: str | None = None
    tls: str | None = None
    insecure: bool = False
    flow: str | None = None
    guest: str | None = None

    @classmethod
    def of(cls, **given: Any) -> Self:
        """From settings by name, and the attributes of this class beside them.

        Raises:
            BadOption: no such setting.
        """
        values = {name: given.pop(name) for name in list(given) if name in SETTINGS}
        unknown = given.keys() - cls.__dataclass_fields__.keys()
        if unknown:
            raise BadOption(f"there is no setting {min(unknown)!r}; see docs/settings.md")
        return cls(values, **given)

    @classmethod
    def typed(cls, options: Mapping[str, Any]) -> Self:
        """From the options of the command line, where a switch that is on is switched off."""
        switched = {
            name: not value if name in SETTINGS and SETTINGS[name].is_on else value
            for name, value in options.items()
        }
        return cls.of(**switched)

    def but(self, **given: Any) -> Self:
        """The same with some settings or attributes changed; raises as `of`."""
        values = {name: given.pop(name) for name in list(given) if name in SETTINGS}
        return replace(self, values={**self.values, **values}, **given)

    def __getitem__(self, name: str) -> Any:
        """A setting's value, its default filled in; None where something else decides."""
        value, setting = self.values.get(name), SETTINGS[name]
        if value is None and setting.part:
            return getattr(HYPERVISORS[Hypervisor(self["hypervisor"])], setting.part) or None
        return setting.default_value() if value is None else value

    def guest_config(self) -> GuestConfig:
        """The guest, checked.

        Raises:
            InvalidInput: anything that cannot be, with the way out.
        """
        if self["workload"] is not None and self["trace"] is not None:
            raise BadOption("a guest runs --workload or replays --trace, not both; drop one")
        self.check_hosts()
        if self["paging"] == Paging.HAP:
            self._check_hap()
        config = made(GuestConfig, {**self._settings(), **self._load()})
        if config.workload:
            check_working_set(config)
        return config

    def check_hosts(self) -> None:
        """Whether the hosts can be meant, and who we are there.

        Raises:
            BadOption: one host without the other, no address, a missing certificate, or plain
                text to another machine.
        """
        _check_addresses(self.source, self.dest)
        if self.source is not None:
            self.security().channel_credentials(self.source)

    def plan(self) -> Plan:
        """How it is moved, checked.

        Raises:
            InvalidInput: anything that cannot be.
        """
        values = self._settings()
        if values["kind"] != GuestKind.MODEL and values["clock"] != ClockName.REAL:
            raise BadOption(
                f"a guest of kind {values['kind']} runs by itself, in real time; add --clock real"
            )
        if values["clock"] == ClockName.REAL:
            # There the network is what it is.
            values = {name: value for name, value in values.items() if name not in _OF_A_LINK}
        return made(Plan, values)

    def _settings(self) -> dict[str, Any]:
        return {name: self[name] for name in SETTINGS}

    def _load(self) -> dict[str, str | None]:
        if self["trace"] is None:
            spec = self["workload"] or SETTINGS["workload"].otherwise
            return {"workload": canonical_spec(spec, self._link_bits_per_s()), "trace": None}
        return {"workload": None, "trace": self._trace(str(self["trace"]))}

    def _link_bits_per_s(self) -> int | None:
        """Of the modelled link; on the real clock nobody knows what the network carries."""
        real = self["clock"] == ClockName.REAL
        return None if real else int(self["link_bits_per_s"])

    def _trace(self, path: str) -> str:
        if self.source is not None:
            return path  # on a host elsewhere the path is that host's own
        # Here and not above: it imports pyarrow, and --help must not.
        from paging_core.traces.opening import check_reads, open_trace  # noqa: PLC0415

        with closing(open_trace(path)) as trace:
            if self["paging"] == Paging.SHADOW and self["kind"] == GuestKind.MODEL:
                check_reads(trace)
        return str(Path(path).resolve())

    def _check_hap(self) -> None:
        if self["group_scope"] == GroupScope.VIRTUAL:
            raise BadOption(
                "--group-scope virtual needs --paging shadow: a P2M knows no virtual addresses; "
                "use --group-scope physical"
            )
        for name, setting in SETTINGS.items():
            of_shadow = setting.paging == Paging.SHADOW and setting.is_option
            if of_shadow and self[name] != setting.default_value():
                raise BadOption(f"{setting.option} is about shadow pages and needs --paging shadow")

    def security(self) -> Security:
        """Who we are to the source host.

        Raises:
            BadOption: see `Security.of`.
        """
        if self.source is None:
            return THIS_MACHINE  # hosts of our own, on loopback
        return Security.of(Path(self.tls) if self.tls else None, insecure=self.insecure)

    def hosts(self) -> tuple[str | None, str | None, tuple[str, ...]]:
        """Where to migrate, as `pageferry.hosts.hosts` takes it."""
        own = ("--flow-dir", str(Path(self.flow).resolve())) if self.flow else ()
        return self.source, self.dest, own

    def _flow_directory(self) -> str:
        """As the source host takes it: on a host elsewhere the path is that host's own."""
        if self.flow is None:
            return ""
        return self.flow if self.source is not None else str(Path(self.flow).resolve())

    def migrate_request(self, guest_id: str, destination: str) -> pb.MigrateRequest:
        """What the source host is asked to do with the guest.

        Raises:
            InvalidInput: as `plan`.
        """
        request = request_of(self.plan())
        request.guest_id = guest_id
        request.destination = destination
        request.flow_directory = self._flow_directory()
        return request


_OF_A_LINK = frozenset(name for name, one in SETTINGS.items() if one.path == ("link",))


def _check_addresses(source: str | None, destination: str | None) -> None:
    """Both addresses or none, each of them an address.

    Raises:
        BadOption: one without the other, or not an address.
    """
    if (source is None) != (destination is None):
        raise BadOption(
            "--source and --dest go together: give both, or neither to start hosts on loopback"
        )
    for address in (source, destination):
        if address is not None:
            parse_address(address)

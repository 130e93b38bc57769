"""Where there is no KVM, one line says what is missing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from guests.kvm.device import check_machine, open_device
from guests.kvm.errors import CannotVirtualize


def test_no_device_names_the_module_and_the_container(tmp_path: Path) -> None:
    with pytest.raises(CannotVirtualize, match="kvm_intel") as raised:
        check_machine(tmp_path / "kvm")
    assert "\n" not in str(raised.value)
    assert "--device /dev/kvm" in str(raised.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open everything")
def test_a_device_that_may_not_be_opened_names_the_group(tmp_path: Path) -> None:
    device = tmp_path / "kvm"
    device.touch(mode=0)
    with pytest.raises(CannotVirtualize, match="usermod -aG kvm"):
        open_device(device)


def test_a_permission_that_is_missing_names_the_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(CannotVirtualize, match="usermod -aG kvm"):
        open_device(tmp_path / "kvm")


def test_another_file_is_not_taken_for_kvm_and_not_left_open(tmp_path: Path) -> None:
    device = tmp_path / "kvm"
    device.touch()
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(CannotVirtualize, match="is not KVM"):
        open_device(device)
    assert len(list(Path("/proc/self/fd").iterdir())) == before

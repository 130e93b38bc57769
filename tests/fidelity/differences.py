"""What is not the same on both sides of a round."""

from __future__ import annotations

from paging_core.log_dirty import frames_of
from tests.fidelity.pair import Counts, Seen

_SHOWN = 6


def differences(model: Seen, real: Seen) -> list[str]:
    """Every count, frame and entry that differs, in words; empty if nothing does."""
    found = _of_counts("running", model.ran, real.ran)
    found += _of_counts("cleaning", model.cleaned, real.cleaned)
    if model.entries != real.entries:
        found.append(f"{model.entries} entries in the model, {real.entries} really")
    for missing, here, there in (
        (real.dirty & ~model.dirty, "really", "in the model"),
        (model.dirty & ~real.dirty, "in the model", "really"),
    ):
        gfns = frames_of(missing)
        if len(gfns):
            some = ", ".join(map(str, gfns[:_SHOWN].tolist()))
            found.append(f"{len(gfns)} frames dirty {here} and not {there}: {some}")
    if model.false_count != real.false_count:
        found.append(f"{model.false_count} false in the model, {real.false_count} really")
    return found


def _of_counts(when: str, model: Counts, real: Counts) -> list[str]:
    assert model.keys() == real.keys()
    return [
        f"{when}: {name} {model[name]} in the model, {real[name]} really"
        for name in model
        if model[name] != real[name]
    ]

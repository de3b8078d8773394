"""What verifying found, as data: for cards, `front.json` and MLflow."""

from __future__ import annotations

from collections.abc import Sequence

from paredown.search.bundles.card import Measured, VerificationError, read_card
from paredown.search.study.bundle_check import BundleCheck
from paredown.search.study.evaluation import Evaluation, Goal
from paredown.search.study.front_measured import MeasuredFront, is_timed, measured_front
from paredown.search.study.pareto import Front, losses
from paredown.search.tracking.mlflow_models import LoggedBundle
from paredown.search.tracking.mlflow_text import LONGEST_TAG
from paredown.spaces.system.json_values import Json

MEASURED = "measured"
"""Entry of a card and of each member of `front.json`, and how names in MLflow begin."""


def record_on_card(check: BundleCheck) -> None:
    """Puts what was measured on the card and into the README of its bundle.

    A bundle without a complete card is left as it is: it was found broken already.
    """
    try:
        card = read_card(check.folder)
    except VerificationError:
        return
    card.with_measured(check).write(check.folder)


def latencies_outside(checks: Sequence[BundleCheck]) -> str:
    """How many measured latencies lie outside their intervals, in a sentence; "" where none does."""
    timed = [check for check in checks if is_timed(check)]
    outside = [check.key for check in timed if check.warnings]
    if not outside:
        return ""
    return (
        f"the measured latency of {len(outside)} of {len(timed)} models lies outside its predicted 95 % "
        f"interval ({', '.join(outside)}); of twenty right predictions one does"
    )


def member_json(
    member: Evaluation, check: BundleCheck | None, front: MeasuredFront
) -> dict[str, Json]:
    """A member of `front.json`: the evaluation, and under `measured` what verifying it found, or null."""
    measured: dict[str, Json] | None = None
    if check is not None:
        measured = Measured.of(check).to_json() | {
            "values": dict(front.values.get(member.key, {})) or None,
            "on_front": front.holds(member.key),
        }
    return member.to_json() | {MEASURED: measured}


def logged_bundles(
    front: Front, checks: Sequence[BundleCheck], register_as: str | None
) -> tuple[LoggedBundle, ...]:
    """What MLflow is given of every bundle: figures as metrics, words as tags, under `measured`.

    Args:
        register_as: The registered model; its alias goes to the best in the first goal that holds.
    """
    measured = measured_front(front.goals, front.members, checks)
    sound = {check.key for check in checks if not check.mismatches}
    best = first_choice([m for m in front.members if m.key in sound], front.goals)
    return tuple(
        LoggedBundle(
            key=check.key,
            folder=check.folder,
            holds=check.key in sound,
            metrics=_metrics(check),
            tags=_tags(check, measured.holds(check.key)),
            register_as=register_as,
            is_picked=best is not None and check.key == best.key,
        )
        for check in checks
    )


def first_choice(members: Sequence[Evaluation], goals: Sequence[Goal]) -> Evaluation | None:
    """The best in the first goal, among equals in the second, and so on; None of none."""
    return min(members, key=lambda member: losses(member, goals), default=None)


def _metrics(check: BundleCheck) -> dict[str, float]:
    found = {f"{MEASURED}/{name}": value for name, value in check.measured.items()}
    # Predicted with the card, and not among what the run has already.
    ratio = ("latency_ratio", "latency_ratio_low", "latency_ratio_high")
    return {name: check.predicted[name] for name in ratio if name in check.predicted} | found


def _tags(check: BundleCheck, is_on_front: bool | None) -> dict[str, str]:
    said = {
        "verdict": check.verdict,
        "kernels": ", ".join(f"{count} {name}" for name, count in sorted(check.kernels.items())),
        "on_front": {True: "true", False: "false", None: ""}[is_on_front],
        "warnings": "; ".join(check.warnings),
        "mismatches": "; ".join(check.mismatches),
        "unchecked": "; ".join(check.unchecked),
    }
    # An empty tag takes back what an earlier verification of the run left.
    return {f"{MEASURED}.{name}": text[:LONGEST_TAG] for name, text in said.items()}

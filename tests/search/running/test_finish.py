"""The front exported: one member that fails takes no other with it."""

import errno
from dataclasses import replace
from types import SimpleNamespace

import pytest

from paredown.search.running import finish
from paredown.search.running.finish import export_front
from paredown.search.study.bundle_check import BundleCheck
from paredown.search.study.evaluation import Failure, FailureKind
from paredown.search.study.pareto import front_of

NO_LOWERING = ZeroDivisionError("no lowering")


def made_up(folder):
    return BundleCheck(folder=folder, key=folder.name, predicted={}, measured={}, mismatches=())


@pytest.fixture
def exported(monkeypatch, tmp_path, goals, make_evaluations):
    """Runs `export_front` with exporting and verifying made up: what was given and what came out."""
    written, bases = [], []

    def run(evaluations, fails=(), error=NO_LOWERING):
        def export(workbench, member, folder, base, kept):
            bases.append(base)
            if member.key in fails:
                raise error
            return folder / member.key

        def verify_each(folders, source):
            for folder in folders:
                # Latencies are measured here, so nothing may be on its way to MLflow.
                assert written == ["all before"]
                yield made_up(folder)

        monkeypatch.setattr(finish, "export", export)
        monkeypatch.setattr(finish, "verify_each", verify_each)
        front = front_of(evaluations, goals)
        tracker = SimpleNamespace(
            drain=lambda: written.append("all before"),
            log_bundle=written.append,
        )
        ledger = SimpleNamespace(evaluations=list(evaluations), front=front, tracker=tracker)
        tracking = SimpleNamespace(register_as="digits")
        workbench = SimpleNamespace(config=SimpleNamespace(tracking=tracking))
        checks = list(export_front(workbench, ledger, tmp_path))
        return front, checks, written[1:], bases

    return run


def test_a_full_disk_ends_the_export(exported, goals, make_evaluations):
    evaluations = make_evaluations(30)
    victim = front_of(evaluations, goals).members[1].key
    with pytest.raises(OSError, match="no room"):
        exported(evaluations, fails={victim}, error=OSError(errno.ENOSPC, "no room"))


def test_a_member_that_cannot_be_exported_is_reported_and_the_others_are_verified(
    exported, goals, make_evaluations, tmp_path
):
    evaluations = make_evaluations(30)
    victim = front_of(evaluations, goals).members[1].key
    front, checks, logged, _ = exported(evaluations, fails={victim})
    assert {check.key for check in checks} == front.keys
    (broken,) = [check for check in checks if check.mismatches]
    assert broken.key == victim
    assert broken.folder == tmp_path / "bundles" / victim
    assert broken.mismatches == ("error: exporting it failed, ZeroDivisionError: no lowering",)
    assert {bundle.key for bundle in logged if bundle.holds} == front.keys - {victim}
    (lost,) = [bundle for bundle in logged if not bundle.holds]
    assert lost.key == victim
    assert lost.tags["measured.verdict"] == "mismatch"
    assert "no lowering" in lost.tags["measured.mismatches"]
    (picked,) = [bundle for bundle in logged if bundle.is_picked]
    sound = [member for member in front.members if member.key != victim]
    assert picked.key == max(sound, key=lambda member: member.metrics["accuracy"]).key
    assert picked.register_as == "digits"


def test_the_uncompressed_model_of_the_cards_is_one_that_was_scored(exported, make_evaluations):
    evaluations = make_evaluations(10)
    failed = replace(
        evaluations[0],
        number=10,
        metrics={},
        failure=Failure.of_text(FailureKind.RAISED, "lost"),
    )
    *_, bases = exported((*evaluations, failed))
    assert set(map(id, bases)) == {id(evaluations[0])}

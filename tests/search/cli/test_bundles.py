"""The commands that take models out of a run and hold them to their cards."""

import json
from dataclasses import dataclass, replace

import pytest

from paredown.search.running import delivering
from paredown.search.study.evaluation import Failure, FailureKind


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--pick", "accuracy >= 2, min onnx_bytes"], "the closest is"),
        (["--pick", "max beauty"], "beauty"),
        (["--candidate", "nothing"], "fits none"),
        (["--front", "--candidate", "a"], "got 2"),
        ([], "got 0"),
        (["--mlflow-run", "a"], "--mlflow-run alone"),
    ],
)
def test_an_export_that_cannot_be_is_told_before_anything_is_loaded(
    paredown, make_run, options, told
):
    done = paredown("export", make_run(), *options)
    assert done.exit_code == 2
    assert told in done.stderr
    assert "Traceback" not in done.output


def test_verifying_a_folder_that_is_no_bundle_is_told(paredown, tmp_path):
    done = paredown("verify", tmp_path)
    assert done.exit_code == 2
    assert "card.json" in done.stderr


def test_settings_go_with_a_config(paredown, tmp_path):
    done = paredown("verify", tmp_path, "--set", "name=a")
    assert done.exit_code == 2
    assert "add --config FILE" in done.stderr


@dataclass(frozen=True)
class Found:
    """What verifying a bundle found, as far as the command looks at it."""

    key: str
    ok: bool

    def to_json(self):
        return {"key": self.key, "holds": self.ok}


@pytest.mark.parametrize("broken", [[], ["b"], ["a", "b"]])
def test_verify_reports_every_bundle_and_fails_with_any(paredown, tmp_path, monkeypatch, broken):
    asked = []

    def verified(bundles, console, config, *, trusts_cards):
        asked.append(([path.name for path in bundles], config, trusts_cards))
        return [Found(path.name, path.name not in broken) for path in bundles]

    monkeypatch.setattr(delivering, "verify", verified)
    done = paredown("verify", tmp_path / "a", tmp_path / "b", "--json")
    assert asked == [(["a", "b"], None, False)]
    assert json.loads(done.stdout) == [
        {"key": key, "holds": key not in broken} for key in ("a", "b")
    ]
    assert done.exit_code == bool(broken)
    said = f"{len(broken)} of 2 bundles do not hold: {', '.join(broken)}"
    assert (said in " ".join(done.stderr.split())) is bool(broken)


def test_an_export_of_an_empty_front_is_exit_code_1(paredown, make_run):
    folder = make_run(
        change=lambda e: replace(
            e, metrics={}, failure=Failure(kind=FailureKind.RAISED, sentence="lost")
        )
    )
    done = paredown("export", folder, "--front")
    assert done.exit_code == 1
    assert "is on the front yet" in done.stderr

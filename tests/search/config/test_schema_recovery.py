"""The section `recovery` of the config, and what it refuses."""

from pathlib import Path

import pytest

from paredown.search.config.mistakes import ConfigError
from paredown.search.config.reading import load_config

CONFIG = """\
task: {{name: digits}}
goals: [{{metric: accuracy}}, {{metric: onnx_bytes}}]
recovery: {recovery}
"""


@pytest.fixture
def load(tmp_path):
    """(text of the section) -> the section as read."""

    def read(text: str):
        path = tmp_path / "config.yaml"
        path.write_text(CONFIG.format(recovery=text))
        return load_config(path).recovery

    return read


def test_without_the_section_nothing_is_trained(load):
    assert load("null") is None


def test_defaults_are_two_rungs_towards_the_uncompressed_answers(load):
    section = load("{}")
    assert [(r.steps, r.keep) for r in section.rungs] == [(150, 12), (600, 6)]
    assert section.recipe.loss.logits == 1
    assert section.recipe.loss.labels == 0


def test_earlier_runs_lie_where_runs_are_written(load, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert load("{prior: [runs/digits, /a/b]}").prior == (
        tmp_path / "here" / "runs" / "digits",
        Path("/a/b"),
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{rungs: [{steps: 10, keep: 2}, {steps: 10, keep: 4}]}", "fewer and fewer"),
        ("{rungs: []}", r"recovery\.rungs"),
        ("{recipe: {quantizer: magic}}", "'lsq', 'laq', 'sat' or 'frozen'"),
        ("{recipe: {augment: twirl}}", "package.module:function"),
        ("{recipe: {loss: {logits: 0}}}", "a part above 0"),
        ("{recipe: {lr: 3}}", r"recovery\.recipe\.lr"),
        ("{rungs: [{steps: 0, keep: 2}]}", "steps"),
        ("{prior: runs/digits}", r"recovery\.prior"),
        ("{prior: [runs/a, old/runs/a]}", r"recovery\.prior .*may be given once.* delete one"),
    ],
)
def test_mistakes_name_rule_and_path(load, text, says):
    with pytest.raises(ConfigError, match=says):
        load(text)

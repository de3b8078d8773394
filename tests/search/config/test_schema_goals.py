"""The goals of a config: each with the direction and the bound that make sense for its metric."""

import pytest

from paredown.search.config.reading import load_config


@pytest.mark.parametrize(
    ("goals", "path", "says"),
    [
        ("[{metric: accuracy}]", "goals ", "at least two"),
        ("[{metric: macs}, {metric: macs}]", "goals ", "'macs'"),
        ("[{metric: speed}, {metric: macs}]", "goals[0].direction", "metric of your own"),
        ("[{metric: latency}, {metric: macs}]", "goals[0].direction", "did you mean 'latency_s'?"),
        ("[{metric: mean_iou}, {metric: macs}]", "goals[0].metric", "accuracy"),
        ("[{metric: accuracy, at_most: 0.9}, {metric: macs}]", "goals[0] ", "at_least"),
        ("[{metric: accuracy, at_least: 88}, {metric: macs}]", "goals[0] ", "0.88"),
        ("[{metric: macs, direction: maximize}, {metric: bops}]", "goals[0] ", "minimized"),
        ("[{metric: macs, relative: true}, {metric: bops}]", "goals[0] ", "at_most"),
        ("[{metric: macs, at_most: -1}, {metric: bops}]", "goals[0] ", "above 0"),
        ("[{metric: macs, at_most: .nan}, {metric: bops}]", "goals[0].at_most", "finite"),
    ],
)
def test_goals_must_make_sense(write_config, goals, path, says, mistakes):
    message = mistakes(write_config(f"task: {{name: digits}}\ngoals: {goals}\n"))
    assert f"  {path}" in message
    assert says in message


@pytest.mark.parametrize(
    ("goal", "direction", "bound"),
    [
        ("metric: accuracy, at_least: 0.88", "maximize", 0.88),
        ("metric: accuracy, at_least: -0.02, relative: true", "maximize", -0.02),
        ("metric: loss", "minimize", None),
        ("metric: onnx_bytes, at_most: 0.25, relative: true", "minimize", 0.25),
    ],
)
def test_a_goal_has_its_direction_and_its_bound(write_config, goal, direction, bound):
    path = write_config(f"task: {{name: digits}}\ngoals: [{{{goal}}}, {{metric: macs}}]\n")
    found, _ = load_config(path).goals
    assert (found.direction, found.bound) == (direction, bound)

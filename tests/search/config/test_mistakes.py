"""Mistakes in a config: each is told with its place, the rule, the value and the remedy."""

import pytest

MINIMAL = """
task: {name: digits}
goals: [{metric: accuracy}, {metric: onnx_bytes}]
"""


@pytest.mark.parametrize(
    ("section", "path", "says"),
    [
        ("serch: {}", "serch (line 4)", "did you mean 'search'?"),
        ("search: {evaluation: 3}", "search.evaluation (line 4)", "did you mean 'evaluations'?"),
        ("search: {workers: 0}", "search.workers (line 4)", "got 0"),
        ("search: {sampler: nsga}", "search.sampler", "'nsga2'"),
        ("search: {sampler: ladder}", "search.sampler", "pareto takes the place of ladder"),
        ("search: {evaluations: many}", "search.evaluations", "write a whole number"),
        ("space: {rules: [{layers: a, weight_bits: [7]}]}", "space.rules[0].weight_bits[0]", "7"),
        (
            "space: {rules: [{layers: a, sparsity: [0, 1]}]}",
            "space.rules[0].sparsity[1]",
            "[0, 1)",
        ),
        (
            "space: {rules: [{layers: a, rank_error: [0.1, 1.0]}]}",
            "space.rules[0].rank_error[1]",
            "(0, 1)",
        ),
        (
            "space: {rules: [{layers: a, rank_error: [0]}]}",
            "space.rules[0].rank_error[0]",
            "got 0",
        ),
        ("space: {rules: [{layer: a}]}", "space.rules[0]", "exactly one of layers"),
        ("space: {rules: [{layers: a, groups: b}]}", "space.rules[0]", "exactly one of layers"),
        ("space: {rules: [{layers: a, widht: [1]}]}", "space.rules[0].widht", "known here"),
        ("space: {rules: [{blocks: a, drop: 1, drp: 1}]}", "space.rules[0].drp", "'drop'"),
        ("space: {rules: [{groups: a}]}", "space.rules[0].width", "required"),
        (
            "space: {rules: [{layers: a, weight_bits: []}]}",
            "space.rules[0].weight_bits",
            "at least",
        ),
        ("space: {rules: [{groups: a, width: [1, 1]}]}", "space.rules[0].width", "once"),
        ("space: {architectures: {a: {model: x}}}", "space.architectures.a.model", "cifar10"),
        ("task: {name: mnist}", "task.name", "must be 'digits', 'cifar10', 'custom' or 'hf'"),
        ("hardware: {device: mine.yaml}", "hardware.device", "none at"),
        ("name: a b", "name", "letters"),
        ("output: 3", "output", "mapping"),
    ],
)
def test_a_mistake_names_its_path_and_its_remedy(write_config, section, path, says, mistakes):
    key = section.partition(":")[0]
    others = [line for line in MINIMAL.splitlines() if not line.startswith(f"{key}:")]
    message = mistakes(write_config("\n".join([*others, section])))
    assert "one mistake" in message
    assert f"  {path}" in message
    assert says in message


def test_every_mistake_is_listed_at_once(write_config, mistakes):
    message = mistakes(write_config(f"{MINIMAL}search: {{workers: 0, batch: 0}}\nname: '?'\n"))
    assert "3 mistakes" in message
    assert len(message.splitlines()) == 4


def test_a_missing_file_is_named_with_its_whole_path(write_config, tmp_path, mistakes):
    text = (
        "task: {name: cifar10, weights: no.safetensors}\ngoals: [{metric: loss}, {metric: macs}]"
    )
    message = mistakes(write_config(text))
    assert "task.weights (line 1)" in message
    assert str(tmp_path / "no.safetensors") in message


@pytest.mark.parametrize(
    "override", ["search.seed", "=3", "goals[7].metric=a", "task.name.x=1", "a..b=1", "name=[1"]
)
def test_an_override_that_fits_nowhere_is_refused(write_config, override, mistakes):
    assert "--set" in mistakes(write_config(MINIMAL), override)


def test_an_override_is_checked_like_the_file(write_config, mistakes):
    assert "search.seeds" in mistakes(write_config(MINIMAL), "search.seeds=3")


@pytest.mark.parametrize("override", ["goals[1].metric=7", "goals.1.metric=7", "goals[1]=7"])
def test_a_mistake_of_an_override_names_no_line_of_the_file(write_config, override, mistakes):
    path = write_config(MINIMAL)
    assert "config.yaml with --set has one mistake" in mistakes(path, override)
    assert "(line" not in mistakes(path, override)
    assert "(line 4)" in mistakes(write_config(f"{MINIMAL}serch: 1\n"), override)


@pytest.mark.parametrize("text", ["", "- a", "a: [", "a: 1\nb: !!python/object:os.system x"])
def test_what_is_no_yaml_mapping_is_refused(write_config, text, mistakes):
    assert "config.yaml" in mistakes(write_config(text))


def test_a_key_given_twice_is_refused(write_config, mistakes):
    assert "task (line 4): is given twice" in mistakes(
        write_config(f"{MINIMAL}task: {{name: digits}}\n")
    )


def test_a_config_that_is_not_there_is_refused(tmp_path, mistakes):
    assert "readable" in mistakes(tmp_path / "none.yaml")

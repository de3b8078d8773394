"""The device to compute on: what a name means, and one sentence where it is not there."""

import pytest
import torch

from paredown.search.config.reading import ConfigError, load_config
from paredown.search.config.schema import SearchSection
from paredown.search.evaluating.computing_device import (
    ComputingDeviceError,
    computing_device,
    has_bfloat16,
    prepare_process,
)
from paredown.search.evaluating.surveying import survey

CONFIG = """\
task: {name: digits}
goals: [{metric: accuracy}, {metric: onnx_bytes}]
"""


@pytest.fixture
def gpus(monkeypatch):
    """Makes torch say that it sees so many GPUs."""

    def see(count):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)

    return see


@pytest.mark.parametrize(
    ("name", "count", "device"),
    [
        ("cpu", 0, "cpu"),
        ("cpu", 2, "cpu"),
        ("auto", 0, "cpu"),
        ("auto", 1, "cuda"),
        ("cuda", 1, "cuda"),
        ("cuda:1", 2, "cuda:1"),
    ],
)
def test_a_name_is_a_device(gpus, name, count, device):
    gpus(count)
    assert computing_device(SearchSection(device=name)) == torch.device(device)


@pytest.mark.parametrize(("name", "count"), [("cuda", 0), ("cuda:0", 0), ("cuda:1", 1)])
def test_a_gpu_that_torch_does_not_see_is_refused_with_the_remedy(gpus, name, count):
    gpus(count)
    said = rf"search\.device must be .*, got {name}; torch .* sees {count} GPUs.*set it to auto or cpu"
    with pytest.raises(ComputingDeviceError, match=said):
        computing_device(SearchSection(device=name))


def test_it_is_refused_before_the_model_is_read(gpus, tmp_path, monkeypatch):
    gpus(0)
    path = tmp_path / "digits.yaml"
    path.write_text(CONFIG)
    monkeypatch.setattr("paredown.search.evaluating.surveying.load_task", lambda _: 1 / 0)
    with pytest.raises(ComputingDeviceError):
        survey(load_config(path, ["search.device=cuda"]))


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["search.device=gpu"], r"search\.device.*must be cpu, cuda, cuda:1"),
        (["search.device=cuda:x"], r"search\.device"),
        (["search.device=cuda:1"], r"search\.device.*with engine ray.*must be cuda"),
        (
            ["search.device=cuda", "search.gpus_per_worker=0"],
            r"search\.gpus_per_worker.*above 0.*delete it",
        ),
        (["search.gpus_per_worker=1.5"], r"search\.gpus_per_worker.*at most 1, or a whole number"),
        (["search.gpus_per_worker=-1"], r"search\.gpus_per_worker"),
    ],
)
def test_what_cannot_be_is_refused_in_the_config(tmp_path, overrides, says):
    path = tmp_path / "digits.yaml"
    path.write_text(CONFIG)
    with pytest.raises(ConfigError, match=says):
        load_config(path, overrides)


def test_a_numbered_gpu_is_for_the_local_engine(tmp_path):
    path = tmp_path / "digits.yaml"
    path.write_text(CONFIG)
    found = load_config(path, ["search.device=cuda:1", "search.engine=local"])
    assert found.search.device == "cuda:1"


def test_a_process_on_the_cpu_keeps_its_arithmetic():
    before = torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()
    prepare_process(torch.device("cpu"), before[1])
    assert (torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()) == before


def test_a_process_on_a_gpu_computes_float32_in_float32_and_repeatably():
    before = torch.backends.cudnn.allow_tf32, torch.get_num_threads()
    try:
        prepare_process(torch.device("cuda"), before[1])
        assert not torch.backends.cudnn.allow_tf32
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.allow_tf32 = before[0]


@pytest.mark.parametrize("able", [{"avx512_bf16": True}, {"bf16": True}, {"amx_bf16": False}, {}])
def test_bfloat16_is_for_processors_with_its_instructions(monkeypatch, able):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    assert has_bfloat16(torch.device("cpu")) == any(able.values())

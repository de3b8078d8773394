"""The user's module without its wrappers, in float32 and with numbers for weights."""

import math

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from paredown.search.config.reading import load_config
from paredown.search.tasks.own_module import (
    ModuleError,
    check_values,
    fit_module,
    load_weights,
    without_wrappers,
)
from paredown.search.tasks.task import load_task


def test_a_factory_that_returns_no_module_is_named(tmp_path, clean_imports):
    (tmp_path / "mine.py").write_text(
        "import torch\ndef model(): return 3\n"
        "def data():\n    pair = torch.ones(4, 1), torch.ones(4)\n"
        "    return {'train': pair, 'search': pair, 'test': pair}\n"
    )
    path = tmp_path / "c.yaml"
    path.write_text(
        "task: {name: custom, model: 'mine:model', data: 'mine:data'}\n"
        "goals: [{metric: accuracy}, {metric: macs}]\n"
    )
    with pytest.raises(ModuleError, match=r"must return an nn\.Module, got int"):
        load_task(load_config(path))


class Compiled(nn.Module):
    """As torch.compile leaves a module; the compiler itself takes seconds to load."""

    def __init__(self, inner):
        super().__init__()
        self._orig_mod = inner


def test_the_network_inside_its_wrappers_is_taken():
    plain = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5))
    wrapped = nn.DataParallel(Compiled(nn.DataParallel(plain)))
    module, notices = fit_module(wrapped, "task.model: mine:model")
    assert module is plain
    assert not module.training
    (notice,) = notices
    assert "DataParallel and torch.compile and DataParallel" in notice
    assert fit_module(plain, "task.model: mine:model") == (plain, [])


def test_half_precision_is_taken_as_float32_with_a_notice():
    weight = torch.randn(3, 4)
    net = nn.Linear(4, 3).half()
    net.weight.data = weight.half()
    module, notices = fit_module(net, "m")
    assert module.weight.dtype == torch.float32
    assert torch.equal(module.weight, weight.half().float())
    assert notices == ["m: tensors of float16 are taken as float32"]


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (None, "got None; return the network itself"),
        (nn.Linear, "got the class Linear"),
        (torch.jit.script(nn.Linear(2, 2)), "got a TorchScript one"),
        (nn.LazyLinear(2), "got the lazy weight"),
        (nn.Linear(2, 2, device="meta"), "got weight on the meta device"),
    ],
    ids=["none", "class", "script", "lazy", "meta"],
)
def test_what_is_no_network_with_values_is_refused_with_a_remedy(made, said):
    with pytest.raises(ModuleError, match=said):
        fit_module(made, "m")


def test_weights_must_be_numbers_but_a_mask_of_infinities_is_one():
    net = nn.Linear(2, 2)
    net.register_buffer("mask", torch.tensor([0.0, -math.inf]))
    check_values(net, "m")
    net.mask[0] = math.nan
    with pytest.raises(ModuleError, match="got 1 of 2 in mask"):
        check_values(net, "m")
    net.mask[0] = 0.0
    net.weight.data[0] = math.inf
    with pytest.raises(ModuleError, match="got 2 of 4 in weight"):
        check_values(net, "m")


def test_names_of_a_wrapped_file_find_their_tensors_and_others_stay():
    tensors = {
        name: torch.full((1,), i)
        for i, name in enumerate(("module._orig_mod.a", "module.b", "module.c", "d"))
    }
    # "module.b" is what the network itself calls it; "c" it does not have.
    found = without_wrappers(tensors, {"a", "module.b", "d"})
    assert {name: int(t) for name, t in found.items()} == {
        "a": 0, "module.b": 1, "module.c": 2, "d": 3
    }  # fmt: skip


def test_weights_must_fit(tmp_path):
    path = tmp_path / "w.safetensors"
    save_file({"weight": torch.ones(2, 3), "bias": torch.ones(2)}, path)
    layer = nn.Linear(3, 2)
    load_weights(layer, path)
    assert layer.weight.sum() == 6
    with pytest.raises(
        ModuleError, match=r"must fit Linear, got size mismatch for weight.*kwargs"
    ):
        load_weights(nn.Linear(4, 2), path)
    with pytest.raises(ModuleError, match=r"mismatch.* and 1 more; check") as told:
        load_weights(nn.Linear(4, 5), path)
    assert "\n" not in str(told.value)
    with pytest.raises(ModuleError, match="1 unknown"):
        load_weights(nn.Linear(3, 2, bias=False), path)
    save_file({"weight": torch.ones(2), "bias": torch.ones(2)}, path)
    with pytest.raises(ModuleError, match="2 missing"):  # the two running statistics
        load_weights(nn.BatchNorm1d(2), path)
    path.write_bytes(b"no weights")
    with pytest.raises(ModuleError, match="safetensors"):
        load_weights(layer, path)


def test_a_shared_tensor_that_save_model_left_out_is_not_missing(tmp_path):
    tied = nn.ModuleDict({"a": nn.Linear(3, 3), "b": nn.Linear(3, 3)})
    tied["b"].weight = tied["a"].weight
    state = {name: t for name, t in tied.state_dict().items() if name != "b.weight"}
    save_file(state, tmp_path / "w.safetensors")
    load_weights(tied, tmp_path / "w.safetensors")

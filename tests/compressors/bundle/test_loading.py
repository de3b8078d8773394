"""A bundle runs without its training code, as the original ran, and takes the same inputs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from paredown.compressors.bundle.loading import BundleError, digest_of, load, load_model
from paredown.compressors.bundle.writing import write_bundle, write_card
from paredown.spaces.candidates.candidate import Candidate, LayerChoice

CANDIDATE = Candidate.of(layers={"linear": LayerChoice(weight_bits=8)})


CARD = {"accuracy": 0.91, "predicted": {"latency_s": 0.00123}, "device": "a|b"}


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(4, 3)
        self.e = nn.Embedding(10, 4)

    def forward(self, x: Tensor, ids: Tensor) -> dict[str, Tensor]:
        return {"u": self.a(x) + self.a(self.e(ids)).mean(1), "v": (x * 2).sum(1)}


class Pair(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x + 1, x * 2


def test_a_loaded_module_gives_back_what_the_original_gave(tmp_path: Path, identity) -> None:
    original = Two()
    ids, x = torch.randint(0, 10, (3, 6)), torch.randn(3, 4)
    model = identity(original, {"x": x, "ids": ids})
    module = load(write_bundle(tmp_path / "b", model, CANDIDATE, CARD))
    expected = original(x, ids)
    for found in (module(x, ids), module(x=x, ids=ids), module(x, ids=ids)):
        assert list(found) == ["u", "v"]
        assert all(torch.allclose(found[k], expected[k], atol=1e-6) for k in expected)
    assert not list(module.parameters())
    assert {b.device.type for b in module.to("meta").buffers()} == {"meta"}


def test_a_tuple_comes_back_as_a_tuple_and_a_tensor_bare(
    tmp_path: Path, identity, resnet_model
) -> None:
    x = torch.randn(2, 5)
    found = load(write_bundle(tmp_path / "pair", identity(Pair(), x), CANDIDATE, CARD))(x)
    assert isinstance(found, tuple)
    assert torch.equal(found[1], x * 2)
    image = torch.randn(5, 3, 32, 32)
    bare = load(write_bundle(tmp_path / "r", resnet_model, CANDIDATE, CARD))(image)
    assert torch.equal(bare, resnet_model([image])[0])


def test_wrong_inputs_are_named(tmp_path: Path, identity) -> None:
    x = torch.randn(2, 5)
    module = load(write_bundle(tmp_path / "pair", identity(Pair(), x), CANDIDATE, CARD))
    with pytest.raises(BundleError, match="takes the inputs x"):
        module(y=x)


def test_an_operator_that_is_not_allowed_is_refused(tmp_path: Path, identity) -> None:
    x = torch.randn(2, 5)
    folder = write_bundle(tmp_path / "pair", identity(Pair(), x), CANDIDATE, CARD)
    data = json.loads((folder / "graph.json").read_text())
    data["graph"]["nodes"][0]["op"] = "os.system"
    (folder / "graph.json").write_text(json.dumps(data))
    with pytest.raises(BundleError, match=r"os\.system"):
        load(folder)


def test_a_bundle_without_its_card_is_read_and_beside_it_nothing_may_differ(
    tmp_path: Path, identity
) -> None:
    x = torch.randn(2, 5)
    folder = write_bundle(tmp_path / "b", identity(Pair(), x), CANDIDATE, CARD)
    tensors, graph = (digest_of(folder / name) for name in ("model.safetensors", "graph.json"))
    write_card(folder, {"files": {"model.safetensors": tensors, "graph.json": graph}})
    assert torch.equal(load(folder)(x)[0], x + 1)
    write_card(folder, {"files": {"model.safetensors": tensors, "graph.json": tensors}})
    with pytest.raises(BundleError, match=r"graph\.json is another file than the one that card"):
        load(folder)
    (folder / "card.json").unlink()
    assert torch.equal(load(folder)(x)[0], x + 1)


def test_a_digest_is_that_of_sha256sum(tmp_path: Path) -> None:
    # FIPS 180-2, appendix B.1.
    (tmp_path / "abc").write_bytes(b"abc")
    wanted = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert digest_of(tmp_path / "abc") == wanted


@pytest.mark.parametrize("name", ["graph.json", "model.safetensors"])
def test_a_folder_that_lacks_a_file_is_no_bundle(tmp_path: Path, identity, name: str) -> None:
    folder = write_bundle(tmp_path / "b", identity(Pair(), torch.randn(2, 5)), CANDIDATE, CARD)
    (folder / name).unlink()
    with pytest.raises(BundleError, match="give a bundle's folder"):
        load_model(folder)

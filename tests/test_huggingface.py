"""Transformers of Hugging Face as they are, from the capture to the files: nothing is named but configs.

Small networks made from their configs, each compressed in several ways; what its bundle gives is held
against our own run at a batch, a padding and lengths other than the example's.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from paredown.compressors.bundle.loading import load_model
from paredown.compressors.bundle.writing import write_bundle
from paredown.compressors.kernels.kernel_checks import fallbacks, promises, session
from paredown.compressors.layers.database import Database
from paredown.compressors.models.assembling import assemble, needs_refit, settle
from paredown.compressors.models.refit import DenseOutputs
from paredown.compressors.onnx.sizes import onnx_file_bytes, packed_file_bytes
from paredown.compressors.statistics.calibration import CalibrationData, calibrate
from paredown.compressors.storage.compressed import CompressedModel
from paredown.search.evaluating.runtime_outputs import run_onnx
from paredown.spaces.candidates.candidate import Candidate, LayerChoice, Ranges, SegmentChoice
from paredown.spaces.candidates.drafting import draft
from paredown.spaces.capture.capturing import Captured, as_inputs, capture
from paredown.spaces.capture.hold import difference, disagreement, module_outputs, run_graph
from paredown.spaces.knobs.architecture import Architecture
from paredown.spaces.knobs.canonical_form import canonical
from paredown.spaces.structure.model_map import ChannelGroup, ModelMap
from paredown.spaces.structure.reading import read_model_map

pytestmark = pytest.mark.models
hf = pytest.importorskip("transformers", reason="the library transformers is not installed")

_TEXT = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "vocab_size": 100,
    "max_position_embeddings": 64,
}
_IMAGE = {**_TEXT, "image_size": 32, "patch_size": 8}
_SHARED = {**_TEXT, "num_key_value_heads": 2}


class Case(NamedTuple):
    """A class of the library, the class and arguments of its config, and the shape of a row."""

    model: str
    config: str
    arguments: Mapping[str, Any]
    row: tuple[int, ...] = (12,)
    inputs: str = "input_ids"


CASES = {
    "bert": Case("BertForSequenceClassification", "BertConfig", _TEXT),
    "distilbert": Case(
        "DistilBertForSequenceClassification",
        "DistilBertConfig",
        {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "vocab_size": 100},
    ),
    "roberta": Case(
        "RobertaForSequenceClassification", "RobertaConfig", {**_TEXT, "type_vocab_size": 1}
    ),
    "albert": Case(
        "AlbertForSequenceClassification", "AlbertConfig", {**_TEXT, "embedding_size": 16}
    ),
    "vit": Case("ViTForImageClassification", "ViTConfig", _IMAGE, (3, 32, 32), "pixel_values"),
    "deit": Case("DeiTForImageClassification", "DeiTConfig", _IMAGE, (3, 32, 32), "pixel_values"),
    "swin": Case(
        "SwinForImageClassification",
        "SwinConfig",
        {
            "image_size": 32,
            "patch_size": 4,
            "embed_dim": 16,
            "depths": [2, 2],
            "num_heads": [2, 4],
            "window_size": 4,
        },
        (3, 32, 32),
        "pixel_values",
    ),
    "gpt2": Case(
        "GPT2LMHeadModel",
        "GPT2Config",
        {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 100, "n_positions": 64},
    ),
    "llama": Case("LlamaForCausalLM", "LlamaConfig", _SHARED),
    "qwen": Case("Qwen2ForCausalLM", "Qwen2Config", _SHARED),
    "t5": Case(
        "T5EncoderModel",
        "T5Config",
        {"d_model": 32, "d_ff": 64, "num_layers": 2, "num_heads": 4, "d_kv": 8, "vocab_size": 100},
    ),
    "whisper": Case(
        "models.whisper.modeling_whisper.WhisperEncoder",
        "WhisperConfig",
        {
            "d_model": 32,
            "encoder_layers": 2,
            "encoder_attention_heads": 4,
            "encoder_ffn_dim": 64,
            "num_mel_bins": 20,
            "max_source_positions": 25,
        },
        (20, 50),
        "input_features",
    ),
    "wav2vec2": Case(
        "Wav2Vec2ForSequenceClassification",
        "Wav2Vec2Config",
        {
            **_TEXT,
            "conv_dim": (32,) * 7,
            "num_conv_pos_embeddings": 16,
            "num_conv_pos_embedding_groups": 4,
        },
        (2000,),
        "input_values",
    ),
}
READS_TEXT = [name for name, case in CASES.items() if case.inputs == "input_ids"]
HEADS = dict.fromkeys(CASES, 2) | {"albert": 1, "t5": 1, "swin": 4}
"""Groups of heads: one a layer; T5's share a bias, and ALBERT's two layers their weights."""
HIDDEN = {**HEADS, "t5": 2}
"""Groups of hidden units: one an MLP."""
_EXAMPLE_ROWS = 2
_LENGTHS = (2, 64)


class Way(NamedTuple):
    """A way to compress: bits of all weights and activations, and which groups keep half."""

    weight_bits: int = 32
    activation_bits: int = 32
    ranges: Ranges = "static"
    narrows: tuple[str, ...] = ()


WAYS = {
    "uniform 8": Way(8, 8),
    "uniform 8 by range": Way(8, 8, "dynamic"),
    "uniform 4": Way(4),
    "half the heads": Way(narrows=("heads",)),
    "half the hidden units": Way(narrows=("hidden",)),
    "half of both in 4 bits": Way(4, narrows=("heads", "hidden")),
    "half of both in 8 bits": Way(8, 8, narrows=("heads", "hidden")),
}


@dataclass(frozen=True, kw_only=True)
class Family:
    """A network as it is and as it was read, and what calibration found."""

    case: Case
    module: nn.Module
    captured: Captured
    model_map: ModelMap
    database: Database
    calibration: list[Tensor]

    def groups(self, kind: str) -> tuple[ChannelGroup, ...]:
        """The groups of heads, or of hidden units of MLPs, whose widths stand in the configs."""
        heads = tuple(group for group in self.model_map.groups if group.entries > 1)
        if kind == "heads":
            return heads
        wide = [g for g in self.model_map.groups if g.channels in (64, 128) and g not in heads]
        return tuple(wide)

    def compressed(self, way: Way) -> tuple[Candidate, CompressedModel]:
        """The candidate and its model, as a search makes and settles them."""
        method = "gptq" if way.weight_bits < 8 else "rtn"
        layer = LayerChoice(weight_bits=way.weight_bits, method=method)
        segment = SegmentChoice(activation_bits=way.activation_bits, ranges=way.ranges)
        narrowed = [group for kind in way.narrows for group in self.groups(kind)]
        candidate = canonical(
            Architecture(name="", model_map=self.model_map, knobs=()),
            Candidate.of(
                layers={each.name: layer for each in self.model_map.layers},
                segments={each.name: segment for each in self.model_map.segments},
                widths={group.name: group.channels // 2 for group in narrowed},
            ),
        )
        model = assemble(candidate, self.database)
        if needs_refit(candidate):
            dense = DenseOutputs(self.database, self.calibration)
            model = settle(model, candidate, self.database, dense)
        return candidate, model


@functools.cache
def _family(name: str) -> Family:
    case, module = CASES[name], _built(CASES[name])
    lengths = _LENGTHS if name in READS_TEXT else None
    captured = capture(module, _batch(case, _EXAMPLE_ROWS), lengths)
    captured = replace(captured, graph=replace(captured.graph, any_batch=True))
    model_map = read_model_map(captured)
    rows = as_inputs(captured.graph, _batch(case, 12))
    data = CalibrationData(
        batches=[rows], targets=[torch.zeros(1)], loss=_squared, loss_digest="", seed=0
    )
    found = calibrate(captured.graph, captured.tensors, model_map.layers, data, None)
    return Family(
        case=case,
        module=module,
        captured=captured,
        model_map=model_map,
        database=Database(model_map, captured.tensors, found.statistics, found.ranges),
        calibration=rows,
    )


def _squared(outputs: tuple[Tensor, ...], _: object) -> Tensor:
    return sum((output.square().sum() for output in outputs), torch.zeros(()))


def _built(case: Case) -> nn.Module:
    torch.manual_seed(0)
    found: Any = hf
    for part in case.model.split("."):
        found = getattr(found, part)
    module: nn.Module = found(getattr(hf, case.config)(**case.arguments))
    return module.eval()


def _batch(case: Case, rows: int, length: int | None = None) -> dict[str, Tensor]:
    """Rows of random values; of text the first is padded."""
    if case.inputs != "input_ids":
        return {case.inputs: torch.randn(rows, *case.row)}
    shape = (rows, length or case.row[0])
    mask = torch.ones(shape, dtype=torch.int64)
    mask[0, -3:] = 0
    return {"input_ids": torch.randint(3, 100, shape), "attention_mask": mask}


def _batches(family: Family) -> list[dict[str, Tensor]]:
    """Rows as many as in the example, more and fewer; of text also shorter and longer."""
    sizes: list[tuple[int, int | None]] = [(_EXAMPLE_ROWS, None), (3, None), (1, None)]
    if family.captured.graph.timed:
        sizes += [(3, 7), (2, 40)]
    torch.manual_seed(1)
    return [_batch(family.case, *size) for size in sizes]


@pytest.mark.parametrize("name", CASES)
def test_a_transformer_is_captured_as_it_is(name: str) -> None:
    family = _family(name)
    for batch in _batches(family):
        wanted = module_outputs(family.module, batch)
        assert disagreement(wanted, run_graph(family.captured, batch)) is None


@pytest.mark.parametrize("name", CASES)
def test_heads_and_hidden_units_are_groups_of_their_own(name: str) -> None:
    family = _family(name)
    assert len(family.groups("heads")) == HEADS[name]
    assert len(family.groups("hidden")) == HIDDEN[name]


@pytest.mark.parametrize("name", [name for name in CASES if name != "albert"])
def test_every_part_has_a_segment_of_its_own(name: str) -> None:
    """Attention and MLP can each have a precision, but where layers take turns with a weight."""
    family = _family(name)
    places = family.model_map.segment_of_node
    nodes = {x.name: x.node for x in family.model_map.layers}
    parts = [
        {places[nodes[layer]] for layer in (*group.producers, *group.consumers)}
        for kind in ("heads", "hidden")
        for group in family.groups(kind)
    ]
    assert all(not one & other for i, one in enumerate(parts) for other in parts[:i])


@pytest.mark.parametrize("name", CASES)
def test_the_uncompressed_file_is_the_module(name: str, tmp_path: Path) -> None:
    family = _family(name)
    folder = write_bundle(tmp_path / "b", assemble(Candidate(), family.database), Candidate(), {})
    running, graph = session(folder / "model.onnx", exact=True), family.captured.graph
    for batch in _batches(family):
        found = run_onnx(running, graph, as_inputs(graph, batch))
        assert disagreement(module_outputs(family.module, batch), found) is None


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", CASES)
def test_a_compressed_transformer_goes_to_files_that_run(
    name: str, way: str, tmp_path: Path
) -> None:
    family = _family(name)
    candidate, model = family.compressed(WAYS[way])
    priced, graph = draft(family.model_map, candidate), model.blueprint.graph
    folder = write_bundle(tmp_path / "bundle", model, candidate, {})
    onnx_path = folder / "model.onnx"
    assert onnx_path.stat().st_size == onnx_file_bytes(priced)
    assert (folder / "model.safetensors").stat().st_size == packed_file_bytes(priced)
    assert fallbacks(onnx_path, promises(model.blueprint)) == ()

    loaded, running = load_model(folder), session(onnx_path, exact=True)
    # Codes on the border between two tip either way.
    limit = 1e-4 if WAYS[way].activation_bits == 32 else 0.05
    for batch in _batches(family):
        inputs = as_inputs(graph, batch)
        with torch.no_grad():
            ours, again = model(inputs), loaded(inputs)
        found = run_onnx(running, graph, inputs)
        assert disagreement(ours, again, same_call=True) is None
        assert max(map(difference, ours, found)) <= limit


@pytest.mark.parametrize("name", CASES)
def test_eight_bits_are_nearer_than_four(name: str) -> None:
    family = _family(name)
    models = [family.compressed(WAYS[way])[1] for way in ("uniform 8", "uniform 4")]
    off = [0.0, 0.0]
    for batch in _batches(family):
        wanted = module_outputs(family.module, batch)
        for place, model in enumerate(models):
            with torch.no_grad():
                found = model(as_inputs(model.blueprint.graph, batch))
            pairs = zip(wanted, found, strict=True)
            off[place] += sum(float((a - b).square().sum()) for a, b in pairs)
    assert 0 < off[0] < off[1]

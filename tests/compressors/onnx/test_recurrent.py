"""Recurrent layers in ONNX Runtime against the model that was assembled, and their size as claimed."""

from collections import Counter

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn

from paredown.compressors.kernels.kernel_checks import kernels
from paredown.compressors.layers.database import Database
from paredown.compressors.models.assembling import assemble
from paredown.compressors.onnx.lowering import lower
from paredown.compressors.onnx.sizes import onnx_file_bytes
from paredown.compressors.statistics.layer_statistics import collect_statistics
from paredown.compressors.storage.compressed import CompressedModel
from paredown.spaces.candidates.candidate import Candidate, LayerChoice, SegmentChoice
from paredown.spaces.candidates.ranks import Rank
from paredown.spaces.capture import capture
from paredown.spaces.structure import read_model_map

FLOAT = SegmentChoice()
DYNAMIC = SegmentChoice(activation_bits=8, ranges="dynamic")


class Classifier(nn.Module):
    """A recurrent module over time, its last states read by a linear layer."""

    def __init__(self, kind: type[nn.RNNBase], **options) -> None:
        super().__init__()
        self.recurrent = kind(5, 8, batch_first=True, **options)
        self.head = nn.Linear(16 if options.get("bidirectional") else 8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.recurrent(x)[0][:, -1])


NETWORKS = {
    "lstm": (nn.LSTM, {}),
    "lstm of two layers and directions": (nn.LSTM, {"num_layers": 2, "bidirectional": True}),
    "lstm without biases": (nn.LSTM, {"bias": False}),
    "gru": (nn.GRU, {"num_layers": 2}),
    "rnn": (nn.RNN, {"bidirectional": True}),
    "rnn with relu": (nn.RNN, {"nonlinearity": "relu"}),
}


@pytest.fixture(scope="module", params=NETWORKS.values(), ids=NETWORKS.keys())
def database(request: pytest.FixtureRequest) -> Database:
    torch.manual_seed(0)
    kind, options = request.param
    captured = capture(Classifier(kind, **options).eval(), torch.randn(1, 6, 5))
    model_map = read_model_map(captured)
    batches = [[torch.randn(16, 6, 5)]]
    statistics = collect_statistics(captured.graph, captured.tensors, model_map.layers, batches)
    return Database(model_map, captured.tensors, statistics, {})


def candidate(
    database: Database, segment: SegmentChoice, width: int | None, **choice
) -> Candidate:
    model_map = database.model_map
    return Candidate.of(
        layers={layer.name: LayerChoice(**choice) for layer in model_map.layers},
        segments={each.name: segment for each in model_map.segments},
        widths={} if width is None else {group.name: width for group in model_map.groups},
    )


def outputs(model: CompressedModel, x: Tensor) -> tuple[np.ndarray, bytes]:
    file = lower(model).SerializeToString()
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x.numpy()})[0], file


@pytest.mark.parametrize("segment", [FLOAT, DYNAMIC], ids=["float", "dynamic"])
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 32])
@pytest.mark.parametrize("width", [None, 4])
def test_the_runtime_gives_what_was_scored(
    database: Database, segment: SegmentChoice, bits: int, width: int | None
) -> None:
    model = assemble(candidate(database, segment, width, weight_bits=bits), database)
    x = torch.randn(1, 6, 5)
    given, file = outputs(model, x)
    with torch.no_grad():
        np.testing.assert_allclose(given, model([x])[0].numpy(), atol=2e-6)
    assert len(file) == onnx_file_bytes(model.blueprint)


@pytest.mark.parametrize("choice", [{"rank": Rank(0.5)}, {"group_size": 4, "method": "descent"}])
def test_low_rank_and_groups_of_columns(database: Database, choice) -> None:
    model = assemble(candidate(database, FLOAT, None, weight_bits=4, **choice), database)
    x = torch.randn(1, 6, 5)
    with torch.no_grad():
        np.testing.assert_allclose(outputs(model, x)[0], model([x])[0].numpy(), atol=2e-6)


def test_one_operator_of_the_runtime_holds_gates_and_steps(database: Database) -> None:
    steps = sum(layer.kind == "recurrent" for layer in database.model_map.layers)
    is_lstm = any(
        layer.finds_range for layer in database.model_map.layers if layer.kind == "recurrent"
    )
    for segment, kinds in ((FLOAT, {"LSTM", "GRU", "RNN"}), (DYNAMIC, {"DynamicQuantizeLSTM"})):
        model = assemble(candidate(database, segment, None, weight_bits=8), database)
        found = kernels(lower(model).SerializeToString())
        is_expected = segment is FLOAT or is_lstm
        assert sum(Counter(found)[kind] for kind in kinds) == (steps if is_expected else 0)
        assert found["MatMul"] == 0  # no gates beside the operator


def test_an_lstm_of_one_float_matrix_stays_float(database: Database) -> None:
    model_map = database.model_map
    layers = {
        layer.name: LayerChoice(weight_bits=8 if layer.kind == "linear" else 32)
        for layer in model_map.layers
    }
    segments = {each.name: DYNAMIC for each in model_map.segments}
    model = assemble(Candidate.of(layers=layers, segments=segments), database)
    x = torch.randn(1, 6, 5)
    given, file = outputs(model, x)
    assert kernels(file)["DynamicQuantizeLSTM"] == 0
    with torch.no_grad():
        np.testing.assert_allclose(given, model([x])[0].numpy(), atol=2e-6)

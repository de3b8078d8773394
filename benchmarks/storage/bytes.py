"""Predicted bytes against written files, ONNX and packed, on every network of the tests.

    python benchmarks/storage/bytes.py [--candidates 20] [NAME ...]

Per network: candidates; the largest difference of any tensor's payload (codes, scales, zero points,
biases, indices), of a whole ONNX file and of a whole packed file, all in bytes; and the largest
graph overhead: what an ONNX file holds beside its tensors. Predictions are made before any tensor
exists. Exit code 1 if a byte is off, or ResNet-20's overhead exceeds 10 kB.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch
from networks import load_tests
from safetensors.numpy import load_file

from paredown.compressors.layers import Database
from paredown.compressors.models import assemble
from paredown.compressors.onnx import lower, onnx_file_bytes, packed_file_bytes, plan_of
from paredown.compressors.storage import CompressedModel, write_packed
from paredown.spaces.candidates import Candidate, draft
from paredown.spaces.capture import as_inputs, capture
from paredown.spaces.structure import ModelMap, read_model_map

MOST_OVERHEAD_BYTES = 10_000
"""Of ResNet-20's ONNX file."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Bytes by which one candidate's files miss their prediction, and its graph overhead."""

    payload: int
    onnx: int
    packed: int
    overhead: int


def compare(model_map: ModelMap, database: Database, candidate: Candidate) -> Difference:
    """What is predicted from the candidate's structure against what is written."""
    blueprint = draft(model_map, candidate)
    predicted = {i.name: i.payload_bytes for i in plan_of(blueprint).initialisers}
    onnx_bytes, packed_bytes = onnx_file_bytes(blueprint), packed_file_bytes(blueprint)
    model = assemble(candidate, database)
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "model.onnx"
        written.write_bytes(lower(model).SerializeToString())
        packed = Path(folder) / "model.safetensors"
        write_packed(packed, model.stored)
        tensors = {i.name: len(i.raw_data) for i in onnx.load(written).graph.initializer}
        payload = sum(tensors.values())
        return Difference(
            payload=max(_differences(predicted, tensors), default=0)
            + _packed_payload(model, packed),
            onnx=abs(written.stat().st_size - onnx_bytes),
            packed=abs(packed.stat().st_size - packed_bytes),
            overhead=written.stat().st_size - payload,
        )


def _differences(predicted: dict[str, int], written: dict[str, int]) -> Iterator[int]:
    for name in predicted.keys() | written.keys():
        yield abs(predicted.get(name, 0) - written.get(name, 0))


def _packed_payload(model: CompressedModel, path: Path) -> int:
    """Bytes by which the arrays of the packed file miss what their storage says."""
    written = sum(array.nbytes for array in load_file(path).values())
    return abs(written - sum(storage.packed_bytes for storage in model.blueprint.storage.values()))


def main() -> int:
    """Prints a line per network; returns the exit code."""
    zoo, chain = load_tests("zoo"), load_tests("chain")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(zoo.ZOO))
    parser.add_argument("--candidates", type=int, default=20)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'':18}{'candidates':>11}{'payload':>9}{'ONNX':>9}{'packed':>9}{'overhead':>10}")
    failed = False
    for name in arguments.names or list(zoo.ZOO):
        build, example = zoo.ZOO[name]
        captured = capture(build(), example(1))
        model_map = read_model_map(captured)
        database = chain.make_database(captured, model_map, as_inputs(captured.graph, example(8)))
        drawn = [chain.random_candidate(model_map, s, None) for s in range(arguments.candidates)]
        found = [compare(model_map, database, candidate) for candidate in drawn]
        worst = [max(getattr(d, field) for d in found) for field in ("payload", "onnx", "packed")]
        overhead = max(d.overhead for d in found)
        print(
            f"{name:18}{len(found):11}{worst[0]:9}{worst[1]:9}{worst[2]:9}{overhead:10}",
            flush=True,
        )
        failed |= any(worst) or (name == "resnet20" and overhead > MOST_OVERHEAD_BYTES)
    print("A prediction failed." if failed else "Every byte was predicted.")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

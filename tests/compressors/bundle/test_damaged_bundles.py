"""Any damaged or hostile bundle is refused as one: `load` raises BundleError and nothing else."""

from __future__ import annotations

import copy
import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from paredown.compressors.bundle.loading import BundleError, digest_of, load
from paredown.compressors.bundle.writing import write_bundle, write_card
from paredown.spaces.candidates.candidate import Candidate

FILES = ("graph.json", "model.safetensors")
ABSURD: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 10**12, 2**63 - 1, 10**30, 1.5, float("nan"), "", "x", [], {}),
    *("../../../etc/passwd", [10**9, 10**9], "aten.nope.default", "aten.add.Tensor"),
    *({"float": "nan"}, {"ref": "nobody"}, {"dtype": "load"}, {"batch": 10**12}, {"a": 1, "b": 2}),
)
Change = Callable[[Any], None]


@pytest.fixture(scope="module")
def written(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Callable[[Any], Path]:
    made: dict[int, Path] = {}

    def write(model: Any) -> Path:
        if id(model) not in made:
            folder = tmp_path_factory.mktemp("bundle") / "key"
            made[id(model)] = write_bundle(folder, model, Candidate(), {"key": "key"})
        return made[id(model)]

    return write


@pytest.fixture
def bundle(tmp_path: Path, written, resnet_model, with_weights, with_codes) -> Path:
    """A copy of a bundle of 4-bit weights and 8-bit activations."""
    torch.manual_seed(0)
    model = with_codes(with_weights(resnet_model, 4, "int4"), torch.randn(2, 3, 32, 32))
    return Path(shutil.copytree(written(model), tmp_path / "copy"))


def _loads_or_is_refused(folder: Path) -> bool:
    """Whether it loads: then it runs too."""
    try:
        module = load(folder)
    except BundleError:
        return False
    graph = module.graph
    rows = [
        torch.zeros(s, dtype=getattr(torch, d))
        for s, d in zip(graph.input_shapes, graph.input_dtypes, strict=True)
    ]
    with torch.no_grad():
        module(*rows)
    return True


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    keys: Any = ()
    if isinstance(value, dict):
        keys = value
    elif isinstance(value, list):
        keys = range(len(value))
    for key in keys:
        yield from _places(value[key], (*path, key))


def _holder(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path[:-1]:
        value = value[key]
    return value


def _mutated(value: Any, chance: random.Random) -> Any:
    """The value with one part left out, replaced by something absurd, or moved."""
    changed = copy.deepcopy(value)
    places = list(_places(changed))
    path = chance.choice(places)
    holder = _holder(changed, path)
    match chance.choice(("drop", "replace", "replace", "take")):
        case "drop":
            del holder[path[-1]]
        case "replace":
            holder[path[-1]] = chance.choice(ABSURD)
        case "take":
            other = chance.choice(places)
            holder[path[-1]] = copy.deepcopy(_holder(value, other)[other[-1]])
    return changed


def _edit_header(path: Path, edit: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.dumps(edit(json.loads(data[8 : 8 + length]))).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + data[8 + length :])


def _edit_storage(path: Path, edit: Callable[[Any], Any]) -> None:
    def inside(header: dict[str, Any]) -> dict[str, Any]:
        described = json.loads(header["__metadata__"]["paredown"])
        header["__metadata__"]["paredown"] = json.dumps(edit(described))
        return header

    _edit_header(path, inside)


def _edit_graph(folder: Path, change: Change) -> None:
    path = folder / "graph.json"
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def test_the_bundle_itself_loads(bundle: Path) -> None:
    assert _loads_or_is_refused(bundle)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("what", ["bits", "length", "graph", "storage", "header"])
def test_a_damaged_bundle_without_a_card_is_refused_or_runs(
    bundle: Path, what: str, seed: int
) -> None:
    (bundle / "card.json").unlink()
    chance = random.Random(f"{what} {seed}")
    whole = {name: (bundle / name).read_bytes() for name in FILES}
    refused = 0
    for _ in range(15):
        for name, data in whole.items():
            (bundle / name).write_bytes(data)
        path = bundle / chance.choice(FILES)
        tensors = bundle / "model.safetensors"
        if what == "bits":
            damaged = bytearray(path.read_bytes())
            damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
            path.write_bytes(damaged)
        elif what == "length":
            path.write_bytes(path.read_bytes()[: chance.randrange(len(whole[path.name]))])
        elif what == "graph":
            graph = _mutated(json.loads(whole["graph.json"]), chance)
            (bundle / "graph.json").write_text(json.dumps(graph))
        elif what == "storage":
            _edit_storage(tensors, lambda storage: _mutated(storage, chance))
        else:
            _edit_header(tensors, lambda header: _mutated(header, chance))
        refused += not _loads_or_is_refused(bundle)
    # A bit of a weight is another weight: only the card's digest shows it.
    assert refused >= (15 if what == "length" else 8 if what != "bits" else 1)


@pytest.mark.parametrize("name", FILES)
def test_beside_its_card_no_flipped_bit_of_a_bundle_loads(bundle: Path, name: str) -> None:
    card = {"key": "key", "files": {name: digest_of(bundle / name) for name in FILES}}
    write_card(bundle, card)
    assert _loads_or_is_refused(bundle)
    whole = (bundle / name).read_bytes()
    for position in random.Random(0).sample(range(len(whole)), 60):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        (bundle / name).write_bytes(damaged)
        with pytest.raises(BundleError, match=f"{name} is another file"):
            load(bundle)


def test_a_damaged_card_is_not_believed(bundle: Path) -> None:
    path = bundle / "card.json"
    path.write_text(path.read_text().replace('"key": "key"', '"key": "kex"'))
    with pytest.raises(BundleError, match="does not match its digest"):
        load(bundle)


def _node(data: Any, op: str) -> Any:
    return next(n for n in data["graph"]["nodes"] if n["op"].startswith(op))


def _relu(data: Any) -> Any:
    return _node(data, "aten.relu")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda d: _relu(d).update(args=[{"ref": d["graph"]["outputs"][0]}]), "not there yet"),
        (lambda d: d["graph"]["nodes"].append(d["graph"]["nodes"][0]), "there twice"),
        (lambda d: d["graph"]["nodes"].reverse(), "not there yet"),
        (lambda d: _relu(d).update(op="os.system"), "not allowed"),
        (lambda d: _relu(d).update(args=[{"ref": "/etc/passwd"}]), "lacks the tensors"),
        (lambda d: _relu(d).update(shape=[1, 2, 3]), "must give"),
        (lambda d: _node(d, "aten.conv2d")["args"].__setitem__(3, [0, 0]), "does not fit"),
        (lambda d: _node(d, "paredown.")["args"].__setitem__(1, {"float": "nan"}), "8-bit codes"),
        (lambda d: _node(d, "paredown.")["args"].__setitem__(1, {"float": "inf"}), "8-bit codes"),
        (lambda d: _node(d, "paredown.")["args"].__setitem__(1, -0.5), "8-bit codes"),
        (lambda d: d["graph"].update(input_shapes=[[2, 3, 10**6, 10**6]]), "no input has the shape"),
        (lambda d: d["graph"].update(outputs=[]), "outputs must be"),
        (lambda d: d["operators"][0].update(weight="nobody"), "no node or no tensor"),
        (lambda d: d["operators"][0].pop("part"), "operators: 0.part"),
        (lambda d: d["operators"][0].update(part="0"), "operators: 0.part"),
    ],
)  # fmt: skip
def test_a_graph_that_cannot_be_run_names_what_is_wrong(
    bundle: Path, change: Change, reason: str
) -> None:
    _edit_graph(bundle, change)
    with pytest.raises(BundleError, match=reason):
        load(bundle)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.25, 0.0])
def test_scales_that_are_no_scales_are_refused(bundle: Path, value: float) -> None:
    path = bundle / "model.safetensors"
    data = bytearray(path.read_bytes())
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    start, end = next(v["data_offsets"] for k, v in header.items() if k.endswith(".scale"))
    begin = 8 + length + start
    data[begin : begin + 4] = torch.tensor([value]).numpy().tobytes()
    path.write_bytes(data)
    assert end - start >= 4
    with pytest.raises(BundleError, match="scales must be above zero"):
        load(bundle)


@pytest.mark.parametrize("index", ["csr", "block", "bitmap", "2:4", "none"])
@pytest.mark.parametrize("shape", [[1, 10**12], [10**12, 1], [10**6, 10**6], [2**62, 2**62, 4]])
def test_a_tensor_larger_than_its_file_is_refused_before_it_is_made(
    bundle: Path, shape: list[int], index: str
) -> None:
    def enlarge(storage: Any) -> Any:
        name = next(n for n, brief in storage.items() if brief.get("bits"))
        return storage | {name: storage[name] | {"shape": shape, "kept": 0, "index": index}}

    _edit_storage(bundle / "model.safetensors", enlarge)
    with pytest.raises(BundleError, match=r"must fit their file|contradicts itself"):
        load(bundle)


def test_deep_json_is_refused(bundle: Path) -> None:
    (bundle / "graph.json").write_text('{"graph": ' * 5000 + "1" + "}" * 5000)
    with pytest.raises(BundleError, match="64 levels"):
        load(bundle)

"""A bundle: one exported candidate in a folder, complete and readable.

model.onnx is what runs, model.safetensors the truly packed tensors, graph.json the operators that
read them, candidate.json the choices, card.json what was predicted and measured, README.md all of
it for people.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

from paredown.compressors.bundle.loading import CARD_FILE, GRAPH_FILE, TENSORS_FILE, BundleError
from paredown.compressors.models.codes import fit_biases
from paredown.compressors.onnx.lowering import lower, output_names
from paredown.compressors.storage.compressed import CompressedModel
from paredown.compressors.storage.packing import write_packed
from paredown.spaces.candidates.candidate import Candidate
from paredown.spaces.graph.graph_json import to_json
from paredown.spaces.system.foreign_text import as_code, as_code_block, as_markdown
from paredown.spaces.system.json_values import Json
from paredown.spaces.system.sealed import write_sealed
from paredown.spaces.system.whole_file import write_text_whole

ONNX_FILE = "model.onnx"
CANDIDATE_FILE = "candidate.json"
README_FILE = "README.md"

_FIGURES, _RUN = "## Figures\n\n", "\n\n## Run it\n"
_NO_FIGURES = ("files", "config_yaml")
_README = """# {title}

{summary}

| file | holds |
|---|---|
| `model.onnx` | {onnx_bytes:,} bytes: opset {opset}, batch size {batch}; runs in ONNX Runtime |
| `model.safetensors` | {packed_bytes:,} bytes: packed codes, scales and indices |
| `graph.json` | the operators that read the packed tensors |
| `candidate.json` | what was chosen for every layer |
| `card.json` | the figures below |

## Figures

{figures}

## Run it

With ONNX Runtime:

{run_it}

The outputs are {outputs}. As a PyTorch module, without the code it was trained with:

```python
from paredown.search import load

model = load(".")
```
"""


_RUN_IT = """import numpy as np
import onnxruntime as ort

session = ort.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
outputs = session.run(None, {{{feeds}}})"""


def write_bundle(
    folder: Path | str, model: CompressedModel, candidate: Candidate, card: Mapping[str, Json]
) -> Path:
    """Writes all files of a bundle, or none: they appear under `folder` in one step.

    An older bundle in `folder` is replaced.

    Raises:
        BundleError: `folder` holds something that is not a bundle.
        ExportError: An operator has no ONNX lowering.
    """
    model = fit_biases(model)  # both files hold the same codes
    target = Path(folder).absolute()
    with _staged(target) as staging:
        _write_files(staging, model, candidate, card)
    return target


@contextlib.contextmanager
def _staged(target: Path) -> Iterator[Path]:
    """A folder to fill, put in the place of `target` if nothing goes wrong."""
    if target.exists() and any(target.iterdir()) and not (target / CARD_FILE).is_file():
        raise BundleError(f"{target} is not empty and holds no bundle; choose another folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        yield staging
        staging.chmod(0o755)  # mkdtemp makes it private
        _put_in_place(staging, target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def write_card(folder: Path, card: Mapping[str, Json]) -> None:
    """Replaces the card of the bundle in `folder`, in one step, and the figures in its README."""
    write_sealed(folder / CARD_FILE, card, indent=2)
    readme = folder / README_FILE
    if readme.is_file():
        head, _, rest = readme.read_text(encoding="utf-8").partition(_FIGURES)
        _, end, tail = rest.partition(_RUN)
        figures = {name: entry for name, entry in card.items() if name not in _NO_FIGURES}
        write_text_whole(readme, f"{head}{_FIGURES}{_figures(figures)}{end}{tail}")


def copy_bundle(source: Path, folder: Path) -> Path:
    """A copy of the bundle in `source`, under `folder` in one step; an older one is replaced.

    Raises:
        BundleError: `folder` holds something that is not a bundle.
    """
    target = folder.absolute()
    with _staged(target) as staging:
        shutil.copytree(source, staging, dirs_exist_ok=True)
    return target


def _write_files(
    folder: Path, model: CompressedModel, candidate: Candidate, card: Mapping[str, Json]
) -> None:
    proto = lower(model)
    (folder / ONNX_FILE).write_bytes(proto.SerializeToString())
    write_packed(folder / TENSORS_FILE, model.stored)
    operators = [asdict(operator) for operator in model.blueprint.operators]
    graph: Mapping[str, Json] = {
        "graph": to_json(model.blueprint.graph),
        "operators": operators,
    }
    _write_json(folder / GRAPH_FILE, graph, indent=None)
    _write_json(folder / CANDIDATE_FILE, candidate.to_json(), indent=2)
    write_card(folder, card)
    text = _readme(folder, model, candidate, card, proto.opset_import[0].version)
    (folder / README_FILE).write_text(text, encoding="utf-8")


def _put_in_place(staging: Path, target: Path) -> None:
    if not target.exists():
        staging.rename(target)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{target.name}-old-", dir=target.parent))
    os.replace(target, old)  # onto an empty folder, so one step
    staging.rename(target)
    shutil.rmtree(old)


def _readme(
    folder: Path,
    model: CompressedModel,
    candidate: Candidate,
    card: Mapping[str, Json],
    opset: int,
) -> str:
    graph = model.blueprint.graph
    named = (
        f" (architecture {as_markdown(candidate.architecture)})" if candidate.architecture else ""
    )
    choices = len(candidate.layers) + len(candidate.widths) + len(candidate.dropped)
    feeds = ", ".join(
        f"{json.dumps(name)}: np.zeros({shape}, np.{dtype})"
        for name, shape, dtype in zip(
            graph.inputs, graph.input_shapes, graph.input_dtypes, strict=True
        )
    )
    return _README.format(
        title=f"Candidate {candidate.key}",
        summary=f"A compressed network of {len(model.blueprint.operators)} layers{named}, found "
        f"by paredown: {choices} choices differ from the uncompressed network.",
        onnx_bytes=(folder / ONNX_FILE).stat().st_size,
        packed_bytes=(folder / TENSORS_FILE).stat().st_size,
        opset=opset,
        batch=graph.batch_size,
        figures=_figures(card),
        run_it=as_code_block(_RUN_IT.format(feeds=feeds), "python"),
        outputs=", ".join(map(as_code, output_names(graph))),
    )


def _figures(card: Mapping[str, Json]) -> str:
    rows = [f"| {as_markdown(key)} | {_shown(value)} |" for key, value in _flat(card)]
    return "\n".join(("| figure | value |", "|---|---|", *rows)) if rows else "None were recorded."


def _flat(card: Mapping[str, Json], prefix: str = "") -> list[tuple[str, Json]]:
    found: list[tuple[str, Json]] = []
    for key, value in card.items():
        if isinstance(value, Mapping):
            found += _flat(value, f"{prefix}{key}.")
        else:
            found.append((f"{prefix}{key}", value))
    return found


def _shown(value: Json) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return _shown("; ".join(map(str, value)) or "none")
    return as_markdown(str(value))


def _write_json(path: Path, data: Json, indent: int | None) -> None:
    separators = (",", ":") if indent is None else None
    text = json.dumps(data, indent=indent, separators=separators, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")

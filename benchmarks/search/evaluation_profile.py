"""Where the time of one evaluation goes, phase by phase and operator by operator.

    python benchmarks/search/evaluation_profile.py CONFIG

Prices, assembles, restores and scores three candidates of the config's space on one thread and prints
seconds of processor time for each phase, then for each operator of the scoring pass.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch

from paredown.compressors.models import DenseOutputs, assemble, settle
from paredown.compressors.storage import CompressedModel
from paredown.search.calibrating import uniform
from paredown.search.config import load_config
from paredown.search.evaluating import Workbench, channels_last, prepare
from paredown.spaces.candidates import Candidate
from paredown.spaces.capture import as_inputs
from paredown.spaces.graph import Node


def timed(action: Callable[[], Any]) -> tuple[Any, float]:
    """A result and the processor seconds it took."""
    started = time.process_time()
    result = action()
    return result, time.process_time() - started


def by_operator(workbench: Workbench, model: CompressedModel, rows: int) -> Counter[str]:
    """Processor seconds of the scoring pass by operator."""
    spent: Counter[str] = Counter()
    last = time.process_time()

    def note(node: Node, _: tuple[Any, ...], output: Any) -> Any:
        nonlocal last
        now = time.process_time()
        spent[node.op] += now - last
        last = now
        return output

    with torch.no_grad():
        for inputs, _ in workbench.task.splits.search.batches(32, rows):
            prepared = [channels_last(x) for x in as_inputs(model.blueprint.graph, inputs)]
            last = time.process_time()
            model(prepared, after=note)
    return spent


def main() -> None:
    """Prints two lines for each of three candidates."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config")
    config = parser.parse_args().config
    torch.set_num_threads(1)
    workbench, preparing = timed(lambda: prepare(load_config(config)))
    rows = min(workbench.config.search.rung_images, len(workbench.task.splits.search))
    print(f"prepare {preparing:.2f} s; scoring on {rows} rows, one thread, processor seconds")
    name = workbench.space.architectures[0].name
    candidates = {
        "uncompressed": Candidate(architecture=name),
        "uniform 8-bit": uniform(workbench.space, name, 8),
        "uniform 2-bit": uniform(workbench.space, name, 2),
    }
    dense = DenseOutputs(workbench.databases[name], workbench.evaluator.calibration)
    for label, candidate in candidates.items():
        database = workbench.databases[name]
        _, pricing = timed(lambda c=candidate: workbench.price(c))
        _, first = timed(lambda c=candidate, d=database: assemble(c, d))
        model, again = timed(lambda c=candidate, d=database: assemble(c, d))
        _, settling = timed(lambda m=model, c=candidate, d=database: settle(m, c, d, dense))
        _, scoring = timed(lambda m=model: workbench.evaluator.score(m, rows))
        print(
            f"{label:14s} price {pricing:.4f}  assemble first {first:.3f}, again {again:.3f}  "
            f"settle {settling:.3f}  score {scoring:.3f}"
        )
        total = by_operator(workbench, model, rows)
        top = ", ".join(
            f"{op.removeprefix('aten.')} {seconds / total.total():.0%}"
            for op, seconds in total.most_common(5)
        )
        print(f"{'':14s} {top}")


if __name__ == "__main__":
    main()

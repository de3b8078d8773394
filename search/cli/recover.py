"""The command `paredown recover`: a model of a run trained further."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from paredown.search.cli.application import results
from paredown.search.cli.bundles import CandidateKey, Pick, conclude
from paredown.search.cli.endings import mistake

RECOVER_EXAMPLES = (
    'paredown recover runs/digits --pick "onnx_bytes <= 0.1x" --steps 300',
    'paredown recover runs/digits --candidate 3f2a --set "recovery={recipe: {lr: 0.001}}"',
)


def recover(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    pick: Pick = None,
    candidate: CandidateKey = None,
    steps: Annotated[int, typer.Option(min=1, help="Batches to train for.")] = 500,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the bundle; by default RUN/recovered.")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="A.B=C", help="Replace a setting of the run's config."),
    ] = None,
) -> None:
    """Train a model of a run further, write it as a bundle and verify it.

    How it is trained is what the config's `recovery.recipe` says, or its defaults. The run's journal and
    front stay as they are.
    """
    if (pick is None) == (candidate is None):
        raise mistake("recover takes one of --pick and --candidate; see: paredown recover --help")
    from paredown.search.bundles.recovering import recover as train
    from paredown.search.config.reading import load_config
    from paredown.search.running.delivering import verify
    from paredown.search.study.display import show
    from paredown.search.study.run_record import CONFIG, read_run

    record = read_run(run)
    config = load_config(record.folder / CONFIG, overrides or ())
    chosen = record.picked(pick) if pick is not None else record.with_key(candidate or "")
    console = results()
    with console.working(f"training {chosen.key} for {steps:,} steps"):
        found = train(record, chosen, config, steps, out or record.folder / "recovered")
    metric = config.task.metric_name
    for name in dict.fromkeys((metric, "loss")):
        before, after = (show(name, e.metrics[name]) for e in (found.before, found.after))
        console.print(f"{name} on the search split: {before} before, {after} after")
    if len(found.after.curve) and min(found.after.curve, key=lambda p: p[2])[0] == 0:
        console.print(
            "no state on the way was better on held-out rows than the start, which is what was kept; "
            "try more steps, or another recovery.recipe.lr"
        )
    conclude(verify([found.bundle], console, config))

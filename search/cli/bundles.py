"""The commands `paredown export` and `paredown verify`: models out of a run, and held to their word."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from paredown.search.cli.application import AsJson, results
from paredown.search.cli.endings import failure, mistake, print_json

if TYPE_CHECKING:
    from paredown.search.study.bundle_check import BundleCheck
    from paredown.search.study.evaluation import Evaluation

EXPORT_EXAMPLES = (
    'paredown export runs/digits --pick "onnx_bytes <= 10kB, latency <= 20us"',
    "paredown export runs/digits --candidate 3f2a --out model",
    "paredown export runs/digits --front",
    "paredown export --mlflow-run 5cceb83f4e684d8694cd515740ec27b9",
)
VERIFY_EXAMPLES = (
    "paredown verify runs/digits/bundles/*",
    "paredown verify received/3f2a --config my.yaml --set task.data_kwargs.folder=/data",
)


OptionalRun = Annotated[Path | None, typer.Argument(metavar="RUN", help="A run folder.")]
Pick = Annotated[
    str | None, typer.Option(help="Conditions, and what decides among the models that meet them.")
]
CandidateKey = Annotated[
    str | None, typer.Option(metavar="KEY", help="A model by its key, or how the key begins.")
]
WholeFront = Annotated[bool, typer.Option("--front", help="Every model of the front.")]
MlflowRun = Annotated[
    str | None, typer.Option(metavar="ID", help="What was picked in MLflow's page.")
]
Store = Annotated[
    str | None, typer.Option(help="MLflow's store; by default those of runs/ are looked at.")
]
BundlesFolder = Annotated[
    Path | None, typer.Option(help="Folder of the bundles; by default RUN/bundles.")
]


def export(
    run: OptionalRun = None,
    pick: Pick = None,
    candidate: CandidateKey = None,
    whole_front: WholeFront = False,
    mlflow_run: MlflowRun = None,
    uri: Store = None,
    out: BundlesFolder = None,
) -> None:
    """Write a model as a bundle (ONNX, packed weights, card) and verify it.

    A bundle that the search wrote is taken as it is, if it is whole.
    """
    given = sum((pick is not None, candidate is not None, whole_front, mlflow_run is not None))
    if given != 1 or (run is None) != (mlflow_run is not None):
        raise mistake(
            "export takes a run folder and one of --pick, --candidate, --front, or else "
            f"--mlflow-run alone, got {given} of them; see: paredown export --help"
        )
    from paredown.search.running.delivering import announce_picked, deliver, find_mlflow_run
    from paredown.search.study.run_record import BUNDLES, read_run

    if mlflow_run is not None:
        run, candidate = find_mlflow_run(mlflow_run, uri)
    assert run is not None
    record = read_run(run)
    chosen: tuple[Evaluation, ...] = record.front.members
    if pick is not None:
        chosen = (record.picked(pick),)
    elif candidate is not None:
        chosen = (record.with_key(candidate),)
    if not chosen:
        raise failure(f"no model of {run} is on the front yet")
    console = results()
    found = deliver(record, chosen, out or run / BUNDLES, console)
    if not whole_front:
        announce_picked(record, found[0], console)
    conclude(found)


def verify(
    bundles: Annotated[list[Path], typer.Argument(metavar="BUNDLE", help="Bundle folders.")],
    config: Annotated[
        Path | None, typer.Option(help="Your own config: its task, not that of the cards.")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="A.B=C", help="Replace a setting of --config."),
    ] = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Run the code that the cards name.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Re-open bundles in a fresh process and hold them against their cards.

    A latency outside its 95 % interval is a warning: one in twenty right predictions is.

    Code that a card names runs only if the bundle lies in its run's folder, or with --trust.
    """
    if overrides and config is None:
        raise mistake("--set replaces settings of a config, got none; add --config FILE")
    from paredown.search.config.reading import load_config

    own = None if config is None else load_config(config, overrides or ())
    from paredown.search.running.delivering import verify as verify_bundles

    console = results(hidden=as_json)
    found = verify_bundles(bundles, console, own, trusts_cards=trust)
    if as_json:
        print_json([check.to_json() for check in found])
    conclude(found)


def conclude(found: Sequence[BundleCheck]) -> None:
    """Ends the command with an error where a bundle does not hold."""
    broken = [check.key for check in found if not check.ok]
    if broken:
        raise failure(f"{len(broken)} of {len(found)} bundles do not hold: {', '.join(broken)}")

"""Takes picked models out of a run: rebuilds the workbench, writes bundles, verifies them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from paredown.compressors.bundle.writing import CARD_FILE
from paredown.search.bundles.card import VerificationError
from paredown.search.bundles.measured import record_on_card
from paredown.search.config.schema import Config
from paredown.search.report.tables import plain_table
from paredown.search.report.terminal import Terminal, styled
from paredown.search.study.bundle_check import BundleCheck
from paredown.search.study.display import show, title_of, unit_of
from paredown.search.study.evaluation import Evaluation
from paredown.search.study.run_record import BUNDLES, CONFIG, LATENCY, TRAINED, RunRecord
from paredown.search.tracking.mlflow_models import PICKED, register_picked
from paredown.search.tracking.mlflow_store import TrackingError, default_uri, find_run

_RUNS = Path("runs")


def find_mlflow_run(run_id: str, uri: str | None) -> tuple[Path, str]:
    """Run folder and candidate key of an MLflow run.

    Args:
        uri: The store; else MLFLOW_TRACKING_URI, else the stores of all runs below runs/.

    Raises:
        TrackingError: No such run is in these stores.
    """
    uri = uri or os.environ.get("MLFLOW_TRACKING_URI")
    if uri:
        return find_run(uri, run_id)
    stores = sorted(_RUNS.glob("*/mlflow.db"))
    for store in stores:
        try:
            return find_run(default_uri(store.parent), run_id)
        except TrackingError as error:
            refusal = error
            if len(stores) == 1:
                raise
    told = f" (the last one: {refusal})" if stores else ""
    raise TrackingError(
        f"the MLflow run must be in a store below {_RUNS}/, got {run_id}, which is in none of "
        f"{len(stores)}{told}; name the store with --uri, as sqlite:///path/to/mlflow.db"
    )


def deliver(
    record: RunRecord, chosen: Sequence[Evaluation], out: Path, console: Terminal
) -> tuple[BundleCheck, ...]:
    """Bundles of the `chosen` evaluations written below `out`, and what verifying each found.

    Those that lie whole in the run's own folder are taken from there; for the others only what
    their architectures need is prepared.

    Raises:
        ConfigError: The run's config can no longer be read: a file it names has gone.
        BundleError: A folder of that name below `out` holds something else.
    """
    from paredown.search.bundles.exporting import take_written
    from paredown.search.config.reading import card_config, load_config

    config = load_config(record.folder / CONFIG)
    base, kept = record.uncompressed, record.folder / BUNDLES
    waiting = []
    for evaluation in chosen:
        if base and take_written(evaluation, base, kept, out, card_config(config)):
            console.print(
                f"{evaluation.key} was exported before and is whole: {kept}", soft_wrap=True
            )
        else:
            waiting.append(evaluation)
    if waiting:
        _export(record, waiting, out, config, console)
    found = verify([out / evaluation.key for evaluation in chosen], console, config)
    for check in found:
        record_on_card(check)
    return found


def announce_picked(record: RunRecord, check: BundleCheck, console: Terminal) -> None:
    """Gives the alias `picked` to a model taken out of a run that registers its models.

    What keeps MLflow from it is said and ends nothing: the bundle is written.
    """
    from paredown.search.config.reading import load_config, tracking_uri

    config = load_config(record.folder / CONFIG)
    name = config.tracking.register_as
    if name is None or not check.ok:
        return
    uri = tracking_uri(config) or default_uri(record.folder)
    try:
        version = register_picked(uri, name, record.folder, check.key, check.folder)
    except (OSError, TrackingError) as error:
        why = str(error).replace(uri, config.tracking.uri or uri)
        console.print(f"MLflow did not take the model: {why}", soft_wrap=True)
        return
    if version is None:
        said = "has no run in MLflow, so it is not registered"
    else:
        said = f"is {name} version {version} in MLflow: models:/{name}@{PICKED}"
    console.print(f"{check.key} {said}", soft_wrap=True)


def _export(
    record: RunRecord,
    chosen: Sequence[Evaluation],
    out: Path,
    config: Config,
    console: Terminal,
) -> None:
    from paredown.compressors.training.kept import TrainedModels
    from paredown.search.bundles.exporting import export, is_written
    from paredown.search.config.reading import card_config
    from paredown.search.evaluating.workbench import prepare_part

    base = record.uncompressed
    needed = {evaluation.candidate.architecture for evaluation in chosen}
    if base is None or not is_written(out / base.key, card_config(config)):
        needed.add(next(iter(config.space.architectures), ""))
    with console.working("reading the model and its statistics"):
        workbench = prepare_part(config, record.folder / LATENCY, needed)
        base = base or workbench.evaluate_uncompressed(workbench.rungs[-1])
    kept = TrainedModels(record.folder / TRAINED)
    for evaluation in chosen:
        with console.working(f"exporting {evaluation.key}"):
            export(workbench, evaluation, out, base, kept)


def verify(
    folders: Sequence[Path],
    console: Terminal,
    config: Config | None = None,
    *,
    trusts_cards: bool = False,
) -> tuple[BundleCheck, ...]:
    """What re-opening the bundles in a fresh process found, printed and returned.

    Args:
        config: The user's own; tasks are loaded from it instead of from the cards.
        trusts_cards: Whether code may run that a card alone names.

    Raises:
        VerificationError: A folder is no bundle.
    """
    for folder in folders:
        if not (folder / CARD_FILE).is_file():
            raise VerificationError(
                f"a bundle holds {CARD_FILE}, got {folder} without; give the folder that "
                "`paredown export` named"
            )
    from paredown.search.bundles.task import TaskSource
    from paredown.search.bundles.verifying import verify_each

    source = TaskSource(config=config, trusts_cards=trusts_cards)
    found = []
    with console.working("verifying in a fresh process, on the test split"):
        for check in verify_each(folders, source):
            _print(check, console)
            found.append(check)
    return tuple(found)


def _verdict(check: BundleCheck) -> Text:
    if not check.ok:
        return styled("does not hold", "red")
    if check.unchecked:
        return styled("holds as far as it was checked", "yellow")
    return styled("holds", "green")


def _print(check: BundleCheck, console: Terminal) -> None:
    head = Text.assemble((check.key, "bold"), " ", _verdict(check), f"  {check.folder}")
    console.print(head, soft_wrap=True)
    console.print(measured_table(check))
    for mismatch in check.mismatches:
        console.print(styled(f"  ✗ {mismatch}", "red"), soft_wrap=True)
    for warning in check.warnings:
        console.print(styled(f"  warning: {warning}", "yellow"), soft_wrap=True)
    for unchecked in check.unchecked:
        console.print(styled(f"  not checked: {unchecked}", "yellow"), soft_wrap=True)
    console.print()


def measured_table(check: BundleCheck) -> Table:
    """What was predicted against what was measured, where both are known."""
    table = plain_table("  ", "predicted", "measured")
    for name, measured in check.measured.items():
        if name in check.predicted:
            metric = name.removeprefix("test_")
            unit = unit_of(metric, abs(measured))
            values = (check.predicted[name], measured)
            place = " on test" if name != metric else ""
            cells = [show(metric, value, unit) for value in values]
            table.add_row(f"  {title_of(metric)}{place}", *cells)
    return table

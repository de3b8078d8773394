"""The command `paredown recover`: a model of a run, or of a bundle, trained further."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from paredown.search.cli.application import results
from paredown.search.cli.bundles import CandidateKey, Pick, conclude
from paredown.search.cli.endings import mistake

if TYPE_CHECKING:
    from paredown.search.bundles.recovering import Recovered
    from paredown.search.config.schema import Config

RECOVER_EXAMPLES = (
    'paredown recover runs/digits --pick "onnx_bytes <= 0.1x" --steps 300',
    'paredown recover runs/digits --candidate 3f2a --set "recovery={recipe: {lr: 0.02}}"',
    "paredown recover received/3f2a --config my.yaml --steps 300",
)


def recover(
    source: Annotated[Path, typer.Argument(metavar="RUN|BUNDLE", help="Its folder.")],
    pick: Pick = None,
    candidate: CandidateKey = None,
    steps: Annotated[int, typer.Option(min=1, help="Batches to train for.")] = 500,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the new bundle; by default RUN/recovered, or beside BUNDLE."),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="Of a BUNDLE: your own config, not that of its run or card."),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="A.B=C", help="Replace a setting of the config."),
    ] = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Of a BUNDLE: run the code that its card names.")
    ] = False,
) -> None:
    """Train a model of a run, or of a bundle, further, write it as a bundle and verify it.

    How it is trained is what the config's `recovery.recipe` says, or its defaults. The run's journal and
    front, and the bundle, stay as they are.
    """
    from paredown.compressors.bundle.loading import CARD_FILE
    from paredown.search.running.delivering import verify
    from paredown.search.study.display import show

    is_bundle = (source / CARD_FILE).is_file()
    _check_options(is_bundle, pick, candidate, is_own=config is not None or trust)
    console = results()
    with console.working(f"training for {steps:,} steps"):
        if is_bundle:
            own = _config_of_bundle(source, config, overrides or (), trusts_cards=trust)
            found = _recover_bundle(source, own, steps, out)
        else:
            own, found = _recover_picked(source, (pick, candidate), overrides or (), steps, out)
    metric = own.task.metric_name
    for name in dict.fromkeys((metric, "loss")):
        before, after = (show(name, e.metrics[name]) for e in (found.before, found.after))
        console.print(f"{name} on the search split: {before} before, {after} after")
    if len(found.after.curve) and min(found.after.curve, key=lambda p: p[2])[0] == 0:
        console.print(
            "no state on the way was better on held-out rows than the start, which is what was kept; "
            "try more steps, or another recovery.recipe.lr"
        )
    conclude(verify([found.bundle], console, own))


def _check_options(
    is_bundle: bool, pick: str | None, candidate: str | None, *, is_own: bool
) -> None:
    """Refuses options of a run where a bundle is given, and the other way round."""
    if is_bundle and (pick is not None or candidate is not None):
        raise mistake("--pick and --candidate are for a run, got a bundle; leave them out")
    if not is_bundle and is_own:
        raise mistake("--config and --trust are for a bundle, got a run; use --set for its config")
    if not is_bundle and (pick is None) == (candidate is None):
        raise mistake("recover takes one of --pick and --candidate; see: paredown recover --help")


def _config_of_bundle(
    bundle: Path, config: Path | None, overrides: Sequence[str], *, trusts_cards: bool
) -> Config:
    from paredown.search.bundles.recovering import config_of_bundle
    from paredown.search.config.reading import load_config

    if config is not None:
        return load_config(config, overrides)
    return config_of_bundle(bundle, overrides, trusts_cards=trusts_cards)


def _recover_bundle(bundle: Path, config: Config, steps: int, out: Path | None) -> Recovered:
    from paredown.search.bundles.recovering import place_beside, recover_bundle

    return recover_bundle(bundle, config, steps, out or place_beside(bundle))


def _recover_picked(
    run: Path,
    asked: tuple[str | None, str | None],
    overrides: Sequence[str],
    steps: int,
    out: Path | None,
) -> tuple[Config, Recovered]:
    """The run's config, and what came of its model that was asked for by --pick or --candidate."""
    from paredown.search.bundles.recovering import recover as train
    from paredown.search.config.reading import load_config
    from paredown.search.study.run_record import CONFIG, read_run

    pick, candidate = asked
    record = read_run(run)
    config = load_config(record.folder / CONFIG, overrides)
    chosen = record.picked(pick) if pick is not None else record.with_key(candidate or "")
    return config, train(record, chosen, config, steps, out or record.folder / "recovered")

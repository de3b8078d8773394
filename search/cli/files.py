"""The commands `paredown init`, `paredown runs` and `paredown cache`: configs, runs and the cache."""

from __future__ import annotations

import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from paredown.search.cli.application import AsJson, progress, results
from paredown.search.cli.endings import mistake, print_json
from paredown.search.config.qualities import ACCURACY, TASK_QUALITIES
from paredown.spaces.system.errors import ParedownError

if TYPE_CHECKING:
    from paredown.search.config.starting_config import Beginning, HubBeginning, OwnBeginning

INIT_EXAMPLES = (
    "paredown init my_project.model:make_model",
    "paredown init my_project.model:make_model --data my_project.data:make_splits "
    "--weights trained.safetensors",
    "paredown init ./my_bert --data ./rows",
)
RUNS_EXAMPLES = ("paredown runs", "paredown runs /data/runs --json")
CACHE_EXAMPLES = ("paredown cache", "paredown cache --clear", "paredown cache --clear solutions")


ModelFactory = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="MODULE:FACTORY, the function that returns the network; or the folder of a Hugging Face "
        "model, written as a path (./model).",
    ),
]
DataFactory = Annotated[
    str | None,
    typer.Option(
        metavar="DATA",
        help="MODULE:FACTORY, the function that returns the splits; make_splits beside the network by "
        "default. Of a Hugging Face model a data set on the hub, or a folder (./rows).",
    ),
]
MetricName = Annotated[str, typer.Option(help=f"{', '.join(TASK_QUALITIES)}, or MODULE:FUNCTION.")]
LossName = Annotated[str | None, typer.Option(help="The loss; a metric of your own needs one.")]
Weights = Annotated[Path | None, typer.Option(help="Trained weights, a safetensors file.")]
NewConfig = Annotated[Path, typer.Option(help="The config to write.", dir_okay=False)]


def init(
    model: ModelFactory,
    data: DataFactory = None,
    metric: MetricName = ACCURACY.name,
    loss: LossName = None,
    weights: Weights = None,
    output: NewConfig = Path("paredown.yaml"),
) -> None:
    """Write a commented config for a network of your own, or for a Hugging Face model in a folder."""
    if output.exists():
        raise mistake(
            f"init writes a new config, got {output}, which exists; give another --output"
        )
    from paredown.search.config.reading import load_config
    from paredown.search.config.schema_task import is_written_as_path
    from paredown.search.config.starting_config import commented_config
    from paredown.spaces.system.whole_file import write_text_whole

    if is_written_as_path(model):
        if metric != ACCURACY.name or loss is not None or weights is not None:
            raise mistake(
                f"--metric, --loss and --weights are of a network of your own, got one for {model}, "
                "whose folder says them; leave them out"
            )
        beginning: Beginning = _hub_beginning(Path(model).expanduser(), data, output)
        remarks: list[str] = []
    else:
        beginning, remarks = _own_beginning(model, data, metric, loss, weights, output)
    write_text_whole(output, commented_config(beginning))
    try:
        load_config(output)
    except ParedownError:
        output.unlink()  # what was given is wrong, and the error says which
        raise
    for line in (f"wrote {output}", *remarks, f"next: paredown inspect {output}"):
        progress().print(line, soft_wrap=True)


def _hub_beginning(folder: Path, data: str | None, output: Path) -> HubBeginning:
    """What the config of a Hugging Face model begins with."""
    from paredown.search.config.schema_task import is_written_as_path
    from paredown.search.config.starting_config import HubBeginning

    if data is None:
        raise mistake(
            f"--data must name rows for {folder}, got none; give a data set on the hub, or a folder "
            "with train, validation and test written as a path (./rows)"
        )

    def _from_config(path: Path) -> str:
        return os.path.join(".", os.path.relpath(path.expanduser(), output.resolve().parent))

    rows = _from_config(Path(data)) if is_written_as_path(data) else data
    return HubBeginning.of_folder(folder, _from_config(folder), rows)


def _check_import_paths(model: str, data: str | None) -> None:
    for option, path in (("MODEL", model), ("--data", data or model)):
        if ":" not in path:
            raise mistake(
                f"{option} must be package.module:name, got {path!r}; write a folder as a path, ./{path}"
            )


def _own_beginning(
    model: str,
    data: str | None,
    metric: str,
    loss: str | None,
    weights: Path | None,
    output: Path,
) -> tuple[OwnBeginning, list[str]]:
    """What the config begins with, and what is left to do: a sentence each."""
    from paredown.search.config.starting_config import OwnBeginning, needed_arguments
    from paredown.search.tasks.user_code import UserCodeError, load_function

    _check_import_paths(model, data)
    here, folder = Path.cwd(), output.resolve().parent
    kwargs = needed_arguments(load_function("MODEL", model, here))
    data_kwargs: dict[str, None] = {}
    remarks = []
    found = data or f"{model.partition(':')[0]}:make_splits"
    try:
        data_kwargs = needed_arguments(load_function("--data", found, here))
    except UserCodeError:
        if data is not None:
            raise
        remarks.append(
            f"write {found}: a function that returns a mapping with train, search and test, each "
            "(inputs, targets); docs/own_model.md says more"
        )
    for key, names in (("kwargs", kwargs), ("data_kwargs", data_kwargs)):
        if names:
            remarks.append(f"set task.{key} in it: {', '.join(names)}")
    beginning = OwnBeginning(
        model=model,
        data=found,
        kwargs=kwargs,
        data_kwargs=data_kwargs,
        metric=metric,
        loss=loss,
        weights=None if weights is None else os.path.relpath(weights, folder),
        code_folder="." if folder == here else str(here),
    )
    return beginning, remarks


def runs(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where runs lie.")] = Path(
        "runs"
    ),
    as_json: AsJson = False,
) -> None:
    """List runs: how each stands, evaluations, models on the front, size on disk."""
    if not folder.is_dir():
        raise mistake(f"runs are listed of a folder, got {folder}, which is none; name another")
    from paredown.search.report.tables import plain_table
    from paredown.search.study.display import show
    from paredown.search.study.listing import known_runs

    found = known_runs(folder)
    if as_json:
        print_json([{**asdict(run), "folder": str(run.folder)} for run in found])
        return
    console = results()
    if not found:
        console.print(f"no run lies in {folder}", soft_wrap=True)
        return
    table = plain_table("run", "state", "evaluations", "failed", "front", "on disk", "changed")
    for run in found:
        counts = (run.evaluations, run.failures, run.front_size)
        size = show("size_bytes", run.size_bytes)
        name = str(run.folder)
        table.add_row(name, run.condition, *map(str, counts), size, _when(run.changed_s))
    console.print(table)
    for run in found:
        if run.problem:
            console.print(run.problem, style="yellow", soft_wrap=True)


def cache(
    clear: Annotated[
        bool, typer.Option("--clear", help="Delete what is kept, or the kinds named.")
    ] = False,
    kinds: Annotated[
        list[str] | None, typer.Argument(metavar="[KIND]...", help="Kinds to clear; all else.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what is kept between searches, and where. PAREDOWN_CACHE names another folder."""
    from paredown.search.cli.cache_use import cache_contents, clear_cache, kind_names
    from paredown.search.report.tables import plain_table
    from paredown.search.study.display import show
    from paredown.search.tasks.cache import cache_folder

    known = kind_names()
    for name in kinds or ():
        if name not in known or not clear:
            raise mistake(f"--clear takes kinds of {', '.join(known)}, got {name!r}")
    place = cache_folder()
    freed = clear_cache(place, tuple(kinds or known)) if clear else 0
    found = cache_contents(place)
    if as_json:
        contents = [asdict(kind) for kind in found]
        print_json({"folder": str(place), "freed_bytes": freed, "kinds": contents})
        return
    console = results()
    console.print(str(place), soft_wrap=True)
    table = plain_table("kind", "files", "on disk", "last used", "what")
    table.columns[-1].justify = "left"
    for kind in found:
        used = "" if kind.used_s is None else _when(kind.used_s)
        size = show("size_bytes", kind.size_bytes) if kind.files else ""
        table.add_row(kind.name, str(kind.files), size, used, kind.holds)
    console.print(table)
    if clear:
        console.print(f"deleted {show('size_bytes', freed)}")


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))

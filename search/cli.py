"""The command `paredown`: searches, looks at what came out, and exports what was picked.

Exit codes: 0 done; 1 a bundle does not hold, or nothing was found; 2 a mistake in what was asked;
130 interrupted, with front and report written. Commands import what they need when they run, so
that help and mistakes are told at once.
"""

from __future__ import annotations

import functools
import json
import os
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from paredown.search.cli_calibrate import EXAMPLES as CALIBRATE_EXAMPLES
from paredown.search.cli_calibrate import calibrate

if TYPE_CHECKING:
    from paredown.search.evaluation import Evaluation
    from paredown.search.verification import Verification

FAILED, MISTAKE, INTERRUPTED = 1, 2, 130
_ENVIRONMENT = {
    # Workers run side by side; a pool of threads in each would fight for the same cores.
    "OMP_NUM_THREADS": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "RAY_USAGE_STATS_ENABLED": "0",
}


def _epilog(*examples: str) -> str:
    """Examples under a command's help, one a line."""
    return "\n".join(["[bold]Examples[/bold]", *(f"[cyan]{escape(e)}[/cyan]" for e in examples)])


app = typer.Typer(
    name="paredown",
    help="Search how far a network can be compressed, and export what holds up.",
    epilog=_epilog(
        "paredown search examples/digits.yaml",
        "paredown ui runs/digits",
        'paredown export runs/digits --pick "onnx_bytes <= 0.2x, max accuracy"',
    ),
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ConfigFile = Annotated[Path, typer.Argument(help="The search as one YAML file.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=C", help="Replace a setting; may be given often."),
]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, as runs/digits.")]


def _command(name: str, *examples: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Registers a command whose mistakes are told in a sentence, without a traceback."""

    def register(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def guarded(**arguments: Any) -> None:
            try:
                command(**arguments)
            except KeyboardInterrupt:
                raise typer.Exit(INTERRUPTED) from None
            except ValueError as error:
                # Every error of ours that a user can mend is a ValueError with a class of its own.
                if not type(error).__module__.startswith("paredown."):
                    raise
                raise _mistake(str(error)) from error

        app.command(name, epilog=_epilog(*examples))(guarded)
        return guarded

    return register


@_command(
    "search",
    "paredown search examples/digits.yaml",
    "paredown search examples/digits.yaml --set search.evaluations=200 --set name=longer",
    "paredown search examples/digits.yaml --resume",
)
def search(
    config: ConfigFile,
    overrides: Overrides = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a run that was stopped.")
    ] = False,
) -> None:
    """Search, export the front and verify it. Ctrl-C ends early and keeps everything."""
    from paredown.search.config import load_config, remarks

    checked = load_config(config, overrides or ())
    console = Console(highlight=False)
    for remark in remarks(checked):
        console.print(f"[yellow]note: {escape(remark)}[/yellow]")
    _quiet_optuna()
    from paredown.search.live import Display, summary
    from paredown.search.run import run

    with Display(console) as display:
        result = run(checked, resume=resume, watch=display)
    console.print(summary(result, display.elapsed_s))
    if result.interrupted:
        settings = "".join(f" --set {shlex.quote(each)}" for each in overrides or ())
        again = f"paredown search {config}{settings} --resume"
        console.print(f"interrupted; go on with: {again}", markup=False, soft_wrap=True)
        raise typer.Exit(INTERRUPTED)
    broken = [bundle for bundle in result.bundles if bundle.mismatches]
    for bundle in broken:
        _tell(f"bundle {bundle.key} does not hold: {'; '.join(bundle.mismatches)}")
    if broken or not result.front.members:
        raise typer.Exit(FAILED)


@_command("front", "paredown front runs/digits", "paredown front runs/digits --json")
def front(
    run: RunFolder,
    as_json: Annotated[
        bool, typer.Option("--json", help="With every metric and the whole candidates.")
    ] = False,
) -> None:
    """Print the models that no other beats, the best first."""
    from paredown.search.live import references_of
    from paredown.search.run_record import read_run
    from paredown.search.tables import front_table

    record = read_run(run)
    if as_json:
        typer.echo(record.to_json())
    else:
        members = record.front.members
        references = references_of(record.evaluations, record.front.rung)
        Console(highlight=False).print(front_table(members, record.goals, references))
    if not record.front.members:
        _tell(f"no model of {run} is on the front yet")
        raise typer.Exit(FAILED)


@_command(
    "inspect",
    "paredown inspect examples/digits.yaml",
    "paredown inspect my.yaml --set hardware.device=rpi4-a72-ort",
)
def inspect(config: ConfigFile, overrides: Overrides = None) -> None:
    """Show what was read off the model: its parts, the knobs, and what is left out and why."""
    from paredown.search.config import load_config

    checked = load_config(config, overrides or ())
    from paredown.search.inspection import inspection
    from paredown.search.workbench import survey

    console = Console(highlight=False)
    with console.status("reading the model"):
        surveyed = survey(checked)
    console.print(inspection(surveyed.space, surveyed.offered))
    for device in (surveyed.device, *surveyed.also):
        if device.caveat:
            console.print(f"\n[yellow]{device.caveat}[/yellow]")


@_command(
    "export",
    'paredown export runs/digits --pick "latency_s <= 0.002, max accuracy"',
    "paredown export runs/digits --candidate 3f2a --out model",
    "paredown export runs/digits --front",
    "paredown export --mlflow-run 0b6f1c",
)
def export(
    run: Annotated[Path | None, typer.Argument(metavar="RUN", help="A run folder.")] = None,
    pick: Annotated[
        str | None, typer.Option(help="Conditions and one aim; 0.25x is against uncompressed.")
    ] = None,
    candidate: Annotated[
        str | None, typer.Option(metavar="KEY", help="A model by its key, or how the key begins.")
    ] = None,
    whole_front: Annotated[
        bool, typer.Option("--front", help="Every model of the front.")
    ] = False,
    mlflow_run: Annotated[
        str | None, typer.Option(metavar="ID", help="What was picked in MLflow's page.")
    ] = None,
    uri: Annotated[
        str | None, typer.Option(help="MLflow's store; by default those of runs/ are looked at.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the bundles; by default RUN/bundles.")
    ] = None,
) -> None:
    """Write a model as a bundle (ONNX, packed weights, card) and verify it."""
    given = sum((pick is not None, candidate is not None, whole_front, mlflow_run is not None))
    if given != 1 or (run is None) != (mlflow_run is not None):
        raise _mistake(
            "export takes a run folder and one of --pick, --candidate, --front, or else "
            f"--mlflow-run alone, got {given} of them; see: paredown export --help"
        )
    _quiet_optuna()
    from paredown.search.delivering import deliver, find_mlflow_run
    from paredown.search.run_record import read_run

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
        _tell(f"no model of {run} is on the front yet")
        raise typer.Exit(FAILED)
    _conclude(deliver(record, chosen, out or run / "bundles", Console(highlight=False)))


@_command("verify", "paredown verify runs/digits/bundles/*")
def verify(
    bundles: Annotated[list[Path], typer.Argument(metavar="BUNDLE...", help="Bundle folders.")],
) -> None:
    """Re-open bundles in a fresh process and hold them against their cards."""
    from paredown.search.delivering import verify as verify_bundles

    _conclude(verify_bundles(bundles, Console(highlight=False)))


@_command("compare", "paredown compare runs/digits runs/longer")
def compare(run: RunFolder, other: Annotated[Path, typer.Argument(metavar="RUN")]) -> None:
    """Put the fronts of two runs side by side: which dominates more, and where."""
    from paredown.search.comparing import compare as compare_runs
    from paredown.search.comparing import comparison_view
    from paredown.search.run_record import read_run

    found = compare_runs(read_run(run), read_run(other))
    Console(highlight=False).print(comparison_view(found, (str(run), str(other))))


@_command("ui", "paredown ui runs/digits", "paredown ui runs/digits --port 8080")
def ui(
    run: RunFolder,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on this machine.")] = 5000,
) -> None:
    """Open MLflow's page on a run, on this machine only, until Ctrl-C."""
    from paredown.search.config import load_config
    from paredown.search.mlflow_store import default_uri, serve
    from paredown.search.run_record import CONFIG

    uri = load_config(run / CONFIG).tracking.uri or default_uri(run)
    console = Console(highlight=False)
    status = serve(uri, port, lambda address: console.print(f"open {address}  (Ctrl-C ends)"))
    if status:
        _tell(f"MLflow's server ended with exit code {status}; is port {port} taken? Try --port")
        raise typer.Exit(FAILED)


@_command("devices", "paredown devices", "paredown devices x86-avx512-vnni-ort")
def devices(
    name: Annotated[
        str | None, typer.Argument(help="A device, 'host', or a device file of your own.")
    ] = None,
) -> None:
    """List the devices that ship, or show what one offers."""
    from paredown.hardware_models import device as known
    from paredown.search.tables import device_details, device_table

    if name is not None:
        Console(highlight=False).print(device_details(known.load_device(name)))
        return
    try:
        host = known.host_device().name
    except known.DeviceError:
        host = None
    found = [known.load_device(each) for each in known.list_devices()]
    Console(highlight=False).print(device_table(found, host))


_command("calibrate", *CALIBRATE_EXAMPLES)(calibrate)


@_command("schema", "paredown schema > paredown.schema.json")
def schema() -> None:
    """Print the JSON Schema of the config, for editors."""
    from paredown.search.config import json_schema

    typer.echo(json.dumps(json_schema(), indent=2))


def main() -> None:
    """The script's entry: settles the environment before anything heavy is imported."""
    for variable, value in _ENVIRONMENT.items():
        os.environ.setdefault(variable, value)
    app()


def _conclude(found: Sequence[Verification]) -> None:
    broken = [verification.key for verification in found if not verification.ok]
    if broken:
        _tell(f"{len(broken)} of {len(found)} bundles do not hold: {', '.join(broken)}")
        raise typer.Exit(FAILED)


def _mistake(message: str) -> typer.Exit:
    _tell(message)
    return typer.Exit(MISTAKE)


def _tell(message: str) -> None:
    Console(stderr=True).print(message, style="red", markup=False, highlight=False, soft_wrap=True)


def _quiet_optuna() -> None:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)


if __name__ == "__main__":
    main()

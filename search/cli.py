"""The command `paredown`: searches, looks at what came out, and exports what was picked.

Commands import what they need when they run, so that help and mistakes are told at once.
"""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from paredown.search.cli_app import (
    FAILED,
    INTERRUPTED,
    AsJson,
    RunFolder,
    app,
    command,
    quiet_optuna,
    tell,
    tell_json,
)
from paredown.search.cli_bundles import EXPORT_EXAMPLES, VERIFY_EXAMPLES, export, verify
from paredown.search.cli_calibrate import EXAMPLES as CALIBRATE_EXAMPLES
from paredown.search.cli_calibrate import calibrate
from paredown.search.cli_files import (
    CACHE_EXAMPLES,
    INIT_EXAMPLES,
    RUNS_EXAMPLES,
    cache,
    init,
    runs,
)

_ENVIRONMENT = {
    # Workers run side by side; a pool of threads in each would fight for the same cores.
    "OMP_NUM_THREADS": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "RAY_USAGE_STATS_ENABLED": "0",
}

ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="The search as one YAML file.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=C", help="Replace a setting; may be given often."),
]


@command(
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
    quiet_optuna()
    from paredown.search.live import Display
    from paredown.search.running import run
    from paredown.search.summary import summary

    with Display(console) as display:
        result = run(checked, resume=resume, watch=display)
    console.print(summary(result, display.elapsed_s))
    for problem in result.problems:
        console.print(f"[yellow]note: {escape(problem)}[/yellow]", soft_wrap=True)
    if result.interrupted:
        settings = "".join(f" --set {shlex.quote(each)}" for each in overrides or ())
        again = f"paredown search {config}{settings} --resume"
        console.print(f"interrupted; go on with: {again}", markup=False, soft_wrap=True)
        raise typer.Exit(INTERRUPTED)
    broken = [bundle for bundle in result.bundles if bundle.mismatches]
    for bundle in broken:
        tell(f"bundle {bundle.key} does not hold: {'; '.join(bundle.mismatches)}")
    if broken or not result.front.members:
        raise typer.Exit(FAILED)


command("init", *INIT_EXAMPLES)(init)
command("runs", *RUNS_EXAMPLES)(runs)


@command("front", "paredown front runs/digits", "paredown front runs/digits --json")
def front(
    run: RunFolder,
    as_json: Annotated[
        bool, typer.Option("--json", help="With every metric and the whole candidates.")
    ] = False,
) -> None:
    """Print the models that no other beats, the best first."""
    from paredown.search.front_rows import references_of
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
        tell(f"no model of {run} is on the front yet")
        raise typer.Exit(FAILED)


@command(
    "inspect",
    "paredown inspect examples/digits.yaml",
    "paredown inspect my.yaml --set hardware.device=rpi4-a72-ort",
)
def inspect(config: ConfigFile, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Show what was read off the model: its parts, the knobs, what is left out, what it costs."""
    from paredown.search.config import load_config

    checked = load_config(config, overrides or ())
    from paredown.search.baseline import baseline_of
    from paredown.search.inspection import inspection, inspection_json
    from paredown.search.survey import survey

    console = Console(highlight=False, quiet=as_json)
    with console.status("reading the model"):
        surveyed = survey(checked)
        baseline = baseline_of(surveyed)
    if as_json:
        tell_json(
            inspection_json(surveyed.space, surveyed.offered, baseline, surveyed.ranks.asked)
        )
        return
    console.print(inspection(surveyed.space, surveyed.offered, baseline, surveyed.ranks.asked))
    for device in (surveyed.device, *surveyed.also):
        if device.caveat:
            console.print(f"\n[yellow]{device.caveat}[/yellow]")


command("export", *EXPORT_EXAMPLES)(export)
command("verify", *VERIFY_EXAMPLES)(verify)


@command("compare", "paredown compare runs/digits runs/longer")
def compare(
    run: RunFolder,
    other: Annotated[Path, typer.Argument(metavar="RUN", help="The run to compare it with.")],
    as_json: AsJson = False,
) -> None:
    """Put the fronts of two runs side by side: which dominates more, and where."""
    from paredown.search.comparing import compare as compare_runs
    from paredown.search.comparing import comparison_json, comparison_view
    from paredown.search.run_record import read_run

    found = compare_runs(read_run(run), read_run(other))
    if as_json:
        tell_json(comparison_json(found, (str(run), str(other))))
        return
    Console(highlight=False).print(comparison_view(found, (str(run), str(other))))


@command("ui", "paredown ui runs/digits", "paredown ui runs/digits --port 8080")
def ui(
    run: RunFolder,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on this machine.")] = 5000,
) -> None:
    """Open MLflow's page on a run, on this machine only, until Ctrl-C."""
    from paredown.search.config import load_config, tracking_uri
    from paredown.search.mlflow_store import default_uri, serve
    from paredown.search.run_record import CONFIG, check_is_run

    check_is_run(run)
    uri = tracking_uri(load_config(run / CONFIG)) or default_uri(run)
    console = Console(highlight=False)
    status = serve(uri, port, lambda address: console.print(f"open {address}  (Ctrl-C ends)"))
    if status:
        tell(f"MLflow's server ended with exit code {status}; its words are above")
        raise typer.Exit(FAILED)


@command("devices", "paredown devices", "paredown devices x86-avx512-vnni-ort")
def devices(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="A device, 'host', or a device file of your own."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the devices that ship, or show what one offers."""
    from paredown.hardware_models import device as known
    from paredown.search.tables import device_details, device_table

    if name is not None:
        device = known.load_device(name)
        if as_json:
            tell_json(device.model_dump(mode="json"))
        else:
            Console(highlight=False).print(device_details(device))
        return
    try:
        host = known.host_device().name
    except known.DeviceError:
        host = None
    found = [known.load_device(each) for each in known.list_devices()]
    if as_json:
        listed = [{"name": d.name, "title": d.title, "is_host": d.name == host} for d in found]
        tell_json(listed)
    else:
        Console(highlight=False).print(device_table(found, host))


command("calibrate", *CALIBRATE_EXAMPLES)(calibrate)
command("cache", *CACHE_EXAMPLES)(cache)


@command("schema", "paredown schema > paredown.schema.json")
def schema() -> None:
    """Print the JSON Schema of the config, for editors."""
    from paredown.search.config import json_schema

    typer.echo(json.dumps(json_schema(), indent=2))


def main() -> None:
    """The script's entry: settles the environment before anything heavy is imported."""
    for variable, value in _ENVIRONMENT.items():
        os.environ.setdefault(variable, value)
    app()


if __name__ == "__main__":
    main()

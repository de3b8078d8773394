"""The command `paredown`: searches, looks at what came out, and exports what was picked.

Commands import what they need when they run, so that help and mistakes are printed at once.
"""

from __future__ import annotations

import io
import json
import os
import shlex
import sys
import traceback
from pathlib import Path
from types import TracebackType
from typing import Annotated

import typer

from paredown.search.cli.application import (
    AsJson,
    RunFolder,
    app,
    command,
    is_verbose,
    progress,
    results,
)
from paredown.search.cli.bench import BENCH_EXAMPLES, bench
from paredown.search.cli.bundles import EXPORT_EXAMPLES, VERIFY_EXAMPLES, export, verify
from paredown.search.cli.calibrate import EXAMPLES as CALIBRATE_EXAMPLES
from paredown.search.cli.calibrate import calibrate
from paredown.search.cli.endings import FAILED, INTERRUPTED, failure, print_error, print_json
from paredown.search.cli.files import (
    CACHE_EXAMPLES,
    INIT_EXAMPLES,
    RUNS_EXAMPLES,
    cache,
    init,
    runs,
)
from paredown.search.cli.recover import RECOVER_EXAMPLES, recover
from paredown.search.report.terminal import Terminal

_ENVIRONMENT = {
    # Workers run side by side; a pool of threads in each would fight for the same cores.
    "OMP_NUM_THREADS": "1",
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
    from paredown.search.config.reading import load_config, remarks

    checked = load_config(config, overrides or ())
    console = progress()
    for remark in remarks(checked):
        console.print(f"note: {remark}", style="yellow")
    from paredown.search.bundles.measured import latencies_outside
    from paredown.search.cli.live import Display
    from paredown.search.cli.summary import summary
    from paredown.search.running.whole_search import run

    with Display(console, is_verbose=is_verbose()) as display:
        result = run(checked, resume=resume, watch=display)
    console.print(summary(result, display.elapsed_s))
    for problem in result.problems:
        console.print(f"note: {problem}", style="yellow", soft_wrap=True)
    if result.interrupted:
        settings = "".join(f" --set {shlex.quote(each)}" for each in overrides or ())
        again = f"paredown search {config}{settings} --resume"
        console.print(f"interrupted; go on with: {again}", soft_wrap=True)
        raise typer.Exit(INTERRUPTED)
    if outside := latencies_outside(result.bundles):
        console.print(f"note: {outside}", style="yellow", soft_wrap=True)
    broken = [bundle for bundle in result.bundles if bundle.mismatches]
    for bundle in broken:
        print_error(f"bundle {bundle.key} does not hold: {'; '.join(bundle.mismatches)}")
    if not result.front.members:
        from paredown.search.evaluating.unmet import why_none

        print_error(why_none(result.evaluations, result.front))
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
    from paredown.search.report.tables import front_table
    from paredown.search.study.rows import references_of
    from paredown.search.study.run_record import read_run

    record = read_run(run)
    if as_json:
        typer.echo(record.to_json())
    else:
        members = record.front.members
        references = references_of(record.evaluations, record.front.rung)
        results().print(front_table(members, record.goals, references))
    if not record.front.members:
        raise failure(f"no model of {run} is on the front yet")


@command(
    "inspect",
    "paredown inspect examples/digits.yaml",
    "paredown inspect my.yaml --set hardware.device=rpi4-a72-ort",
)
def inspect(config: ConfigFile, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Show what was read off the model: its parts, the knobs, what is left out, what it costs."""
    from paredown.search.config.reading import load_config

    checked = load_config(config, overrides or ())
    from paredown.search.evaluating.baseline import baseline_of
    from paredown.search.evaluating.surveying import survey
    from paredown.search.report.inspecting import inspection, inspection_json

    console = results(hidden=as_json)
    with progress(hidden=as_json).working("reading the model"):
        surveyed = survey(checked)
        baseline = baseline_of(surveyed)
    for notice in surveyed.task.notices:
        console.print(f"note: {notice}", style="yellow", soft_wrap=True)
    if as_json:
        print_json(
            inspection_json(surveyed.space, surveyed.offered, baseline, surveyed.ranks.asked)
        )
        return
    console.print(inspection(surveyed.space, surveyed.offered, baseline, surveyed.ranks.asked))
    for device in (surveyed.device, *surveyed.also):
        if device.caveat:
            console.print(f"\n{device.caveat}", style="yellow")


command("export", *EXPORT_EXAMPLES)(export)
command("recover", *RECOVER_EXAMPLES)(recover)
command("verify", *VERIFY_EXAMPLES)(verify)


@command("compare", "paredown compare runs/digits runs/longer")
def compare(
    run: RunFolder,
    other: Annotated[Path, typer.Argument(metavar="RUN", help="The run to compare it with.")],
    as_json: AsJson = False,
) -> None:
    """Put the fronts of two runs side by side: which dominates more, and where."""
    from paredown.search.report.comparing import compare as compare_runs
    from paredown.search.report.comparing import comparison_json, comparison_view
    from paredown.search.study.run_record import read_run

    found = compare_runs(read_run(run), read_run(other))
    if as_json:
        print_json(comparison_json(found, (str(run), str(other))))
        return
    results().print(comparison_view(found, (str(run), str(other))))


command("bench", *BENCH_EXAMPLES)(bench)


@command("ui", "paredown ui runs/digits", "paredown ui runs/digits --port 8080")
def ui(
    run: RunFolder,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on this machine.")] = 5000,
) -> None:
    """Serve MLflow's page on a run, on this machine only, until Ctrl-C; prints its address."""
    from paredown.search.config.reading import load_config, tracking_uri
    from paredown.search.study.journal import read_journal
    from paredown.search.study.run_record import CONFIG, JOURNAL, check_is_run
    from paredown.search.tracking.mlflow_page import serve
    from paredown.search.tracking.mlflow_store import default_uri, is_server, run_address

    check_is_run(run)
    uri = tracking_uri(load_config(run / CONFIG)) or default_uri(run)
    search_id = read_journal(run / JOURNAL).search_id

    def _address_of(server: str) -> str:
        return run_address(uri, search_id, server) or server

    def _announce(address: str) -> None:
        results().print(f"open {address}", soft_wrap=True)

    if is_server(uri):
        _announce(_address_of(uri))
        return
    progress().print("starting the server; Ctrl-C ends it")
    status = serve(uri, port, _address_of, _announce)
    if status:
        raise failure(f"MLflow's server ended with exit code {status}; its messages are above")


@command("devices", "paredown devices", "paredown devices x86-avx512-vnni-ort")
def devices(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="A device, 'host', or a device file of your own."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the devices that ship, or show what one offers."""
    from paredown.hardware_models.devices import device as known
    from paredown.search.report.tables import device_details, device_table

    if name is not None:
        device = known.load_device(name)
        if as_json:
            print_json(device.model_dump(mode="json"))
        else:
            results().print(device_details(device))
        return
    try:
        host = known.host_device().name
    except known.DeviceError:
        host = None
    found = [known.load_device(each) for each in known.list_devices()]
    if as_json:
        print_json([{"name": d.name, "title": d.title, "is_host": d.name == host} for d in found])
    else:
        results().print(device_table(found, host))


command("calibrate", *CALIBRATE_EXAMPLES)(calibrate)
command("cache", *CACHE_EXAMPLES)(cache)


@command("schema", "paredown schema > paredown.schema.json")
def schema() -> None:
    """Print the JSON Schema of the config, for editors."""
    from paredown.search.config.reading import json_schema

    typer.echo(json.dumps(json_schema(), indent=2))


def main() -> None:
    """The script's entry: settles the environment before anything heavy is imported."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that is not UTF-8
    sys.excepthook = _print_traceback
    for variable, value in _ENVIRONMENT.items():
        os.environ.setdefault(variable, value)
    # Typer's own call would put a hook of its own in place of ours.
    typer.main.get_command(app)()


def _print_traceback(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Prints what is not a mistake of the user: a traceback, in which text is text as well."""
    text = "".join(traceback.format_exception(kind, error, trace))
    Terminal(stderr=True).print(text, soft_wrap=True, end="")


if __name__ == "__main__":
    main()

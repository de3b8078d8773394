"""MLflow's page: served on a run's folder, and gone when it ends."""

import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest

from paredown.search.tracking.mlflow_models import LoggedBundle
from paredown.search.tracking.mlflow_page import serve
from paredown.search.tracking.mlflow_store import (
    TrackingError,
    connect,
    default_uri,
    run_address,
)
from paredown.search.tracking.mlflow_writer import TrackingPlace


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_the_served_page_takes_a_search_and_ends_whole_on_a_signal(
    run_folder, make_evaluations, tmp_path, track, children_of, ending, write_bundle
):
    evaluations = make_evaluations(6)
    bundle = tmp_path / "bundle"
    write_bundle(bundle)
    port = free_port()
    uri = f"http://127.0.0.1:{port}"
    # A shell that runs the tests in the background has Ctrl-C ignored, and children inherit that.
    # The command turns SIGTERM into an interrupt.
    script = "import signal, sys; "
    script += (
        "[signal.signal(n, signal.default_int_handler) for n in (signal.SIGINT, signal.SIGTERM)]; "
    )
    script += "from paredown.search.tracking.mlflow_page import serve; "
    script += "sys.exit(serve(sys.argv[1], int(sys.argv[2]), str, print))"
    command = [sys.executable, "-uc", script, default_uri(run_folder), str(port)]

    def more(tracker):
        tracker.log_bundle(of_bundle(evaluations[0].key, bundle, register_as="digits"))

    with subprocess.Popen(command, cwd=run_folder, stdout=subprocess.PIPE, text=True) as server:
        try:
            # The address comes once the server answers; MLflow says something before.
            said = iter(server.stdout.readline, "")
            assert uri in (line.strip() for line in said)
            assert answers(f"{uri}/health")
            threading.Thread(target=lambda: list(said), daemon=True).start()
            assert default_uri(run_folder) not in arguments_below(server.pid)
            place = TrackingPlace(run_folder=run_folder, search_id="s", uri=uri)
            tracker = track(place, evaluations, more=more)
            assert tracker.problems == ()
            assert len(children_of(connect(uri), tracker.parent_run_id)) == 6
            assert len(connect(uri).search_model_versions("name = 'digits'")) == 1
            page = run_address(uri, "s", uri)
            assert page.endswith(f"/runs/{tracker.parent_run_id}")
        finally:
            server.send_signal(ending)
            code = server.wait(180)
    assert code == 0
    wait_until(lambda: not answers(f"{uri}/health"))


def arguments_below(pid):
    """Arguments of every process that `pid` has started, and that these have."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    own = (Path(f"/proc/{child}/cmdline").read_text() for child in children)
    return "".join(own) + "".join(map(arguments_below, children))


def of_bundle(key, folder, **more):
    return LoggedBundle(key=key, folder=folder, holds=True, **more)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(url):
    try:
        urllib.request.urlopen(url, timeout=1)
    except OSError:
        return False
    return True


def wait_until(is_so):
    for _ in range(900):
        if is_so():
            return
        time.sleep(0.2)
    raise AssertionError("still not so after three minutes")


def test_a_port_in_use_is_refused_before_a_server_is_started():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(TrackingError, match=rf"got {port}: .*--port"):
            serve("sqlite:///none.db", port, str, print)

"""The writer's thread beside a main thread that draws: neither sees a module of the other half there."""

import json
import subprocess
import sys
import textwrap

import onnx
import pytest
from onnx import TensorProto, helper

# In a fresh process, as imports happen once. Every import of another thread than the main one is noted,
# and slowed, so that modules stay half there for long; threads change places every 0.1 ms.
SCRIPT = textwrap.dedent("""
    import os, sys, threading, time

    noted = []

    class Slow:
        def find_spec(self, name, path=None, target=None):
            if threading.current_thread() is not threading.main_thread():
                noted.append(name)
                time.sleep(0.02)
            return None

    sys.meta_path.insert(0, Slow())
    sys.setswitchinterval(1e-4)

    import json
    from pathlib import Path
    from paredown.search.tracking import tracker as tracking
    from paredown.search.study.display import Outline
    from paredown.search.study.evaluation import Evaluation, Goal
    from paredown.search.tracking.mlflow_models import LoggedBundle
    from paredown.search.tracking.mlflow_writer import TrackingPlace
    from paredown.search.study.pareto import front_of
    from paredown.search.report.plots import front_panels, parallel_figure, progress_figure
    from paredown.search.report.style import Picture
    from paredown.spaces.candidates.candidate import Candidate, LayerChoice

    folder, uri, is_loaded_first = Path(sys.argv[1]), sys.argv[2] or None, sys.argv[3] == "yes"
    if not is_loaded_first:
        tracking.load_all = lambda: None
    goals = (Goal(metric="accuracy", direction="maximize"),
             Goal(metric="onnx_bytes", direction="minimize"))
    candidates = [Candidate.of(layers={"a": LayerChoice(weight_bits=bits)}) for bits in (8, 6, 4, 2)]
    evaluations = tuple(
        Evaluation(number=n, key=c.key, candidate=c, kind="search",
                   metrics={"accuracy": 0.9 - 0.1 * n, "onnx_bytes": 100.0 - 10 * n}, duration_s=1.0)
        for n, c in enumerate(candidates)
    )
    front = front_of(evaluations, goals)
    outline = Outline(layer_weights={"a": 9}, widths={})
    picture = Picture(evaluations=evaluations, front=front, outline=outline,
                      hypervolumes=(0.1, 0.2, 0.3, 0.4))

    def draw():
        for figure in (*front_panels(picture), parallel_figure(picture), progress_figure(picture)):
            figure.to_html(full_html=False, include_plotlyjs=False)

    tracker = tracking.Tracker(TrackingPlace(run_folder=folder, search_id="s", uri=uri), outline)
    for evaluation in evaluations:
        tracker.record(evaluation, front, 0.1)
    tracker.log_text("report.html", "<p>")
    bundle = Path(sys.argv[4])
    tracker.log_bundle(LoggedBundle(key=evaluations[0].key, folder=bundle, holds=True))
    trouble = None
    try:
        until = time.monotonic() + 60
        while tracker._waiting and not tracker._trouble and time.monotonic() < until:
            draw()
            if noted and not is_loaded_first:
                break
    except AttributeError as error:
        trouble = str(error)
    tracker.close(timeout_s=30 if is_loaded_first else 0)
    # Looking for what is not installed leaves nothing half there.
    found = sorted({name for name in noted if name in sys.modules})
    print(json.dumps({"found": found, "trouble": trouble, "problems": tracker.problems}), flush=True)
    os._exit(0)
""")


@pytest.fixture
def bundle(tmp_path):
    """A folder with the smallest ONNX file there is."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Abs", ["x"], ["y"])], "g", values[:1], values[1:])
    opsets = [helper.make_opsetid("", 21)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), folder / "model.onnx")
    return folder


def drawn_beside_the_writer(tmp_path, bundle, uri="", is_loaded_first=True):
    (tmp_path / "run").mkdir()
    first = "yes" if is_loaded_first else "no"
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "run"), uri, first, str(bundle)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


def test_the_writer_imports_nothing_while_pictures_are_drawn(tmp_path, bundle):
    seen = drawn_beside_the_writer(tmp_path, bundle)
    assert seen == {"found": [], "trouble": None, "problems": []}


def test_nor_does_it_where_the_store_is_a_server_that_is_away(tmp_path, bundle):
    seen = drawn_beside_the_writer(tmp_path, bundle, "http://127.0.0.1:9")
    assert seen["found"] == []
    assert seen["trouble"] is None
    assert seen["problems"], "nothing listens there"


def test_a_writer_that_imports_is_noticed(tmp_path, bundle):
    """That the test above can fail: without the imports beforehand, the thread does them."""
    seen = drawn_beside_the_writer(tmp_path, bundle, is_loaded_first=False)
    assert "mlflow" in seen["found"]

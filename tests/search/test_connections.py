"""Telemetry is off in every process, and no socket of ours leads beyond the machine."""

import ast
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from paredown.spaces.system.telemetry import SWITCHES

ROOT = Path(__file__).resolve().parents[2]
PAREDOWN = [sys.executable, "-c", "from paredown.search.cli.commands import main; main()"]
CONFIG = """\
name: quiet
task: {name: digits}
space: {rules: [{layers: "*", weight_bits: [8, 32], method: [rtn]}]}
goals: [{metric: accuracy}, {metric: onnx_bytes}]
hardware: {latency: roofline}
search: {engine: ENGINE, sampler: random, evaluations: 3, workers: 1, rung_images: 100000}
"""
# Local sockets, netlink and loopback; an address of port 0 sends nothing, the resolver sorts with it.
AT_HOME = re.compile(
    r"AF_UNIX|AF_NETLINK|AF_UNSPEC|sin6?_port=htons\(0\)"
    r'|inet_addr\("127\.|inet_pton\(AF_INET6, "(::1|::ffff:127\.)'
)
# Ray asks the kernel which address it would send from, by a UDP socket that sends nothing.
ASKS_ROUTE = re.compile(r'inet_addr\("8\.8\.8\.8"\)')


@pytest.fixture
def environment(tmp_path):
    """A user's environment without switches of theirs; what telemetry keeps would lie below `home`."""
    plain = {n: v for n, v in os.environ.items() if n not in (*SWITCHES, "CI", "XDG_CACHE_HOME")}
    home = tmp_path / "home"
    home.mkdir()
    return plain | {"HOME": str(home), "OMP_NUM_THREADS": "1"}


@pytest.mark.parametrize(
    "module",
    [
        "paredown.compressors.kernels.kernel_checks",
        "paredown.hardware_models.memory.measured_memory",
        "paredown.hardware_models.timing.time_models",
        "paredown.search.bundles.verification",
    ],
)
def test_onnx_runtime_keeps_no_record_of_what_it_runs(module, environment):
    code = f"import {module}, onnxruntime; onnxruntime.SessionOptions()"
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert list(Path(environment["HOME"]).rglob("onnxruntime.db")) == []


def test_every_file_that_imports_onnx_runtime_has_its_telemetry_off_before():
    importing, open_ = 0, []
    for package in ("spaces", "compressors", "hardware_models", "search"):
        switched = "switch_off()" in (ROOT / package / "__init__.py").read_text()
        for path in (ROOT / package).rglob("*.py"):
            text = path.read_text()
            names = {
                alias.name.split(".")[0]
                for node in ast.walk(ast.parse(text))
                if isinstance(node, ast.Import | ast.ImportFrom)
                for alias in (node.names if isinstance(node, ast.Import) else [])
            } | {m.split(".")[0] for m in re.findall(r"^\s*from (\S+) import", text, re.M)}
            if names & {"onnxruntime", "mlflow", "ray", "datasets"}:
                importing += 1
                alone = "ORT_DISABLE_TELEMETRY" in text
                if not (switched or alone):
                    open_.append(str(path))
    assert importing > 5
    assert open_ == []


def _watch(log):
    # By seccomp only the calls asked for stop the process.
    calls = "trace=connect,sendto,sendmsg,sendmmsg"
    return ["strace", "-f", "--seccomp-bpf", "-qq", "-e", calls, "-o", str(log)]


def watched(log, environment, *arguments, folder):
    return [*_watch(log), *PAREDOWN, *arguments], {"env": environment, "cwd": folder}


def strangers(log):
    """Calls in a log of strace that reach beyond this machine."""
    addressed = [line for line in log.read_text(errors="replace").splitlines() if "AF_" in line]
    return [
        line
        for line in addressed
        if not AT_HOME.search(line) and not (ASKS_ROUTE.search(line) and "connect(" in line)
    ]


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_a_stranger_would_be_seen(tmp_path):
    # 192.0.2.1 is nobody's (RFC 5737), and connecting a UDP socket sends nothing.
    code = "import socket; s = socket.socket(2, 2); s.connect(('127.0.0.1', 9)); "
    code += "s.connect_ex(('192.0.2.1', 9))"
    log = tmp_path / "calls.log"
    subprocess.run([*_watch(log), sys.executable, "-c", code], check=True)
    (seen,) = strangers(log)
    assert "192.0.2.1" in seen


@pytest.mark.cluster
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_no_command_connects_beyond_this_machine(tmp_path, environment):
    """With the local engine: Ray itself asks which cloud its host is in, whatever its settings say."""
    config = tmp_path / "quiet.yaml"
    config.write_text(CONFIG.replace("ENGINE", "local"))
    log = tmp_path / "calls.log"
    network = ["calibrate", "--families", "mlp", "--networks", "8", "--output", "c.json"]
    for arguments in (["search", "quiet.yaml"], ["verify", "BUNDLES"], network):
        bundles = [str(path) for path in sorted(tmp_path.glob("runs/quiet/bundles/*"))[:1]]
        given = [b for a in arguments for b in (bundles if a == "BUNDLES" else [a])]
        command, place = watched(log, environment, *given, folder=tmp_path)
        done = subprocess.run(command, capture_output=True, text=True, **place)
        assert done.returncode == 0, done.stderr
        assert strangers(log) == []
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ui = ["ui", "runs/quiet", "--port", str(port)]
    command, place = watched(log, environment, *ui, folder=tmp_path)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **place) as process:
        try:
            while not (line := process.stdout.readline()).startswith("open "):
                assert line, "the server ended"
            time.sleep(3)
        finally:
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            os.kill(int(children[0]), signal.SIGTERM)
            process.wait(60)
    assert strangers(log) == []
    assert not list(Path(environment["HOME"]).rglob("onnxruntime.db"))

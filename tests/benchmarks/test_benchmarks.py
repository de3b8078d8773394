"""Every benchmark imports, explains itself, and stands on its page under the command that runs it."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted((ROOT / "benchmarks").glob("*/*.py"))
SHARED = {
    "compressors/paired.py",
    "operators/reader.py",
    "storage/networks.py",
    "training/resnet20.py",
} | {
    f"networks/{name}.py"
    for name in ("characters", "handwriting", "keywords", "pictures", "sentences")
}
"""Imported by the benchmarks of their folder."""
RUN = [path for path in SCRIPTS if path.relative_to(ROOT / "benchmarks").as_posix() not in SHARED]


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _docstring(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").split('"""')[1].splitlines()


@pytest.mark.parametrize("path", RUN, ids=_name)
def test_a_benchmark_starts_and_explains_itself(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = set(sys.modules)
    monkeypatch.setattr(sys, "argv", [str(path), "--help"])
    monkeypatch.syspath_prepend(path.parent)
    try:
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(path), run_name="__main__")
    finally:
        for name in {each.stem for each in path.parent.glob("*.py")} - before:
            sys.modules.pop(name, None)
    assert ended.value.code == 0
    printed = " ".join(capsys.readouterr().out.split())
    # argparse breaks lines at hyphens too.
    assert _docstring(path)[0].replace(" ", "") in printed.replace(" ", "")


@pytest.mark.parametrize("path", RUN, ids=_name)
def test_its_docstring_is_one_line_and_the_command(path: Path) -> None:
    sentence, empty, command, *_ = _docstring(path)
    assert sentence.endswith(".")
    assert empty == ""
    assert re.match(rf"    (PAREDOWN_DATA=\.\.\. )?python {re.escape(_name(path))}\b", command)


def test_every_benchmark_stands_on_the_page_and_the_page_names_no_other() -> None:
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    named = set(re.findall(r"python (benchmarks/\w+/\w+\.py)", page))
    assert named == {_name(path) for path in RUN}


def test_every_benchmark_lies_in_the_folder_of_its_subject() -> None:
    assert list((ROOT / "benchmarks").glob("*.py")) == []

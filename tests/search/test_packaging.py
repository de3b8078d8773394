"""The wheel: an editable install finds what the wheel would drop, so the two are compared."""

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOP = ("search", "spaces", "compressors", "hardware_models")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def package_files():
    files = (path for top in TOP for path in (ROOT / top).rglob("*") if path.is_file())
    return {p.relative_to(ROOT).as_posix() for p in files if "__pycache__" not in p.parts}


def test_every_folder_is_a_listed_package():
    folders = {path.rpartition("/")[0] for path in package_files()}
    listed = set(PROJECT["tool"]["setuptools"]["packages"])
    assert listed == {"paredown." + folder.replace("/", ".") for folder in folders}
    with_code = {path.rpartition("/")[0] for path in package_files() if path.endswith(".py")}
    assert all((ROOT / folder / "__init__.py").is_file() for folder in with_code)


def test_the_wheel_holds_every_file_of_the_packages_and_nothing_else(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for top in TOP:
        shutil.copytree(ROOT / top, source / top, ignore=shutil.ignore_patterns("__pycache__"))
    build = "from setuptools import build_meta; build_meta.build_wheel('dist')"
    done = subprocess.run(
        [sys.executable, "-c", build], cwd=source, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = (source / "dist").glob("*.whl")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert names == {f"paredown/{path}" for path in package_files()}


@pytest.mark.parametrize("group", ["runtime", "dev"])
def test_every_requirement_has_a_tested_version(group):
    project = PROJECT["project"]
    groups = {"runtime": project["dependencies"], **project["optional-dependencies"]}
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {line.partition("==")[0].lower() for line in lines if not line.startswith("#")}
    names = {re.match(r"[\w.-]+", requirement)[0].lower() for requirement in groups[group]}
    assert names <= {name.replace("_", "-") for name in pinned}
    assert "torch==2.13.0" in lines

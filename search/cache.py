"""Files that are made once and found again by what they were made from."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor


def cache_folder() -> Path:
    """PAREDOWN_CACHE, else XDG_CACHE_HOME/paredown, else ~/.cache/paredown."""
    if "PAREDOWN_CACHE" in os.environ:
        return Path(os.environ["PAREDOWN_CACHE"])
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "paredown"


def digest(*parts: str | bytes | Path) -> str:
    """24 hexadecimal digits that stand for the parts; of a Path, for the content of its file."""
    total = hashlib.blake2b(digest_size=12)
    for part in parts:
        data = part.read_bytes() if isinstance(part, Path) else part
        data = data.encode() if isinstance(data, str) else data
        # The length keeps ("ab", "c") and ("a", "bc") apart.
        total.update(len(data).to_bytes(8, "little"))
        total.update(data)
    return total.hexdigest()


def cached_file(name: str, make: Callable[[], Mapping[str, Tensor]]) -> Path:
    """The safetensors file `name` of the cache, made by `make` if it is not there yet.

    The file appears whole or not at all, so any number of processes may ask for it at once.
    """
    path = cache_folder() / f"{name}.safetensors"
    if not path.is_file():
        tensors = {key: t.contiguous() for key, t in make().items()}
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
        os.close(handle)
        try:
            save_file(tensors, temporary)
            os.replace(temporary, path)
        finally:
            Path(temporary).unlink(missing_ok=True)
    return path


def cached_tensors(name: str, make: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors of `cached_file`."""
    return load_file(cached_file(name, make))

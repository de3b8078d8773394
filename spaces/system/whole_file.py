"""Text files that appear whole or not at all, whatever else reads or writes them."""

from __future__ import annotations

import os
import uuid
from pathlib import Path


def write_text_whole(path: Path, text: str) -> None:
    """Writes `text` beside `path` under a name of its own, then in one step into its place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    written = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        with written.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            # Without it a power cut may leave the new name on an empty file.
            os.fsync(file.fileno())
        os.replace(written, path)
    finally:
        written.unlink(missing_ok=True)

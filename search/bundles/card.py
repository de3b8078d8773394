"""The card of a bundle: what was predicted, of which files, on which machine, and what was measured.

A card is read as what it is, a file that may have come from anywhere: every entry that a rule reads must
be there and of its kind, and what others wrote beside it is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from paredown.compressors.bundle.loading import CARD_FILE
from paredown.compressors.bundle.writing import write_card
from paredown.search.study.bundle_check import BundleCheck
from paredown.spaces.system.errors import ParedownError
from paredown.spaces.system.json_values import Json
from paredown.spaces.system.sealed import DamagedFileError, read_sealed

VERSION = 1
"""Of the cards written here; earlier ones name none and hold the same."""
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,254}$")]
"""Of a file in the bundle's folder: it leads nowhere else."""
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Figure = float | int
"""A number in SI units; bytes of files are whole."""
Count = Annotated[int, Field(ge=0)]
Lines = Annotated[tuple[str, ...], Field(strict=False)]
_CARD_BYTES = 2**24
_MISTAKES_SHOWN = 3


class VerificationError(ParedownError):
    """A bundle cannot be held against anything: it has no complete card."""


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False, frozen=True, extra="allow")


class _Figures(_Part):
    """Figures by name, of which some must be there."""

    __pydantic_extra__: dict[str, Figure] = Field(init=False)


class Predicted(_Figures):
    """Every metric of the candidate, and its latency over that of the uncompressed model."""

    onnx_bytes: Figure
    packed_bytes: Figure
    latency_ratio_low: Figure
    latency_ratio_high: Figure

    @property
    def figures(self) -> dict[str, float]:
        """All of them by name."""
        return dict(self)


class Uncompressed(_Figures):
    """The model compared with: its bundle and figures.

    `bundle` is the folder itself or one beside it: a card leads nowhere else.
    """

    key: Name = ""
    bundle: Annotated[str, Field(pattern=r"^(\.|\.\./[A-Za-z0-9_-]{1,64})$")]
    latency_low_s: Figure
    latency_high_s: Figure
    onnx_sha256: Digest


class Hardware(_Part):
    """What latencies were predicted for; `machine` is None where that is not the machine at hand."""

    device: str
    threads: Annotated[int, Field(ge=1, le=1024)]
    batch_size: int = 1
    latency_model: str = ""
    is_timed: bool
    caveats: Lines = ()
    machine: str | None


class Measured(_Part):
    """What verifying the bundle found: figures in SI units, kernels by name, and what was said."""

    verdict: str
    metrics: Mapping[str, Figure]
    kernels: Mapping[str, Count]
    warnings: Lines
    mismatches: Lines
    unchecked: Lines

    @classmethod
    def of(cls, check: BundleCheck) -> Measured:
        """The same of a check."""
        return cls(
            verdict=check.verdict,
            metrics=check.measured,
            kernels=check.kernels,
            warnings=check.warnings,
            mismatches=check.mismatches,
            unchecked=check.unchecked,
        )

    def to_json(self) -> dict[str, Json]:
        """The same as plain values."""
        return self.model_dump(mode="json")


class Card(_Part):
    """The card of a bundle. `files` holds the SHA-256 of each, `metric` names the task's quality."""

    version: int = 1
    key: Name
    label: str = ""
    task: str = ""
    metric: str = ""
    predicted: Predicted
    uncompressed: Uncompressed
    hardware: Hardware
    integer_kernels: Mapping[str, Count]
    files: Mapping[FileName, Digest]
    config_yaml: str
    measured: Measured | None = None

    def with_measured(self, check: BundleCheck) -> Card:
        """The card with what verifying its bundle found."""
        return self.model_copy(update={"measured": Measured.of(check)})

    def write(self, folder: Path) -> None:
        """Puts the card into the bundle in `folder`, and its figures into the README there."""
        # What an earlier version left out stays out.
        write_card(folder, self.model_dump(mode="json", exclude_unset=True))


def read_card(folder: Path) -> Card:
    """The card of the bundle in `folder`, complete.

    Raises:
        VerificationError: There is none, it is damaged or of a later version, or an entry is missing
            or of another kind.
    """
    path = folder / CARD_FILE
    if not path.is_file():
        raise VerificationError(f"{folder} must hold {CARD_FILE}; give the folder of a bundle")
    try:
        plain = read_sealed(path, at_most_bytes=_CARD_BYTES)
        version = plain.get("version", 1)
        if isinstance(version, int) and version > VERSION:
            raise VerificationError(
                f"{path} must be a card of version {VERSION} at most, got {version}; a later "
                "paredown wrote it, so install that one"
            )
        return Card.model_validate(plain)
    except DamagedFileError as error:
        raise VerificationError(
            f"{path} must be the card that was written, but {error}; export the model again"
        ) from None
    except ValidationError as error:
        found = error.errors(include_url=False)
        shown = [f"{'.'.join(map(str, e['loc']))} ({e['msg']})" for e in found[:_MISTAKES_SHOWN]]
        raise VerificationError(
            f"{path} must be complete, got {len(found)} mistakes: {', '.join(shown)}; export the "
            "model again"
        ) from None

"""The card of a bundle, read as what it is: a file that may have come from anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from paredown.compressors.bundle.loading import CARD_FILE
from paredown.spaces.system.errors import ParedownError
from paredown.spaces.system.sealed import DamagedFileError, read_sealed

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_CARD_BYTES = 2**24
_MISTAKES_SHOWN = 3


class VerificationError(ParedownError):
    """A bundle cannot be held against anything: it has no complete card."""


class _Part(BaseModel):
    """One part of a card: what a rule reads must be there, what others wrote beside it may."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class _Predicted(_Part):
    __pydantic_extra__: dict[str, float] = Field(init=False)
    model_config = ConfigDict(extra="allow")

    onnx_bytes: float
    packed_bytes: float
    latency_ratio_low: float
    latency_ratio_high: float


class _Uncompressed(_Part):
    """`bundle` is the folder itself or one beside it: a card leads nowhere else."""

    bundle: Annotated[str, Field(pattern=r"^(\.|\.\./[A-Za-z0-9_-]{1,64})$")]
    onnx_sha256: Digest
    latency_low_s: float
    latency_high_s: float


class _Hardware(_Part):
    device: str
    threads: Annotated[int, Field(ge=1, le=1024)]
    is_timed: bool
    machine: str | None


class _Card(_Part):
    key: Name
    predicted: _Predicted
    integer_kernels: dict[str, Annotated[int, Field(ge=0)]]
    uncompressed: _Uncompressed
    hardware: _Hardware
    files: dict[str, Digest]
    config_yaml: str


def read_card(folder: Path) -> dict[str, Any]:
    """The card of the bundle in `folder`, complete and without its digest.

    Raises:
        VerificationError: There is none, it is damaged, or an entry is missing or of another kind.
    """
    path = folder / CARD_FILE
    if not path.is_file():
        raise VerificationError(f"{folder} must hold {CARD_FILE}; give the folder of a bundle")
    try:
        card = read_sealed(path, at_most_bytes=_CARD_BYTES)
        _Card.model_validate(card)
    except DamagedFileError as error:
        raise VerificationError(
            f"{path} must be the card that was written, but {error}; export the model again"
        ) from None
    except ValidationError as error:
        found = error.errors(include_url=False)
        told = [f"{'.'.join(map(str, e['loc']))} ({e['msg']})" for e in found[:_MISTAKES_SHOWN]]
        raise VerificationError(
            f"{path} must be complete, got {len(found)} mistakes: {', '.join(told)}; export the "
            "model again"
        ) from None
    return card

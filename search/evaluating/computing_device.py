"""Where models are scored, statistics collected and layers solved: what `search.device` names."""

from __future__ import annotations

import os

import torch

from paredown.search.config.schema import SearchSection
from paredown.spaces.system.errors import ParedownError


class ComputingDeviceError(ParedownError):
    """The device to compute on is not on this machine."""


def computing_device(section: SearchSection) -> torch.device:
    """The device of `search.device`; "auto" is a GPU where torch sees one, the CPU elsewhere.

    Raises:
        ComputingDeviceError: A GPU is named that torch does not see.
    """
    seen = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if section.device == "auto":
        return torch.device("cuda" if seen else "cpu")
    device = torch.device(section.device)
    if device.type == "cuda" and (device.index or 0) >= seen:
        built = "" if torch.version.cuda else ", and is built without CUDA"
        raise ComputingDeviceError(
            f"search.device must be one that torch sees on this machine, got {section.device}; torch "
            f"{torch.__version__} sees {seen} GPUs{built}: set it to auto or cpu, or install a torch "
            "for this machine's GPU"
        )
    return device


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for bfloat16, which it otherwise emulates, slowly."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    able = torch.cpu.get_capabilities()
    return any(able.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def prepare_process(device: torch.device, threads: int) -> None:
    """Settings of a process that computes on `device`, with so many threads on the CPU.

    On a GPU float32 stays float32 (convolutions would use TF32, 10 bits of mantissa), and sums are
    made in the same order each time, https://docs.pytorch.org/docs/stable/notes/randomness.html.
    """
    torch.set_num_threads(threads)
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.use_deterministic_algorithms(True, warn_only=True)

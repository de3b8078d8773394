"""Loss-aware weights of a character LSTM trained from nothing, against codes that ignore the loss.

    PAREDOWN_DATA=... python benchmarks/training/character_lstm.py [--seeds N] [--steps N] [--scales gate]

An LSTM of 64 units on characters as they are (one-hot), where no norm follows, so that scales matter: 32
rows of 32 characters of War and Peace at each of few steps of Adam (5e-3, gradients clipped at 5), on one
thread. Both matrices of the LSTM are coded, with a scale for each row, or for each gate as in the papers
(Hou, Yao and Kwok 2017, arXiv:1611.01600; Hou and Kwok 2018, arXiv:1802.08635). BinaryConnect, BWN, TWN,
and the scales of least squares in training keep latent weights and clip them at 1, as there; scales after
training round the network trained in floats. All start from the same weights and see the same rows.
Printed are bits a character of the next tenth of the text. Exit code 1 if LAB is not better than BWN by
0.1, or than BinaryConnect by 0.5.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn import functional as F

from paredown.compressors.rounding import (
    fit_scaled_codebook,
    linear_levels,
    ternary_by_threshold,
)
from paredown.compressors.storage import StoredTensor
from paredown.compressors.training.quantizers import QUANTIZERS, Learned
from paredown.spaces.candidates import Storage

UNITS, TIME, ROWS = 64, 32, 32
LR, CLIP_NORM, LARGEST = 5e-3, 5.0, 1.0
SCORED = 2**14
"""Characters of the held-out text that are scored, in `ROWS` rows."""
BETTER_THAN_BWN, BETTER_THAN_BINARY_CONNECT = 0.1, 0.5

Project = Callable[[Tensor], Tensor]
Weights = Mapping[str, Tensor]


def signs(w: Tensor) -> Tensor:
    """BinaryConnect (Courbariaux et al. 2015, arXiv:1511.00363): -1 or 1."""
    return torch.where(w < 0, -1.0, 1.0)


def least_squares(bits: int) -> Project:
    """The nearest codes and scales of `bits` bits, row by row; BWN at one bit."""
    return lambda w: fit_scaled_codebook(w, None, linear_levels(bits)).dense().float()


BLIND: dict[str, Project] = {
    "floats": lambda w: w,
    "BinaryConnect": signs,
    "BWN": least_squares(1),
    "TWN": lambda w: ternary_by_threshold(w).dense().float(),
    "least squares, 2 bits": least_squares(2),
    "least squares, 3 bits": least_squares(3),
}
AWARE = {"LAB (laq, 1 bit)": 1, "LAT (laq, 2 bits)": 2, "LAQ (laq, 3 bits)": 3}


class _Passed(torch.autograd.Function):
    @staticmethod
    def forward(_: FunctionCtx, latent: Tensor, weight: Tensor) -> Tensor:
        return weight.clone()

    @staticmethod
    def backward(_: FunctionCtx, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


class Blind(nn.Module):
    """Latent weights that are projected without a look at the loss."""

    def __init__(self, w: Tensor, project: Project) -> None:
        super().__init__()
        self.latent = nn.Parameter(w.clone())
        self._project = project

    def forward(self) -> Tensor:
        """The projected weight; its gradient is handed to the latent one."""
        passed: Tensor = _Passed.apply(self.latent, self._project(self.latent.detach()))
        return passed

    def learned(self) -> Iterator[Learned]:
        """The latent weight."""
        yield Learned(self.latent, 1.0)

    def after_step(self) -> None:
        """Clips the latent weight."""
        self.latent.detach().clamp_(-LARGEST, LARGEST)


def loss_aware(w: Tensor, bits: int) -> nn.Module:
    """The product's own quantiser, from the nearest codes of `w`."""
    found, top = fit_scaled_codebook(w, None, linear_levels(bits)), max(1, 2 ** (bits - 1) - 1)
    tensor = StoredTensor(
        storage=Storage(shape=tuple(w.shape), kept=w.numel(), bits=bits),
        values=(found.codes * top).round().to(torch.int8),
        scale=(found.scale / top).float(),
    )
    return QUANTIZERS["laq"](tensor, None)  # type: ignore[return-value]


class Text:
    """Characters by number, four fifths to train on and a part of the next tenth to score."""

    def __init__(self, text: str) -> None:
        numbers = {c: i for i, c in enumerate(sorted(set(text)))}
        ids = torch.tensor([numbers[c] for c in text])
        self.characters = len(numbers)
        self.train = ids[: 8 * len(ids) // 10]
        self.held_out = ids[len(self.train) : 9 * len(ids) // 10][: SCORED + 1]

    def batch(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Inputs and targets (ROWS, TIME)."""
        starts = torch.randint(len(self.train) - TIME - 1, (ROWS, 1), generator=generator)
        rows = self.train[starts + torch.arange(TIME + 1)]
        return rows[:, :-1], rows[:, 1:]


def first_weights(characters: int, seed: int) -> dict[str, Tensor]:
    """Uniform within 0.08, forget gates open, as in the papers' own code."""
    draw = torch.Generator().manual_seed(seed)
    shapes = {"input": (4 * UNITS, characters), "hidden": (4 * UNITS, UNITS)}
    shapes["out"] = (characters, UNITS)
    found = {n: 0.16 * torch.rand(s, generator=draw) - 0.08 for n, s in shapes.items()}
    bias = torch.zeros(4 * UNITS)
    bias[UNITS : 2 * UNITS] = 1
    return found | {"bias": bias, "out_bias": torch.zeros(characters)}


def loss(weights: Weights, inputs: Tensor, targets: Tensor) -> Tensor:
    """Nats a character, of ids (rows, time)."""
    gates = (weights["input"].view(4 * UNITS, -1), weights["hidden"].view(4 * UNITS, UNITS))
    matrices = [*gates, weights["bias"], torch.zeros_like(weights["bias"])]
    state = torch.zeros(1, len(inputs), UNITS)
    hot = F.one_hot(inputs, len(weights["out"])).float()
    hidden = torch.lstm(hot, (state, state), matrices, True, 1, 0.0, False, False, True)[0]
    logits = F.linear(hidden, weights["out"], weights["out_bias"])
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def bits_a_character(weights: Weights, text: Text) -> float:
    """Of the held-out text."""
    inputs, targets = (x.view(ROWS, -1) for x in (text.held_out[:-1], text.held_out[1:]))
    with torch.no_grad():
        return float(loss(weights, inputs, targets)) / math.log(2)


def trained(
    make: Callable[[Tensor], nn.Module], text: Text, seed: int, arguments: argparse.Namespace
) -> dict[str, Tensor]:
    """The weights as they would be exported, after all steps."""
    first = first_weights(text.characters, seed)
    rows = (4 if arguments.scales == "gate" else 4 * UNITS, -1)
    coded = {name: make(first.pop(name).view(rows)) for name in ("input", "hidden")}
    floats = {name: nn.Parameter(x) for name, x in first.items()}
    latent = [each.parameter for x in coded.values() for each in x.learned()]
    parameters = [*latent, *floats.values()]
    optimizer = torch.optim.Adam(parameters, LR)
    draw = torch.Generator().manual_seed(seed)
    for _ in range(arguments.steps):
        weights = {name: x() for name, x in coded.items()} | floats
        optimizer.zero_grad()
        loss(weights, *text.batch(draw)).backward()
        nn.utils.clip_grad_norm_(parameters, CLIP_NORM)
        optimizer.step()
        with torch.no_grad():
            for quantizer in coded.values():
                quantizer.after_step()
    found = {name: x() for name, x in coded.items()} | floats
    return {name: x.detach() for name, x in found.items()}


def scores(text: Text, seed: int, arguments: argparse.Namespace) -> dict[str, float]:
    """Bits a character by method."""
    found = {}
    for name, project in BLIND.items():
        weights = trained(lambda w, p=project: Blind(w, p), text, seed, arguments)
        found[name] = bits_a_character(weights, text)
        if name == "floats":
            for bits in AWARE.values():
                coded = {n: least_squares(bits)(weights[n]) for n in ("input", "hidden")}
                found[f"after training, {bits} bits"] = bits_a_character(weights | coded, text)
    for name, bits in AWARE.items():
        weights = trained(lambda w, b=bits: loss_aware(w, b), text, seed, arguments)
        found[name] = bits_a_character(weights, text)
    return found


def main() -> int:
    """Prints a line for each method; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--scales", choices=("row", "gate"), default="row")
    arguments = parser.parse_args()
    if "PAREDOWN_DATA" not in os.environ:
        sys.exit("PAREDOWN_DATA must name the folder with text/warpeace.txt; set it")
    torch.set_num_threads(1)
    path = Path(os.environ["PAREDOWN_DATA"]) / "text" / "warpeace.txt"
    text = Text(path.read_text(encoding="utf-8"))
    runs = [scores(text, seed, arguments) for seed in range(arguments.seeds)]
    print(f"{arguments.steps} steps, a scale for each {arguments.scales}, one thread")
    print(f"{'bits a character, seeds':26}" + "".join(f"{s:8}" for s in range(len(runs))))
    for name in runs[0]:
        print(f"{name:26}" + "".join(f"{run[name]:8.3f}" for run in runs))
    mean = {name: statistics.mean(run[name] for run in runs) for name in runs[0]}
    lab = mean["LAB (laq, 1 bit)"]
    gains = (mean["BWN"] - lab, mean["BinaryConnect"] - lab)
    print(f"LAB gains {gains[0]:.3f} on BWN, {gains[1]:.3f} on BinaryConnect")
    return int(gains[0] < BETTER_THAN_BWN or gains[1] < BETTER_THAN_BINARY_CONNECT)


if __name__ == "__main__":
    sys.exit(main())

"""Codebooks weighted by the loss's curvature, against those that ignore it (BWN, TWN, PTQ), on digits.

    python benchmarks/compressors/loss_aware.py [--seeds N]

One-shot projection of networks without normalisation on scikit-learn's digits, one of two hidden layers
of 128 and one of four of 64, once with one scale for each layer and once with one for each row; five
seeds, or `--seeds N`, as differences at 3 bits are below what five can tell. LAB against BWN, LAT against
TWN, LAQ against the scales of PTQ (largest weight, and least squares). Figures are loss and errors on the
quarter kept for testing.

The Fisher diagonal F comes from sampled labels on the training images; the curvature is its root, which
is what the papers use (the root of Adam's second moment), F itself, or the diagonal of its Kronecker
factors, which needs no sums of its own and within a row is the inputs' mean square: what the method `laq`
takes.

Every method is seen twice: with biases as trained, and with biases that take what the projection does to
the mean of each output, as the solvers of this package do wherever a layer has a bias. Then the curvature
is that about the inputs' means, for only what is left of an error hurts. Behind a ReLU most of an input's
mean square is its mean, so the two differ much.

What was found, in the loss of 30 seeds. Where all biases take the mean, LAB and every LAT beat BWN, TWN
and a ternary code of least squares in every seed, on both networks and granularities (two layers: LAB by
0.33 to 0.54, LAT by 0.03 to 0.06; four layers: more). LAQ at 3 bits beats scales from the largest weight
by 2.8 standard errors and more; against scales of least squares there is nothing to gain on two layers,
which lose next to nothing at 3 bits, and 0.002 to 0.008 on four (1 to 2 standard errors). Logarithmic
codes are level. The factors do about as well as the root of F; F itself is better at one and two bits
(by 0.004 to 0.016 at two, a scale for each row) and the same at three. Against blind codes beside biases
as trained, which is what rounding alone gives, LAQ gains in either grid (least squares: 0.004 to 0.030,
3 to 4 standard errors). Four layers at one or two bits are another matter there: their inputs are no
longer those whose means the biases took, and the blind codes beside biases as trained lose less. With all
biases as trained LAT gains nothing sure: a diagonal cannot see that all inputs of a row have means of one
sign, so that what it saves is lost again in shifted outputs.
"""

from __future__ import annotations

import argparse
import math
from itertools import pairwise, product

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paredown.compressors.rounding import (
    ScaledCodes,
    alternate,
    fit_scaled_codebook,
    fit_two_scales,
    linear_levels,
    logarithmic_levels,
    ternary_by_threshold,
)
from paredown.search.tasks import digits_split

HIDDEN = {"two layers of 128": (128, 128), "four layers of 64": (64, 64, 64, 64)}
SEEDS = 5
STEPS = 600
SAMPLES = 8
"""Labels drawn for each image in the Fisher diagonal."""
DAMPING = 0.01
"""Share of the mean curvature added to it: a weight that no image moves is not free."""
CURVATURES = (", root of F", ", F", ", factors")
MODES = {"biases as trained": False, "biases take the mean": True}
PAIRS = (
    ("LAB, 1 bit", "BWN, 1 bit"),
    ("LAT exact", "TWN"),
    ("LAT exact", "TWN least squares"),
    ("LAT approximate", "TWN"),
    ("LAT two scales", "TWN two scales"),
    ("LAQ linear, 3 bits", "PTQ largest, 3 bits"),
    ("LAQ linear, 3 bits", "PTQ least squares, 3 bits"),
    ("LAQ logarithmic, 3 bits", "PTQ logarithmic, 3 bits"),
)


def images(part: str, seed: int) -> tuple[Tensor, Tensor]:
    """Images (n, 64) and labels (n,)."""
    split = digits_split(part, seed)
    assert isinstance(split.targets, Tensor)
    return split.prepare(split.inputs)[0].flatten(1), split.targets


def trained(hidden: tuple[int, ...], seed: int) -> nn.Sequential:
    """The network after 600 steps of Adam."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise((64, *hidden)):
        layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
    net = nn.Sequential(*layers, nn.Linear(hidden[-1], 10))
    x, y = images("train", seed)
    optimizer = torch.optim.Adam(net.parameters(), 2e-3)
    for _ in range(STEPS):
        rows = torch.randint(len(x), (64,))
        optimizer.zero_grad()
        F.cross_entropy(net(x[rows]), y[rows]).backward()
        optimizer.step()
    return net


def curvatures(net: nn.Sequential, x: Tensor, seed: int, centred: bool) -> dict[str, list[Tensor]]:
    """Curvature of each weight by the name of its kind, one matrix a layer, labels drawn from the model.

    `centred` takes the inputs about their means: the curvature where a bias makes up for those.
    """
    generator = torch.Generator().manual_seed(seed)
    sums: list[Tensor | float] = [0.0] * len(means(net, x))
    outer: list[Tensor | float] = list(sums)
    for _ in range(SAMPLES):
        inputs, outputs = [], []
        value = x
        for module in net:
            if isinstance(module, nn.Linear):
                inputs.append(value.detach())
                value = module(value)
                outputs.append(value)
            else:
                value = module(value)
        drawn = torch.multinomial(value.detach().softmax(1), 1, generator=generator).flatten()
        loss = F.cross_entropy(value, drawn, reduction="sum")
        for index, gradient in enumerate(torch.autograd.grad(loss, outputs)):
            seen = inputs[index] - inputs[index].mean(0) * centred
            # One position per sample: the squared gradient is the outer product of squares.
            squares = gradient.square(), seen.square()
            sums[index] = sums[index] + squares[0].t() @ squares[1]
            outer[index] = outer[index] + torch.outer(squares[0].sum(0), squares[1].mean(0))
    found, factors = (
        [torch.as_tensor(total) / (SAMPLES * len(x)) for total in part] for part in (sums, outer)
    )
    return dict(zip(CURVATURES, ([d.sqrt() for d in found], found, factors), strict=True))


def means(net: nn.Sequential, x: Tensor) -> list[Tensor]:
    """Mean input of each layer, (fan-in,)."""
    found = []
    with torch.no_grad():
        for module in net:
            if isinstance(module, nn.Linear):
                found.append(x.mean(0))
            x = module(x)
    return found


def projected(name: str, w: Tensor, d: Tensor, granularity: str) -> Tensor:
    """The weight under one of the names in `PAIRS`, with a scale for each "row" or "layer"."""
    shape = w.shape if granularity == "row" else (1, -1)
    flat, curvature = w.reshape(shape), d.reshape(shape)
    bits = 1 if "1 bit" in name else 3 if "3 bits" in name else 2
    levels = logarithmic_levels(bits) if "logarithmic" in name else linear_levels(bits)
    weighs = curvature + DAMPING * curvature.mean() if name.startswith("LA") else None
    if "two scales" in name:
        return fit_two_scales(flat, weighs, levels)[0].view_as(w).float()
    if name == "TWN":
        found = ternary_by_threshold(flat)
    elif name == "LAT approximate":
        found = alternate(flat, weighs, levels, ternary_by_threshold(flat).scale)
    elif name.startswith("PTQ largest"):
        scale = flat.abs().amax(dim=1).double()
        codes = torch.round(flat.double() / scale.unsqueeze(1) * 3) / 3
        found = ScaledCodes(codes=codes, scale=scale)
    else:
        found = fit_scaled_codebook(flat, weighs, levels)
    return found.dense().view_as(w).float()


def scores(
    net: nn.Sequential, layers: list[tuple[Tensor, Tensor]], seed: int
) -> tuple[float, float]:
    """Loss and share of errors in percent on the test images, with these weights and biases."""
    x, y = images("test", seed)
    left = iter(layers)
    with torch.no_grad():
        for module in net:
            x = F.linear(x, *next(left)) if isinstance(module, nn.Linear) else module(x)
        wrong = (x.argmax(1) != y).double().mean()
        return float(F.cross_entropy(x, y)), 100 * float(wrong)


def measured(
    hidden: tuple[int, ...], granularity: str, centred: bool, seeds: int
) -> dict[str, Tensor]:
    """Loss and errors (seeds, 2) by name; loss-aware names carry their curvature."""
    found: dict[str, list[tuple[float, float]]] = {}
    for seed in range(seeds):
        net = trained(hidden, seed)
        x = images("train", seed)[0]
        dense = [(m.weight.detach(), m.bias.detach()) for m in net if isinstance(m, nn.Linear)]
        known, shift = curvatures(net, x, seed, centred), means(net, x)
        found.setdefault("uncompressed", []).append(scores(net, dense, seed))
        for name in dict.fromkeys(name for pair in PAIRS for name in pair):
            blind = {"": [torch.ones_like(weight) for weight, _ in dense]}
            for label, curvature in (known if name.startswith("LA") else blind).items():
                layers = []
                for (weight, bias), d, mean in zip(dense, curvature, shift, strict=True):
                    found_weight = projected(name, weight, d, granularity)
                    change = (weight - found_weight) @ mean
                    layers.append((found_weight, bias + change if centred else bias))
                found.setdefault(name + label, []).append(scores(net, layers, seed))
    return {name: torch.tensor(values).double() for name, values in found.items()}


def compare(aware: Tensor, blind: Tensor, text: str) -> None:
    """Prints the paired gain of one method over another."""
    gain = blind - aware
    error = gain.std(dim=0) / math.sqrt(len(gain))
    wins = int((gain[:, 0] > 0).sum())
    print(
        f"  {text:70s} loss {gain[:, 0].mean():+.4f} ± {error[0]:.4f} ({wins} of {len(gain)} "
        f"seeds)  errors {gain[:, 1].mean():+.2f} ± {error[1]:.2f} points"
    )


def compare_all(aware: dict[str, Tensor], blind: dict[str, Tensor]) -> None:
    for (ours, theirs), label in product(PAIRS, CURVATURES):
        compare(aware[ours + label], blind[theirs], f"{ours + label} gains on {theirs}")


def main() -> None:
    """Prints one line for each method, and one for each pair: the paired gain over seeds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=SEEDS)
    seeds = parser.parse_args().seeds
    torch.set_num_threads(1)
    for (title, hidden), granularity in product(HIDDEN.items(), ("layer", "row")):
        place = f"{title}, one scale for each {granularity}"
        found = {m: measured(hidden, granularity, centred, seeds) for m, centred in MODES.items()}
        for mode, results in found.items():
            print(f"{place}, {mode}")
            for name, values in results.items():
                loss, wrong = values.mean(dim=0).tolist()
                print(f"  {name:34s} loss {loss:.4f}  errors {wrong:.2f} %")
            compare_all(results, results)
        print(f"{place}, biases take the mean, those of the blind do not")
        kept, taking = (found[mode] for mode in MODES)
        compare_all(taking, kept)


if __name__ == "__main__":
    main()

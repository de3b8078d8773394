"""Ternary digits networks by their loss or blindly, and 3-bit ones trained by a teacher or by labels.

    python benchmarks/training/digits.py [--seeds 5] [--steps 200]

Each seed has splits and networks of its own of scikit-learn's 8x8 digits: 1,200 images to train on, 597
on which errors are counted. There are three networks with batch norms: an MLP 64-64-64-10 and the
residual network of the task `digits`, both after 25 epochs of Adam on the 1,200 images and their labels;
and the residual network as the task has it, which was trained on 898 of the images, shifted and turned,
and on smoothed labels.

One-shot ternary weights, of all layers but the last one, with one scale for each layer. LAT (Hou and Kwok
2018, arXiv:1802.08635) is the exact codebook in the metric of the loss, whose curvature is the root of
the Fisher diagonal; "exact" the same without curvature; TWN (Li et al. 2016, arXiv:1605.04711) the
threshold rule. Norms keep the statistics that they were trained with, or have them of the ternary network
on the images to train on. Loss is that on these images.

Students: a network with all weights at 3 bits, from its model without training, is trained for 200 steps
of 64 of 1,000 images, once towards the logits of the uncompressed network alone, and once towards the
labels alone. By the other 200 each chooses, with its own loss, its best state and the better of two
learning rates.

Figures are means over seeds with standard errors; differences are paired. For each network follows
whether LAT makes fewer errors than TWN with either statistics, and whether the student of the
uncompressed network has the smaller cross-entropy; exit code 1 if one of it does not hold.
"""

from __future__ import annotations

import argparse
import copy
import math
import sys
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

from paredown.compressors.layers import Database
from paredown.compressors.models import assemble
from paredown.compressors.rounding import (
    fit_scaled_codebook,
    linear_levels,
    ternary_by_threshold,
)
from paredown.compressors.statistics import collect_statistics, summed_cross_entropy
from paredown.compressors.storage import CompressedModel
from paredown.compressors.training import Budget, LossWeights, Recover, trained
from paredown.search.evaluating import TrainingRows
from paredown.search.tasks import Split, digits_split
from paredown.search.tasks.digits import DigitsNet, trained_digits
from paredown.spaces.candidates import Candidate, LayerChoice
from paredown.spaces.capture import capture
from paredown.spaces.structure import read_model_map

DAMPING = 0.01
"""Share of the mean curvature added to it: a weight that no image moves is not free."""
EPOCHS, BATCH = 25, 64
STUDENT_BITS, STUDENT_ROWS, HELD_OUT = 3, 1000, 200
RATES = (2e-3, 8e-3)
STUDENTS = {
    "teacher": LossWeights(logits=1.0, labels=0.0),
    "labels": LossWeights(logits=0.0, labels=1.0),
}

Project = Callable[[Tensor, Tensor], Tensor]
"""Ternary weights (1, n) from weights and their curvatures."""
METHODS: dict[str, Project] = {
    "TWN": lambda w, _: ternary_by_threshold(w).dense(),
    "exact": lambda w, _: fit_scaled_codebook(w, None, linear_levels(2)).dense(),
    "LAT": lambda w, d: fit_scaled_codebook(w, d, linear_levels(2)).dense(),
}
NORMS = {"as trained": False, "anew": True}


def rows(seed: int) -> tuple[Split, Split]:
    """1,200 images to train on, and the 597 that are left."""
    parts = [digits_split(part, seed) for part in ("train", "search", "test")]
    inputs = torch.cat([part.inputs[0] for part in parts])
    labels = torch.cat([part.targets for part in parts if isinstance(part.targets, Tensor)])
    count, prepare = STUDENT_ROWS + HELD_OUT, parts[0].prepare
    seen = Split(inputs=(inputs[:count],), targets=labels[:count], prepare=prepare)
    return seen, Split(inputs=(inputs[count:],), targets=labels[count:], prepare=prepare)


def images(split: Split) -> tuple[Tensor, Tensor]:
    """All images (n, 1, 8, 8) and labels (n,) of a split."""
    inputs, labels = split.rows(0, len(split))
    assert isinstance(inputs, list)
    assert isinstance(labels, Tensor)
    return inputs[0], labels


def mlp() -> nn.Module:
    """The MLP, untrained."""
    layers: list[nn.Module] = [nn.Flatten()]
    for _ in range(2):
        layers += [nn.Linear(64, 64, bias=False), nn.BatchNorm1d(64), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(64, 10))


def fitted(make: Callable[[], nn.Module], seed: int) -> nn.Module:
    """The network after 25 epochs of Adam on the images to train on."""
    x, y = images(rows(seed)[0])
    torch.manual_seed(seed)
    net = make().train()
    steps = EPOCHS * math.ceil(len(x) / BATCH)
    optimizer = torch.optim.Adam(net.parameters())
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
    for _ in range(EPOCHS):
        for some in torch.randperm(len(x)).split(BATCH):
            optimizer.zero_grad()
            F.cross_entropy(net(x[some]), y[some]).backward()
            optimizer.step()
            rate.step()
    return net.eval()


NETWORKS: dict[str, Callable[[int], nn.Module]] = {
    "MLP": lambda seed: fitted(mlp, seed),
    "residual network": lambda seed: fitted(DigitsNet, seed),
    "the task's own network": trained_digits,
}


def curvatures(net: nn.Module, names: Sequence[str], x: Tensor) -> dict[str, Tensor]:
    """The root of the Fisher diagonal by the name of the weight, over all labels by their likelihood."""
    known = dict(net.named_parameters())

    def _loss(weights: Mapping[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(net, dict(weights), (image[None],)), label[None])

    weights = {name: known[name].detach() for name in names}
    sums = {name: torch.zeros_like(w) for name, w in weights.items()}
    by_image = vmap(grad(_loss), in_dims=(None, 0, None))
    with torch.no_grad():
        likely = net(x).softmax(1)
    for some, shares in zip(x.split(64), likely.split(64), strict=True):
        for label, share in enumerate(shares.unbind(1)):
            for name, gradient in by_image(weights, some, torch.tensor(label)).items():
                sums[name] += torch.tensordot(share, gradient.square(), dims=1)
    return {name: (total / len(x)).sqrt() for name, total in sums.items()}


def ternary(net: nn.Module, project: Project, known: Mapping[str, Tensor]) -> nn.Module:
    """A copy whose weights named in `known` are ternary."""
    found = copy.deepcopy(net)
    with torch.no_grad():
        for name, d in known.items():
            w = found.get_parameter(name)
            weighs = (d + DAMPING * d.mean()).reshape(1, -1)
            w.copy_(project(w.reshape(1, -1), weighs).view_as(w))
    return found


def with_statistics_of(net: nn.Module, x: Tensor) -> nn.Module:
    """The same network, its norms with the statistics of all images at once."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
    with torch.no_grad():
        net.train()(x)
    return net.eval()


def one_shot(make: Callable[[int], nn.Module], seed: int) -> dict[tuple[str, str], list[float]]:
    """Training loss and share of errors in percent, by statistics of norms and method."""
    net = make(seed)
    (x, y), (unseen, labels) = map(images, rows(seed))
    names = [n for n, p in net.named_parameters() if p.ndim > 1][:-1]
    known = curvatures(net, names, x)
    found = {}
    for (norms, is_anew), (name, project) in (
        (n, m) for n in NORMS.items() for m in ({"floats": None} | METHODS).items()
    ):
        model = net if project is None else ternary(net, project, known)
        if is_anew and project is not None:
            model = with_statistics_of(model, x)
        with torch.no_grad():
            loss = float(F.cross_entropy(model(x), y))
            wrong = 100 * float((model(unseen).argmax(1) != labels).double().mean())
        found[norms, name] = [loss, wrong]
    return found


def scores(model: CompressedModel, split: Split) -> list[float]:
    """Cross-entropy and share of errors in percent over all images."""
    x, labels = images(split)
    with torch.no_grad():
        (logits,) = model([x])
    wrong = (logits.argmax(1) != labels).double().mean()
    return [float(F.cross_entropy(logits, labels)), 100 * float(wrong)]


def solved(net: nn.Module, x: Tensor) -> tuple[CompressedModel, CompressedModel]:
    """The network as it is, and all of its weights at 3 bits without training."""
    captured = capture(net, x[:1])
    model_map = read_model_map(captured)
    graph, layers, batches = captured.graph, model_map.layers, [[x[:512]]]
    statistics = collect_statistics(
        graph, captured.tensors, layers, batches, loss=summed_cross_entropy
    )
    database = Database(model_map, captured.tensors, statistics, {})
    choice = LayerChoice(weight_bits=STUDENT_BITS, method="descent")
    candidate = Candidate.of(layers={layer.name: choice for layer in layers})
    return assemble(Candidate(), database), assemble(candidate, database)


def distilled(make: Callable[[int], nn.Module], seed: int, steps: int) -> dict[str, list[float]]:
    """Cross-entropy and share of errors in percent on unseen images, by what trained a model."""
    train, unseen = rows(seed)
    reference, start = solved(make(seed), images(train)[0])
    data = TrainingRows(
        split=train,
        graph=start.blueprint.graph,
        task_loss=lambda outputs, labels: F.cross_entropy(outputs[0], labels),
        reference=reference,
        class_dim=1,
        held_out_rows=HELD_OUT,
    )
    found = {"uncompressed": scores(reference, unseen), "not trained": scores(start, unseen)}
    for name, losses in STUDENTS.items():
        runs = (
            trained(
                Recover(losses=losses, lr=lr), start, data, Budget(steps=steps, rows=BATCH), seed
            )
            for lr in RATES
        )
        best = min(runs, key=lambda run: min(point.held_out_loss for point in run.curve))
        found[name] = scores(best.model, unseen)
    return found


def mean_and_error(values: Tensor) -> tuple[float, float]:
    """Of the seeds."""
    return float(values.mean()), float(values.std()) / math.sqrt(len(values))


def print_one_shot(network: str, runs: Sequence[Mapping[tuple[str, str], list[float]]]) -> bool:
    """Prints a block for each kind of statistics; whether LAT makes fewer errors than TWN in all."""
    is_met = True
    for norms in NORMS:
        print(f"{network}, ternary in one shot, norms' statistics {norms}")
        by = {m: torch.tensor([r[norms, m] for r in runs]).double() for m in ("floats", *METHODS)}
        for name, values in by.items():
            (loss, loss_error), (wrong, error) = map(mean_and_error, values.unbind(1))
            text = f"errors {wrong:.2f} ± {error:.2f} %"
            print(f"  {name:12} training loss {loss:.4f} ± {loss_error:.4f}  {text}")
        for blind in ("TWN", "exact"):
            gain, error = mean_and_error((by[blind] - by["LAT"])[:, 1])
            print(f"  LAT has {gain:.2f} ± {error:.2f} points of errors less than {blind}")
        is_met &= bool(by["LAT"][:, 1].mean() < by["TWN"][:, 1].mean())
    return is_met


def print_students(network: str, runs: Sequence[Mapping[str, list[float]]]) -> bool:
    """Prints a line for each; whether the teacher's student has the smaller cross-entropy."""
    print(f"{network}, {STUDENT_BITS} bits, on unseen images")
    by = {name: torch.tensor([run[name] for run in runs]).double() for name in runs[0]}
    for name, values in by.items():
        (loss, loss_error), (wrong, error) = map(mean_and_error, values.unbind(1))
        text = f"errors {wrong:.2f} ± {error:.2f} %"
        print(f"  {name:12} cross-entropy {loss:.4f} ± {loss_error:.4f}  {text}")
    (loss, loss_error), (wrong, error) = map(
        mean_and_error, (by["labels"] - by["teacher"]).unbind(1)
    )
    print(
        f"  the teacher gains {loss:.4f} ± {loss_error:.4f} on labels, {wrong:.2f} ± {error:.2f}"
    )
    return loss >= 0


def main() -> int:
    """Prints all blocks; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=200, help="of a student")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    chosen = {name: make for name, make in NETWORKS.items() if name in arguments.networks}
    seeds = range(arguments.seeds)
    met = {}
    for name, make in chosen.items():
        met[f"{name}: LAT ahead of TWN"] = print_one_shot(name, [one_shot(make, s) for s in seeds])
    for name, make in chosen.items():
        runs = [distilled(make, seed, arguments.steps) for seed in seeds]
        met[f"{name}: teacher ahead of labels"] = print_students(name, runs)
    for claim, holds in met.items():
        print(f"{claim}: {'yes' if holds else 'no'}")
    return int(not all(met.values()))


if __name__ == "__main__":
    sys.exit(main())

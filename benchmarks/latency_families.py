"""How well latency is predicted across families of networks, on this machine:

    python benchmarks/latency_families.py [FAMILY ...] [--architectures N]

For each family: N random architectures, four random candidates of each, three sessions each. Held
out are whole architectures (a quarter of them: 20 networks at the default 20), in four turns; the
floor is one session against the mean of the others. The figures are means over the turns.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
import torch

from paredown.hardware_models.accuracy import Accuracy, accuracy
from paredown.hardware_models.calibrated import fit
from paredown.hardware_models.device import host_device
from paredown.hardware_models.latency import RooflineLatency
from paredown.hardware_models.measure import fingerprint
from paredown.hardware_models.time_models import time_interleaved
from paredown.search.calibrating import CANDIDATES_EACH, family_networks, loadable
from paredown.search.calibration_families import FAMILIES, Family

TURNS = 4
SESSIONS = 3


def row(name: str, family: str, found: Accuracy) -> str:
    pairs = "-" if found.pairs_ordered is None else f"{found.pairs_ordered:.1%}"
    return f"{family:12}{name:14}{found.mape:9.1%}{found.error_95:9.1%}{found.spearman:9.3f}{pairs:>9}"


def measure(family: Family, architectures: int) -> None:
    device = host_device()
    drawn = family_networks([family], architectures * CANDIDATES_EACH, device, lambda _: None)
    networks, left_out = loadable(drawn)
    for reason in left_out:
        print(f"left out: {reason}")
    times = np.array(time_interleaved([n.model for n in networks], 1, SESSIONS, 30))
    truth = times.mean(axis=1)
    works = [n.work for n in networks]
    groups = np.array([n.group for n in networks])
    predicted = np.empty(len(networks))
    scaled = np.empty(len(networks))
    preset = RooflineLatency(device).predict_many(works).value_s
    for turn in range(TURNS):
        out = groups % TURNS == turn
        model = fit(
            [w for w, o in zip(works, out, strict=True) if not o],
            truth[~out].tolist(),
            device,
            fingerprint="",
        )
        held = [w for w, o in zip(works, out, strict=True) if o]
        predicted[out] = model.predict_many(held).value_s
        scaled[out] = preset[out] * np.exp(np.log(truth[~out] / preset[~out]).mean())
    for name, each in (("preset, scaled", scaled), ("calibrated", predicted)):
        print(row(name, family, accuracy(each.tolist(), truth.tolist())))
    floor = accuracy(times[:, 0].tolist(), times[:, 1:].mean(axis=1).tolist())
    print(row("floor", family, floor), flush=True)


def main() -> int:
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("families", nargs="*", metavar="FAMILY", help=", ".join(FAMILIES))
    parser.add_argument("--architectures", type=int, default=20)
    arguments = parser.parse_args()
    print(fingerprint(1))
    print(f"{'family':12}{'model':14}{'error':>9}{'95 %':>9}{'rank':>9}{'pairs':>9}")
    for family in arguments.families or FAMILIES:
        measure(family, arguments.architectures)
    return 0


if __name__ == "__main__":
    sys.exit(main())

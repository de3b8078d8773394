"""What 8 bits, narrow weights and fewer channels gain in ONNX Runtime, operator by operator.

    python benchmarks/operators/single_operators.py [--threads 1]

Each row is the time of the plain operator over that of the changed one, both as the slope between
chains of three and of seven, three sessions each, interleaved: above 1 the change is faster. Images
are those of ResNet-20 (16 channels at 32x32, 32 at 16x16, 64 and more at 8x8).
"""

from __future__ import annotations

import argparse
from dataclasses import replace

from paredown.hardware_models.latency import Signature, operator_model
from paredown.hardware_models.timing import fingerprint, measure_latencies

SHORT, LONG = 3, 7
SHORTEST_S = 5e-8


def conv(channels: int, *, integer: bool = False, kernel: int = 3, side: int = 0) -> Signature:
    """A float or 8-bit convolution that keeps its channels, in the image its width usually has."""
    side = side or {16: 32, 31: 16, 32: 16}.get(channels, 8)
    return Signature(
        kind="conv",
        integer=integer,
        onnx_type="int8" if integer else "float32",
        in_channels=channels,
        out_channels=channels,
        kernel_size=(kernel, kernel),
        stride=(1, 1),
        groups=1,
        out_spatial=side * side,
        batch=1,
    )


def depthwise(channels: int, *, integer: bool = False) -> Signature:
    return replace(conv(channels, integer=integer), kind="depthwise_conv", groups=channels)


def as_codes(wanted: Signature) -> Signature:
    return replace(wanted, integer=True, onnx_type="int8")


def stored_narrow(wanted: Signature, onnx_type: str) -> Signature:
    return replace(wanted, onnx_type=onnx_type)


def rows() -> list[tuple[str, Signature, Signature]]:
    """What is changed, the plain operator and the changed one."""
    found = [
        (f"8-bit 3x3 convolution of {c} channels", conv(c), as_codes(conv(c)))
        for c in (16, 32, 64, 128, 256)
    ]
    found += [
        (f"8-bit depthwise convolution of {c}", depthwise(c), as_codes(depthwise(c)))
        for c in (16, 32, 64)
    ]
    found += [
        (f"3x3 convolution of 64 with {t} weights alone", conv(64), stored_narrow(conv(64), t))
        for t in ("int8", "int4")
    ]
    found += [
        (f"3x3 convolution narrowed from 64 to {c}", conv(64), conv(c, side=8))
        for c in (48, 32, 16)
    ]
    whole = conv(32, kernel=1, integer=True)
    found.append(("31 channels instead of 32, 8-bit 1x1", whole, conv(31, kernel=1, integer=True)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    threads = parser.parse_args().threads
    wanted = rows()
    models = []
    for _, *pair in wanted:
        for each in pair:
            for repeats in (SHORT, LONG):
                model = operator_model(each, repeats)
                assert model is not None, each
                models.append(model)
    times = [m.mean_s for m in measure_latencies(models, threads=threads, instances=3, blocks=40)]
    slopes = [max(SHORTEST_S, b - a) for a, b in zip(times[::2], times[1::2], strict=True)]
    print(f"{fingerprint(threads)}\n\n{'change':<50} {'times as fast':>13}")
    for (name, _, _), plain, changed in zip(wanted, slopes[::2], slopes[1::2], strict=True):
        print(f"{name:<50} {plain / changed:>13.2f}")


if __name__ == "__main__":
    main()

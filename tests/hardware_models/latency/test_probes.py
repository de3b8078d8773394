from __future__ import annotations

from dataclasses import replace

from paredown.hardware_models.devices.device import load_device
from paredown.hardware_models.latency.probes import measure_table, probe_kernels
from paredown.hardware_models.work.workload import OperatorWork, Work

X86 = load_device("x86-avx512-vnni-ort")


def test_a_table_is_measured_once_for_each_operator():
    conv = OperatorWork(
        name="a", kind="conv", in_channels=16, out_channels=16, kernel_size=(3, 3), stride=(1, 1),
        macs=16 * 16 * 9 * 64, out_spatial=64, input_elements=1024, output_elements=1024,
        weight="w",
    )  # fmt: skip
    works = [Work(operators=(conv, replace(conv, name="b"), OperatorWork(name="c", kind="add")))]
    (entry,) = measure_table(works, X86, instances=1)
    assert entry.signature.in_channels == 16
    assert 0 < entry.seconds < 0.1


def test_a_device_without_integers_has_no_kernels_to_probe():
    offers = X86.offers.model_copy(update={"activation_bits": (32,)})
    assert probe_kernels(X86.model_copy(update={"offers": offers})) == ()

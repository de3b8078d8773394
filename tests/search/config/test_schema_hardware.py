"""The target device: names and files, and the metrics that further devices bring."""

import pytest
from pydantic import ValidationError

from paredown.search.config.schema_hardware import HardwareSection


def test_axes_say_what_costs_are_for() -> None:
    time = {"from": 4, "to": 48, "price_at": 16}
    section = HardwareSection.model_validate({"axes": {"batch": {"price_at": 3}, "time": time}})
    assert section.priced_batch == 3
    assert section.axes.time is not None
    assert section.axes.time.lengths == (4, 48)
    assert HardwareSection(batch_size=5).priced_batch == 5


@pytest.mark.parametrize("lengths", [(8, 48, 4), (9, 4, 6)])
def test_a_price_lies_within_the_range(lengths: tuple[int, int, int]) -> None:
    time = dict(zip(("from", "to", "price_at"), lengths, strict=True))
    with pytest.raises(ValidationError, match="must lie between `from` and `to`, got"):
        HardwareSection.model_validate({"axes": {"time": time}})


def test_two_batches_contradict_each_other() -> None:
    given = {"batch_size": 2, "axes": {"batch": {"price_at": 1}}}
    with pytest.raises(ValidationError, match=r"got 2 and 1; leave out hardware\.batch_size"):
        HardwareSection.model_validate(given)
    HardwareSection.model_validate({**given, "batch_size": 1})


@pytest.fixture
def checked(tmp_path):
    """Builds the section as of a config in `tmp_path`."""
    return lambda **keys: HardwareSection.model_validate(keys, context={"folder": tmp_path})


def test_files_are_found_from_the_configs_folder(checked, tmp_path):
    for name in ("mine.yaml", "mine.calibration.json"):
        (tmp_path / name).write_text("")
    section = checked(device="mine.yaml", latency="mine.calibration.json")
    assert section.device == str(tmp_path / "mine.yaml")
    assert section.latency == str(tmp_path / "mine.calibration.json")


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"device": "mine.yaml"}, "none at"),
        ({"latency": "mine.json"}, "paredown calibrate"),
        ({"latency": "fast"}, "roofline, calibrated, measured"),
        ({"device": ""}, "empty"),
        ({"batch_size": 0}, "greater than or equal to 1"),
        ({"device": "a", "also": ["host"]}, "each once and not as host"),
        ({"device": "a", "also": ["a"]}, "other than `device`"),
        ({"also": ["a", "a"]}, "each once"),
    ],
)
def test_what_is_no_device_or_latency_is_refused(checked, keys, says):
    with pytest.raises(ValidationError, match=says):
        checked(**keys)


def test_each_further_device_is_a_metric_and_a_file_is_named_by_its_stem(checked, tmp_path):
    (tmp_path / "board.v2.yaml").write_text("")
    section = checked(also=["rpi5-a76-ort", "board.v2.yaml"])
    assert section.latency_metrics == ("latency_s@rpi5-a76-ort", "latency_s@board.v2")
    assert checked().latency_metrics == ()

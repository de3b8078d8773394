from __future__ import annotations

import pytest

from paredown.hardware_models.timing.machine_state import Preflight, preflight


def state(**changes):
    return Preflight(
        **{"cores": 4, "load": 0.1, "cores_per_sibling": 1, "governor": None, **changes}
    )


def test_a_quiet_machine_needs_no_remark():
    assert state().remarks == ()
    assert state(governor="performance").remarks == ()


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"load": 3.0}, "load 3.0 on 4"), ({"cores_per_sibling": 2}, "physical"),
     ({"governor": "powersave"}, "powersave")],
)  # fmt: skip
def test_what_spoils_a_measurement_is_said(changes, said):
    (remark,) = state(**changes).remarks
    assert said in remark


@pytest.mark.parametrize(("listed", "count"), [("0", 1), ("0,32", 2), ("0-3", 4), ("0-1,4-5", 4)])
def test_siblings_are_counted_from_the_lists_of_linux(listed, count, tmp_path):
    (tmp_path / "cpu0" / "topology").mkdir(parents=True)
    (tmp_path / "cpu0" / "topology" / "thread_siblings_list").write_text(listed + "\n")
    (tmp_path / "cpu0" / "cpufreq").mkdir()
    (tmp_path / "cpu0" / "cpufreq" / "scaling_governor").write_text("schedutil\n")
    found = preflight(tmp_path)
    assert found.cores_per_sibling == count
    assert found.governor == "schedutil"


def test_what_the_system_does_not_tell_is_unknown(tmp_path):
    found = preflight(tmp_path)
    assert found.cores_per_sibling is None
    assert found.governor is None
    assert found.cores >= 1

"""A job's name, under which its files lie and its trial is found."""

from paredown.search.proposing.jobs import Job
from paredown.spaces.candidates.candidate import Candidate, LayerChoice


def test_a_name_is_that_of_the_model_and_a_valid_file_name():
    four, eight = (
        Job(candidate=Candidate.of(layers={"a": LayerChoice(weight_bits=bits)})) for bits in (4, 8)
    )
    assert four.name != eight.name
    assert four.name.startswith(f"{four.candidate.key}-")
    assert set(four.name) <= set("0123456789abcdef-")


def test_how_long_and_as_what_a_model_is_evaluated_changes_no_name():
    candidate = Candidate()
    plain = Job(candidate=candidate)
    named = Job(candidate=candidate, kind="reference", label="uncompressed", longest_s=1.0)
    assert plain.name == named.name

"""The networks of the paper, by its own counts."""

import pytest

from paredown.search.tasks.resnet import resnet


# Weights and biases counted by hand from the paper's table; option A adds none.
@pytest.mark.parametrize(("name", "count"), [("resnet20", 269_722), ("resnet56", 853_018)])
def test_resnets_have_the_published_number_of_parameters(name, count):
    assert sum(p.numel() for p in resnet(name).parameters()) == count

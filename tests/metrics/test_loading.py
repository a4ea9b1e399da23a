import sys

import numpy as np
import pytest

from radiograd.errors import ConfigError
from radiograd.metrics import load_metric, mean_of
from radiograd.types import Score


class Shouting:
    """A metric a user might write."""

    name, higher_is_better, signature, part_names = "shouting", True, "shouting|1", ("sum", "n")

    def score(self, cases):
        return [Score(float(case.candidate.isupper())) for case in cases]

    combine = staticmethod(mean_of)


INSTANCE = Shouting()


def no_metric(cases):
    return []


def test_a_misspelt_name_is_answered_with_the_nearest():
    with pytest.raises(ConfigError, match=r"no metric is called 'rougel'.*Did you mean 'rougeL'"):
        load_metric("rougel")


def test_a_class_is_called_and_an_instance_is_taken():
    here = sys.modules[__name__].__name__
    assert isinstance(load_metric(f"{here}:Shouting"), Shouting)
    assert load_metric(f"{here}:INSTANCE") is INSTANCE


def test_a_thing_that_is_no_metric_is_refused_with_what_it_lacks():
    with pytest.raises(ConfigError, match="lacks name, higher_is_better"):
        load_metric(f"{__name__}:no_metric")


def test_a_mean_over_nothing_is_unknown_not_0():
    mean = mean_of({"sum": np.array([1.0, 0.0]), "n": np.array([4.0, 0.0])})
    assert mean[0] == 0.25
    assert np.isnan(mean[1])

"""Windows, percentiles, colours: values that can be checked on paper."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from radiograd.films.grey import luma, over_black, stretch, to_grey, window


def test_a_linear_window_is_that_of_the_standard() -> None:
    # C.11.2.1.2.1, c=2048 w=4096: x <= 2047.5 - 2047.5 is black, x > 2047.5 + 2047.5 white, between
    # ((x - 2047.5) / 4095 + 0.5) * 255: at 1024 it is 63.77
    values = np.array([[-5, 0, 1024, 2048, 4095, 5000]])
    assert window(values, 2048, 4096).tolist() == [[0, 0, 64, 128, 255, 255]]


def test_a_window_of_width_one_is_a_threshold() -> None:
    assert window(np.array([[99, 100, 101]]), 100, 1).tolist() == [[0, 255, 255]]  # black at and below c - 0.5


def test_an_exact_linear_window_reaches_from_half_its_width_below_to_half_above() -> None:
    values = np.array([[0.0, 25.0, 50.0, 75.0, 100.0]])
    assert window(values, 50, 100, "LINEAR_EXACT").tolist() == [[0, 64, 128, 191, 255]]  # 63.75, 127.5, 191.25


def test_a_sigmoid_window_is_half_way_at_its_centre() -> None:
    # 1 / (1 + exp(-4 (x - c) / w)) at x = c, c + w/4 (e^-1): .5, .7311
    assert window(np.array([[100.0, 125.0, -1e9, 1e9]]), 100, 100, "SIGMOID").tolist() == [[128, 186, 0, 255]]


@pytest.mark.parametrize(
    ("width", "function"), [(0.5, "LINEAR"), (0, "LINEAR_EXACT"), (-3, "SIGMOID"), (np.nan, "LINEAR")]
)
def test_a_window_that_the_standard_does_not_allow_is_refused(width: float, function: str) -> None:
    with pytest.raises(ValueError, match="cannot be"):
        window(np.zeros((1, 1)), 0, width, function)  # type: ignore[arg-type]


def test_percentiles_become_black_and_white() -> None:
    values = np.arange(1001, dtype=np.uint16).reshape(7, 143) * 4  # percentile 0.5 is 20, percentile 99.5 is 3980
    grey = stretch(values)
    assert grey.ravel()[[0, 5, 500, 995, 1000]].tolist() == [0, 0, 128, 255, 255]  # 2000 is half way: 127.5 -> 128


def test_padding_and_values_that_are_no_numbers_do_not_count() -> None:
    values = np.full((40, 40), 60_000.0)
    values[:20] = np.linspace(100, 200, 800).reshape(20, 40)
    values[0, 0] = np.nan
    grey = stretch(values, known=values < 50_000)
    assert grey[0, 0] == 0
    assert abs(int(grey[10, 0]) - 128) <= 2  # about 150
    assert (grey[20:] == 255).all()
    assert stretch(values)[:20].max() < 2  # with the padding, the film itself would be black


def test_a_film_of_one_value_is_black_and_a_single_spot_is_seen() -> None:
    flat = np.full((100, 100), 7, dtype=np.uint16)
    assert not stretch(flat).any()
    flat[3, 4] = 9
    assert stretch(flat)[3, 4] == 255
    assert not stretch(np.full((2, 2), np.nan)).any()


@given(arrays(np.int32, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(-(2**31), 2**31 - 1)))
def test_stretching_never_turns_the_order_of_two_pixels_round(values: np.ndarray) -> None:
    order = np.argsort(values, axis=None)
    assert (np.diff(stretch(values).ravel()[order].astype(int)) >= 0).all()


def test_equal_colours_keep_their_value_and_green_weighs_most() -> None:
    greys = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    assert (luma(greys, 255).ravel() == np.arange(256)).all()
    assert luma(np.eye(3, dtype=np.uint8)[None] * 255, 255).tolist() == [[76, 150, 29]]  # .299, .587, .114 of 255


def test_what_lets_the_ground_through_lies_on_black() -> None:
    grey, opacity = np.array([[200, 200, 200]], np.uint8), np.array([[255, 51, 0]], np.uint8)
    assert over_black(grey, opacity).tolist() == [[200, 40, 0]]  # 51 / 255 = 1/5


def test_shares_outside_are_cut_off() -> None:
    assert to_grey(np.array([-1.0, 0.0, 0.5, 1.0, 7.0])).tolist() == [0, 0, 128, 255, 255]

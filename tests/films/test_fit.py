"""Films at model size: shape kept, sides kept."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from radiograd.errors import UsageError
from radiograd.films.film import Film
from radiograd.films.fit import fit, inner, middle


def white(height: int, width: int) -> np.ndarray:
    return np.full((height, width), 255, dtype=np.uint8)


def test_padding_keeps_the_shape_and_fills_both_sides() -> None:
    whole = fit(white(50, 100), 8, fill=9)  # 2:1 in 8 x 8: 4 rows, two above and two below
    assert (whole[[0, 1, 6, 7]] == 9).all()
    assert (whole[2:6] == 255).all()


def test_a_squashed_copy_gets_its_shape_back() -> None:
    # a film of 100 x 200 that was squashed to a square: half as wide as high again
    whole = fit(white(64, 64), 8, true_size=(100, 200))
    assert (whole[:, 2:6] == 255).all()
    assert not whole[:, [0, 1, 6, 7]].any()


def test_a_circle_that_was_squashed_is_round_again() -> None:
    y, x = np.mgrid[:600, :400]
    round_film = (((x - 200) ** 2 + (y - 300) ** 2) < 150**2).astype(np.uint8) * 255
    squashed = fit(round_film, 224, "squash")
    for mode in ("pad", "crop"):
        again = fit(squashed, 120, mode, true_size=(400, 600)) > 127
        wide, high = again.any(axis=0).sum(), again.any(axis=1).sum()
        assert abs(int(wide) - int(high)) <= 1, mode
        assert abs(int(wide) - (60 if mode == "pad" else 90)) <= 1  # 300 of 600, 300 of 400 in 120


def test_cropping_takes_the_middle_of_the_longer_side() -> None:
    film = white(10, 30)
    film[:, 10:20] = 100
    assert (fit(film, 10, "crop") == 100)[:, 1:9].all()


def test_squashing_takes_everything() -> None:
    film = np.zeros((2, 100), dtype=np.uint8)
    film[:, 50:] = 200
    whole = fit(film, 4, "squash")
    assert whole.shape == (4, 4)
    assert (whole[:, 0] == 0).all()
    assert np.abs(whole[:, 3].astype(int) - 200).max() <= 4  # bicubic overshoots at an edge


def test_fine_lines_become_grey_and_not_a_pattern() -> None:
    lines = np.zeros((512, 512), dtype=np.uint8)
    lines[:, ::2] = 255
    assert np.ptp(fit(lines, 64)[:, 2:-2]) <= 2  # without antialiasing: all black or all white


def test_a_film_decoded_smaller_keeps_the_shape_of_its_file() -> None:
    film = Film(white(51, 26), width=201, height=404, bits=8, format="JPEG")
    assert (fit(film, 101)[0] > 0).sum() == inner(201, 404, 101)[0] == 50


@given(
    width=st.integers(1, 300),
    height=st.integers(1, 300),
    size=st.integers(1, 40),
    mode=st.sampled_from(["pad", "squash", "crop"]),
)
def test_left_stays_left_and_up_stays_up(width: int, height: int, size: int, mode: str) -> None:
    rows = np.linspace(0, 120, height)[:, None]
    columns = np.linspace(0, 120, width)[None]
    whole = fit((rows + columns).astype(np.uint8), size, mode, fill=0).astype(int)  # type: ignore[arg-type]
    assert whole.shape == (size, size)
    inside = whole[np.ix_(whole.any(axis=1), whole.any(axis=0))]
    if inside.size:
        assert inside[0, 0] <= inside[-1, -1]
        assert (np.diff(inside, axis=0) >= -2).all() or mode == "pad"  # bicubic overshoots by a grey or two


def test_a_film_that_already_fits_is_copied_and_not_resampled() -> None:
    film = np.random.default_rng(0).integers(0, 256, (16, 16), dtype=np.uint8)
    for mode in ("pad", "squash", "crop"):
        whole = fit(film, 16, mode)
        assert (whole == film).all()
        assert not np.shares_memory(whole, film)


def test_shares_and_sizes_by_hand() -> None:
    assert inner(2000, 3000, 300) == (200, 300)
    assert inner(1, 10_000, 16) == (1, 16)
    assert middle(400, 300) == (0.75, 1.0)


@pytest.mark.parametrize("wrong", [{"size": 0}, {"mode": "stretch"}, {"fill": 256}, {"true_size": (0, 5)}])
def test_what_cannot_be_is_refused(wrong: dict) -> None:
    with pytest.raises(UsageError, match="cannot"):
        fit(white(2, 2), **{"size": 4, **wrong})

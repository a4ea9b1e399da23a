import pytest

from radiograd.data.views import frontal_first, is_wanted, view_kind, view_name
from radiograd.types import Image


@pytest.mark.parametrize(
    ("given", "name", "kind"),
    [
        ("PA", "PA", "frontal"),
        ("AP_horizontal", "AP", "frontal"),  # PadChest
        ("POSTERO_ANTERIOR", "PA", "frontal"),  # ReXGradient
        ("AP AXIAL", "AP", "frontal"),
        ("Frontal", "Frontal", "frontal"),  # CheXpert
        ("LL", "Lateral", "lateral"),  # MIMIC-CXR
        ("L", "Lateral", "lateral"),
        ("XTABLE LATERAL", "Lateral", "lateral"),
        ("COSTAL", "COSTAL", "other"),
        ("EXCLUDE", "EXCLUDE", "other"),
        ("LAO", "LAO", "other"),
        ("UNK", None, "unknown"),
        ("N/A", None, "unknown"),
        ("", None, "unknown"),
        (None, None, "unknown"),
    ],
)
def test_spellings_of_a_view(given, name, kind):
    assert view_name(given) == name
    assert view_kind(given) == view_kind(name) == kind


def test_frontal_holds_pa_and_ap_but_pa_holds_itself_alone():
    assert is_wanted("AP", ("frontal",))
    assert not is_wanted("AP", ("pa", "lateral"))
    assert is_wanted("LL", ("pa", "lateral"))
    assert is_wanted(None, ("unknown",))
    assert not is_wanted(None, ("frontal",))
    assert is_wanted(None, None)


def test_frontal_films_come_first_and_equals_keep_their_order():
    views = ["Lateral", "AP", None, "LAO", "PA"]
    films = [Image(str(k), view=view) for k, view in enumerate(views)]
    assert [film.image_id for film in frontal_first(films)] == ["1", "4", "2", "0", "3"]

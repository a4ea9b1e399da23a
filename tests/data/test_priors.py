from hypothesis import given, settings
from hypothesis import strategies as st
from studies_fixture import study

from radiograd.data.priors import with_priors


def test_the_prior_is_the_patients_latest_study_before():
    studies = [study(name, patient_id=name[0]) for name in ("a2", "b1", "a1", "a3", "c1")]
    when = {"a1": (2180, 0.0), "a2": (2180, 930.5), "a3": (2181, 0.0), "b1": (2000, 0.0)}
    found = {s.study_id: s.prior for s in with_priors(studies, when)}
    assert found == {"a1": None, "a2": "a1", "a3": "a2", "b1": None, "c1": None}


def test_of_studies_at_one_time_none_is_before_the_other_and_the_next_takes_the_last():
    studies = [study(name, patient_id="a") for name in ("x", "y", "z", "undated")]
    found = with_priors(studies, {"x": 1, "y": 1, "z": 2})
    assert [s.prior for s in found] == [None, None, "y", None]


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), max_size=12))
def test_a_prior_is_of_the_same_patient_and_earlier_and_nothing_lies_between(rows):
    studies = [study(f"s{k}", patient_id=f"p{patient}") for k, (patient, _) in enumerate(rows)]
    when = {f"s{k}": time for k, (_, time) in enumerate(rows)}
    patient_of = {s.study_id: s.patient_id for s in studies}
    for found in with_priors(studies, when):
        earlier = [i for i in when if patient_of[i] == found.patient_id and when[i] < when[found.study_id]]
        assert (found.prior is None) == (not earlier)
        if found.prior is not None:
            assert when[found.prior] == max(when[i] for i in earlier)
            assert found.prior in earlier

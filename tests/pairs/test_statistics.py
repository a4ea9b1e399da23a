from __future__ import annotations

from radiograd.pairs.statistics import describe
from radiograd.preferences import Pair


def test_lengths_and_label_differences_are_counted_by_hand() -> None:
    found = describe(
        [
            Pair("s1", "Small left pleural effusion.", "No acute disease is seen today."),  # 4 and 6 words
            Pair("s1", "Small left pleural effusion.", "Cardiomegaly.", weight=2.0),  # 4 and 1
            Pair("s2", "No acute disease.", "Clear lungs."),  # 3 and 2; no finding on either side
        ]
    )
    assert (found["pairs"], found["studies"], found["weight_sum"]) == (3, 2, 4.0)
    assert (found["words_chosen_mean"], found["words_rejected_mean"]) == (3.67, 3.0)  # 11 / 3, 9 / 3
    assert found["chosen_longer_share"] == 0.6667
    assert found["labels_differ_share"] == 0.6667
    assert (found["labels_only_chosen_mean"], found["labels_only_rejected_mean"]) == (0.667, 0.333)
    assert found["labels"] == {
        "Cardiomegaly": {"only_chosen": 0, "only_rejected": 1},
        "Pleural Effusion": {"only_chosen": 2, "only_rejected": 0},
    }


def test_without_pairs_there_is_nothing_to_describe() -> None:
    assert describe([]) == {"pairs": 0}

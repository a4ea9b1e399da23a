import pytest

from radiograd import tables


def entry(mean, low, high, n=10, unscored=0, signature="rougeL|x", higher_is_better=True):
    return {
        "mean": mean,
        "low": low,
        "high": high,
        "n": n,
        "unscored": unscored,
        "higher_is_better": higher_is_better,
        "signature": signature,
    }


def difference(metric, value, low, high, p, stratum="all"):
    return {
        "a": "aligned",
        "b": "sft",
        "metric": metric,
        "stratum": stratum,
        "difference": value,
        "low": low,
        "high": high,
        "p": p,
        "n": 10,
    }


SUMMARY = {
    "set": "test",
    "rows": {
        "sft": {
            "rougeL": entry(0.48169, 0.459, 0.504),
            "bleu2": entry(0.05, 0.0, 0.1, n=8, unscored=2, signature="bleu2|y"),
        },
        "aligned": {
            "rougeL": entry(1.0, 1.0, 1.0),
            "bleu2": entry(None, None, None, n=0, unscored=10, signature="bleu2|y"),
        },
    },
    "strata": {"abnormal": {"sft": {"rougeL": entry(0.4, 0.3, 0.5, n=4)}}},
    "paired": [
        difference("rougeL", 0.0123, -0.003, 0.0271, 0.118),
        difference("bleu2", None, None, None, None),
        difference("rougeL", -0.0004, -0.1, 0.1, 0.0002, stratum="abnormal"),
    ],
}


def test_a_value_is_shown_hundredfold_with_one_decimal_and_its_interval():
    assert tables.value_cell(entry(0.48169, 0.459, 0.504)) == "48.2 [45.9, 50.4]"


def test_a_difference_carries_its_sign():
    assert tables.difference_cell(SUMMARY["paired"][0]) == "+1.2 [-0.3, +2.7]"


def test_what_is_unknown_is_a_dash_not_0():
    assert tables.value_cell(entry(None, None, None)) == "–"
    assert tables.difference_cell(SUMMARY["paired"][1]) == "–"
    assert tables.p_value(None) == "–"


@pytest.mark.parametrize(("value", "shown"), [(-0.0001, "0.0"), (0.0, "0.0"), (0.0004, "0.0"), (-0.001, "-0.1")])
def test_there_is_no_negative_zero(value, shown):
    assert tables.hundredfold(value, sign=True) == shown


@pytest.mark.parametrize(("p", "shown"), [(0.0002, "<0.001"), (0.0449, "0.045"), (1.0, "1.000")])
def test_p_values_have_three_decimals(p, shown):
    assert tables.p_value(p) == shown


def test_the_grid_shows_the_fewest_scored_and_the_most_missed():
    assert tables.scores_grid(SUMMARY) == [
        ["row", "n", "unscored", "rougeL", "bleu2"],
        ["sft", "8", "2", "48.2 [45.9, 50.4]", "5.0 [0.0, 10.0]"],
        ["aligned", "0", "10", "100.0 [100.0, 100.0]", "–"],
    ]
    assert tables.scores_grid(SUMMARY, "abnormal")[1] == ["sft", "4", "0", "40.0 [30.0, 50.0]"]


def test_the_paired_grid_takes_one_stratum_and_may_take_some_metrics():
    assert tables.paired_grid(SUMMARY)[1:] == [
        ["aligned", "sft", "rougeL", "+1.2 [-0.3, +2.7]", "0.118", "10"],
        ["aligned", "sft", "bleu2", "–", "–", "10"],
    ]
    assert len(tables.paired_grid(SUMMARY, metrics=["bleu2"])) == 2
    assert tables.paired_grid(SUMMARY, "abnormal")[1][3:5] == ["0.0 [-10.0, +10.0]", "<0.001"]


def test_text_is_aligned_words_left_numbers_right():
    assert tables.text([["row", "n", "x"], ["sft", "8", "5.0"], ["aligned", "10", "–"]]) == (
        "row       n    x\n"  # widths 7, 2, 3 with two blanks between
        "-------  --  ---\n"
        "sft       8  5.0\n"
        "aligned  10    –\n"
    )


def test_markdown_says_which_columns_are_numbers_and_escapes_bars():
    assert tables.markdown([["row", "n"], ["a|b", "10"]]) == (
        "| row  |   n |\n"  # the escaped bar takes two characters
        "| ---- | --: |\n"
        "| a\\|b |  10 |\n"
    )


def test_a_grid_without_lines_is_only_its_header():
    assert tables.text([["row", "n"]]) == "row  n\n---  -\n"


def test_a_metric_that_is_better_when_low_is_marked():
    rows = {"sft": {"errors": entry(0.2, 0.1, 0.3, higher_is_better=False), "rougeL": entry(0.5, 0.4, 0.6)}}
    assert tables.scores_grid({"rows": rows})[0] == ["row", "n", "unscored", "errors ↓", "rougeL"]


def test_the_whole_summary_names_set_strata_and_signatures():
    document = tables.summary_markdown(SUMMARY)
    assert "### All studies (test), x 100 [95% interval]\n\n| row" in document
    assert "### Abnormal studies (test)" in document
    assert "### Paired differences, abnormal studies" in document
    assert "Normal studies" not in document
    assert "- `rougeL|x`\n- `bleu2|y`\n" in document
    assert "48.2 [45.9, 50.4]" in document


def test_an_unknown_stratum_is_an_error():
    with pytest.raises(KeyError, match="young"):
        tables.scores_grid(SUMMARY, "young")


# ---- what is critical, and what was chosen


def test_agreement_is_shown_with_its_two_by_two_table():
    found = {"value": 0.965, "low": 0.958, "high": 0.971}
    unknown = {"value": None, "low": None, "high": None}
    row = {"a": "judge", "b": "codes", "n": 9, "both": 3, "first": 1, "second": 2, "neither": 3}
    counted = {"answered": 9, "unanswered": 1, "critical": 4, "share": 4 / 9}
    summary = {
        "studies": 10,
        "source": "judge",
        "sources": {"judge": counted, "codes": counted},
        "agreement": [{**row, "agreement": found, "kappa": unknown}],
    }
    assert tables.agreement_grid(summary)[1] == [
        *("judge", "source's codes", "9", "3", "1", "2", "3"),
        *("96.5 [95.8, 97.1]", "–"),
    ]
    assert tables.criticality_grid(summary)[1] == ["judge", "4", "44.4", "9", "1"]
    assert "Critical among 10 studies; what counts: judge" in tables.annotation_text(summary)


def test_the_chosen_stand_beside_the_others_and_labels_of_nobody_are_left_out():
    def side(count, share):
        return {"studies": count, "share": share}

    summary = {
        **{"by": "hardest", "selected": 2, "studies": 10, "cut": 0.1234, "unscored": 1},
        "critical": {"inside": {"studies": 2, "share": 1.0}, "outside": {"studies": 8, "share": None}},
        "labels": {
            "Edema": {"inside": side(1, 0.5), "outside": side(0, 0.0)},
            "Fracture": {"inside": side(0, 0.0), "outside": side(0, 0.0)},
        },
        "metrics": {"bleu2": {"inside": 0.039, "outside": 0.483}},
    }
    assert tables.chosen_grid(summary)[1:] == [
        ["studies", "2", "8"],
        ["critical %", "100.0", "–"],
        ["Edema %", "50.0", "0.0"],
        ["bleu2, mean", "3.9", "48.3"],
    ]
    assert "2 of 10 studies chosen (hardest), S up to 0.123; 1 unscored" in tables.selection_text(summary)

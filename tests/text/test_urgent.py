"""Sentences written by us, each read as a whole report."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radiograd.text.findings import read
from radiograd.text.labels import RuleLabeler
from radiograd.text.urgent import signature, urgent, urgent_list
from radiograd.types import Status

CASES = {
    # minutes: said or suspected
    "There is a small right apical pneumothorax.": ("Pneumothorax",),
    "Cannot exclude a small pneumothorax.": ("Pneumothorax",),
    "No pneumothorax or effusion.": (),
    "History of pneumothorax.": (),
    "If there is concern for pneumothorax, obtain expiratory views.": (),
    "Hydropneumothorax on the left.": ("Hydropneumothorax",),
    "Free air under the diaphragm.": ("Pneumoperitoneum",),
    "No free intraperitoneal air.": (),
    "Findings concerning for aortic dissection.": ("Aortic Dissection",),
    "Tortuous aorta without dissection.": (),
    "Old pulmonary infarct.": (),
    # effusions by size
    "Small left pleural effusion.": (),
    "Large left pleural effusion.": ("Pleural Effusion",),
    "Moderate bilateral pleural effusions.": ("Pleural Effusion",),
    "Possible large left pleural effusion.": (),
    "Moderate left effusion is unchanged.": (),
    "Decreased moderate right pleural effusion.": (),
    "Large right and small left pleural effusions.": ("Pleural Effusion",),
    "Large heart and small effusion.": (),
    "Small pericardial effusion.": (),
    "Large pericardial effusion.": ("Pericardial Effusion",),
    # devices
    "The endotracheal tube is in good position.": (),
    "Tracheostomy tube in place.": (),
    "Endotracheal tube terminates in the right mainstem bronchus.": ("Malpositioned Device",),
    "NG tube is coiled in the esophagus.": ("Malpositioned Device",),
    "The endotracheal tube should be retracted by 3 cm.": ("Malpositioned Device",),
    "Malpositioned left subclavian line.": ("Malpositioned Device",),
    "The central line is not malpositioned.": (),
    "Air in the esophagus.": (),
    # hours: stated, and neither known nor getting better
    "Right lower lobe pneumonia.": ("Pneumonia",),
    "Possible pneumonia.": (),
    "Improving pneumonia.": (),
    "Mild pulmonary edema.": (),
    "Severe pulmonary edema.": ("Edema",),
    "Acute fracture of the right 5th rib.": ("Fracture",),
    "Old healed rib fractures.": (),
    # days: abnormal, and not urgent
    "3 cm mass in the right upper lobe.": (),
    "Mild cardiomegaly.": (),
    "": (),
}


@pytest.mark.parametrize("text", CASES)
def test_what_cannot_wait(text: str) -> None:
    assert urgent(text) == CASES[text]


def test_a_report_is_read_as_a_whole_and_each_finding_is_named_once_in_the_lists_order() -> None:
    report = "Findings: Large left effusion. Tiny right pneumothorax.\nImpression: Pneumothorax. Large effusion."
    assert urgent(report) == ("Pneumothorax", "Pleural Effusion")


def test_the_indication_does_not_count() -> None:
    assert urgent("Indication: Pneumothorax.\nFindings: The lungs are clear.") == ()


def test_the_words_of_the_list_are_known_to_no_label() -> None:
    text = "Malpositioned left subclavian line."
    assert "Malpositioned Device" not in {s.finding for s in read(text)}
    assert RuleLabeler("chexpert14")([text])[0]["No Finding"] is Status.PRESENT


def test_every_entry_says_a_category_that_is_urgent() -> None:
    entries = urgent_list()
    assert {entry.category for entry in entries.values()} == {1, 2}
    assert all(Status.PRESENT in entry.status and Status.ABSENT not in entry.status for entry in entries.values())
    # what is known already is never urgent by category 2
    assert all(entry.unless for entry in entries.values() if entry.category == 2)


def test_the_signature_names_the_files() -> None:
    assert signature().startswith("urgent_list|rules ")


@given(st.lists(st.sampled_from([text for text in CASES if text]), min_size=1, max_size=4))
def test_sentences_add_up_and_denials_take_nothing_away(sentences: list[str]) -> None:
    expected = {name for text in sentences for name in CASES[text]}
    assert set(urgent(" ".join(sentences))) == expected

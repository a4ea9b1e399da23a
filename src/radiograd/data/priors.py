"""The study of the same patient before each study. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from radiograd.types import Study


def with_priors(studies: Sequence[Study], when: Mapping[str, Any]) -> list[Study]:
    """``studies``, each with ``prior``: the study_id of the patient's latest study before it.

    ``when``: study_id -> anything that sorts by time; a study that is not in it has no prior and is none. Of studies
    at the same time none comes before the other. Where several share the time before, the last in the source's order
    is the prior.
    """
    timed = [
        (study.patient_id, when[study.study_id], place) for place, study in enumerate(studies) if study.study_id in when
    ]
    prior: dict[int, str] = {}
    for _, of_patient in groupby(sorted(timed), key=lambda item: item[0]):
        before: str | None = None
        for _, at_once in groupby(of_patient, key=lambda item: item[1]):
            places = [place for _, _, place in at_once]
            if before is not None:
                prior.update(dict.fromkeys(places, before))
            before = studies[places[-1]].study_id
    return [replace(study, prior=prior[k]) if k in prior else study for k, study in enumerate(studies)]

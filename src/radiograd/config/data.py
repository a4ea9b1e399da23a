"""Where studies come from and how they are divided."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from radiograd.config.section import Fraction, Positive, Section
from radiograd.errors import did_you_mean

ViewKind = Literal["frontal", "pa", "ap", "lateral", "other", "unknown"]
"""What ``data.views`` can ask for. frontal: PA, AP and films that are only said to be frontal."""


class SplitConfig(Section):
    """How studies are divided. By patient and by group of near-duplicate findings, never by row."""

    val: Fraction = 0.08
    """Share of studies for validation."""
    test: float = Field(default=0.15, gt=0.0, lt=1.0)
    """Share of studies for the held-out test; without one there is nothing to report."""
    near_duplicate: float = Field(default=0.7, gt=0.0, le=1.0)
    """Word Jaccard of two findings at and above which both studies stay in the same split; 1.0 = exact copies only."""
    use_given: bool = False
    """Take the split the source itself names instead of drawing one (leaks are then reported, not mended)."""
    seed: int | None = Field(default=None, ge=0)
    """Draws splits and limits (null = the run's seed). Set it, and runs of several seeds are tested on the same."""

    @model_validator(mode="after")
    def _leaves_train(self) -> SplitConfig:
        if self.val + self.test >= 1.0:
            raise ValueError("val + test must leave something to train on")
        return self


class LimitConfig(Section):
    """At most this many studies of each split (null = all), drawn with the seed. For quick runs."""

    train: Positive | None = None
    val: Positive | None = None
    test: Positive | None = None
    train_per_group: Positive | None = None
    """At most this many studies of one near-duplicate group are trained on (null = all): less template, more findings
    for the same time."""


class SourceConfig(Section):
    """One further source of studies: a site of its own."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the site; put before the ids of its studies and patients."""
    source: str
    """A reader, as in data.source."""
    path: str | None = None
    columns: dict[str, str] = Field(default_factory=dict)
    images: str | None = None
    """Root folder of its films, as data.images."""


class SitesConfig(Section):
    """Which studies count as one place, and which places are trained on. Every place is tested on."""

    rule: Literal["source", "style"] = "source"
    """source: each source is a site. style: data.source is divided by how its findings are written (data/sites.py)."""
    count: int = Field(default=2, ge=2, le=9)
    """Sites that style makes: style-1 (telegrams) to style-<count> (whole sentences)."""
    train: tuple[str, ...] = ()
    """Sites to train and validate on ([] = all)."""


class DataConfig(Section):
    """Where the studies come from and how they are divided."""

    source: str = "openi"
    """A reader: openi | r2gen | mimic-cxr | chexpert-plus | rexgradient | padchest | csv | jsonl | parquet, or your own
    package.module:function(path, columns) -> studies."""
    path: str | None = None
    """File or folder for the reader. openi: null = the fetched archive."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Study field -> column of your table, e.g. {study_id: accession, findings: Findings, impression: Conclusion}."""
    images: str | None = None
    """Root folder of the films. null = reports alone: a film that is named by a relative path is not looked for."""
    views: tuple[ViewKind, ...] | None = Field(default=None, min_length=1)
    """Which views are kept: frontal, pa, ap, lateral, other, unknown (null = all)."""
    images_per_study: Positive | None = None
    """At most this many films of a study, frontal ones first (null = all)."""
    more: tuple[SourceConfig, ...] = ()
    """Further sources, each a site."""
    sites: SitesConfig = SitesConfig()
    split: SplitConfig = SplitConfig()
    limit: LimitConfig = LimitConfig()

    @property
    def site_names(self) -> tuple[str, ...]:
        """The sites there are, in order; () where there is only one."""
        if self.sites.rule == "style":
            own = tuple(f"style-{number}" for number in range(1, self.sites.count + 1))
        else:
            own = (self.source,)
        names = (*own, *(source.name for source in self.more))
        return names if len(names) > 1 else ()

    @property
    def public(self) -> bool:
        """Whether all reports are the public ones that we fetch; any other is taken for credentialed."""
        return all(source == "openi" for source in (self.source, *(one.source for one in self.more)))

    @model_validator(mode="after")
    def _sites_are_known(self) -> DataConfig:
        names = self.site_names
        if len(set(names)) < len(names):
            raise ValueError(f"two sites have the same name; there are {', '.join(names)}")
        for name in self.sites.train:
            if name not in names:
                known = did_you_mean(name, names) if names else " There is only one site."
                raise ValueError(f"sites.train: no site is called {name!r}.{known}")
        return self

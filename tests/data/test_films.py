from pathlib import Path

import pytest
from studies_fixture import study

from radiograd.config import DataConfig, RunConfig, SourceConfig, parse_config
from radiograd.data import fingerprint, load
from radiograd.data.check import check
from radiograd.data.describe import describe_source, render
from radiograd.data.films import film_counts, film_files, place
from radiograd.data.prepare import prepare
from radiograd.errors import ConfigError, DataError
from radiograd.types import Image, Problem


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def filmed(study_id, *films):
    return study(study_id, images=tuple(Image(name, Path(name), view) for name, view in films))


def test_films_are_found_below_the_root_and_a_missing_one_is_a_problem(tmp_path):
    touch(tmp_path, "a/1.png", "a/2.png", "b/1.png")
    studies = [
        filmed("x", ("a/2.png", "Lateral"), ("a/1.png", "PA"), ("a/gone.png", "AP")),
        filmed("y", ("b/1.png", None)),
        filmed("z", ("c/1.png", "PA")),
        study("bare"),
    ]
    placed = place(studies, tmp_path)
    assert [[image.path for image in s.images] for s in placed.studies] == [
        [tmp_path / "a/1.png", tmp_path / "a/2.png"],  # frontal first
        [tmp_path / "b/1.png"],
        [],
        [],
    ]
    assert placed.problems == [
        Problem(str(tmp_path / "a/gone.png"), "film of x is named and is not on disk"),
        Problem(str(tmp_path / "c/1.png"), "film of z is named and is not on disk"),
    ]
    assert film_counts(placed.studies, placed.problems) == {
        "films": 3,
        "studies": {"0": 2, "1": 1, "2": 1, "3+": 0},
        "views": {"frontal": 1, "lateral": 1, "unknown": 1},
        "sizes": 0,
        "without_frontal": 0,
        "missing": 2,
    }


def test_views_and_number_are_kept_as_asked(tmp_path):
    touch(tmp_path, *(f"{k}.png" for k in range(4)))
    views = ("Lateral", "AP", "LAO", "PA")
    studies = [filmed("x", *((f"{k}.png", view) for k, view in enumerate(views)))]

    def kept(**options):
        return [image.image_id for image in place(studies, tmp_path, **options).studies[0].images]

    assert kept() == ["1.png", "3.png", "0.png", "2.png"]
    assert kept(most=1) == ["1.png"]
    assert kept(views=("lateral", "pa")) == ["3.png", "0.png"]
    assert kept(views=("frontal",), most=5) == ["1.png", "3.png"]
    assert kept(views=("unknown",)) == []
    (tmp_path / "0.png").unlink()  # a view that is not wanted is not missed
    assert place(studies, tmp_path, views=("frontal",)).problems == []


def test_without_a_root_relative_paths_are_dropped_and_absolute_ones_looked_for(tmp_path):
    touch(tmp_path, "1.png")
    studies = [filmed("x", ("a/1.png", "PA"), (str(tmp_path / "1.png"), "PA"), (str(tmp_path / "2.png"), "PA"))]
    placed = place(studies, None)
    assert [image.path for image in placed.studies[0].images] == [None, tmp_path / "1.png"]
    assert [problem.where for problem in placed.problems] == [str(tmp_path / "2.png")]
    assert film_counts([study("bare", images=(Image("i"),))], []) is None  # an identifier alone is no film


def test_another_ending_is_taken_only_where_asked_for(tmp_path):
    touch(tmp_path, "a/1.dcm", "a/1.txt", "a/2.JPG")
    studies = [filmed("x", ("a/1.jpg", "PA"), ("a/2.jpg", None))]
    placed = place(studies, tmp_path, any_ending=True)
    assert [image.path for image in placed.studies[0].images] == [tmp_path / "a/1.dcm", tmp_path / "a/2.JPG"]
    with pytest.raises(DataError, match="none of the 2 films that the reports name is there"):
        place(studies, tmp_path)


def test_a_wrong_root_is_refused_at_once(tmp_path):
    touch(tmp_path, "a/1.png")
    with pytest.raises(DataError, match=r"no such folder; check data\.images"):
        place([], tmp_path / "gone")
    with pytest.raises(DataError, match=r"none of the 1 films .*first: .*a/a/1\.png.*set data\.images"):
        place([filmed("x", ("a/1.png", None))], tmp_path / "a")


def test_a_name_that_no_file_can_have_is_missing(tmp_path):
    touch(tmp_path, "1.png")
    names = ("1.png", "nul\0.png", "nul\0/2.png", "nul\0/3.png", "deep/" + "x" * 300)
    placed = place([filmed("x", *((name, None) for name in names))], tmp_path)
    assert (len(placed.studies[0].images), len(placed.problems)) == (1, 4)


def test_film_files_are_listed_by_stem_below_the_folder(tmp_path):
    touch(tmp_path, "CXR2_IM-1.png", "7/7_IM-2.dcm", "1_IM-3.dcm.png", "notes.txt")
    found = film_files(tmp_path)
    assert found == {"CXR2_IM-1": "CXR2_IM-1.png", "7_IM-2": "7/7_IM-2.dcm", "1_IM-3": "1_IM-3.dcm.png"}


# ---- through load, check, describe


HEAD = "study_id,patient_id,findings,impression,images,views,prior,split\n"


@pytest.fixture
def source(tmp_path):
    """20 studies of 10 patients; study k names k % 4 films, and the first film of s7 is missing."""
    films = touch(tmp_path / "films", *(f"s{k}/{n}.png" for k in range(20) for n in range(k % 4) if (k, n) != (7, 0)))
    rows = []
    for k in range(20):
        paths = ";".join(f"s{k}/{n}.png" for n in range(k % 4))
        views = "|".join(("Lateral", "PA", "AP")[: k % 4])
        prior = f"s{k - 10}" if k >= 10 else ""
        rows.append(f"s{k},p{k % 10},w{k} x{k} y{k},Mass {k}.,{paths},{views},{prior},train\n")
    (tmp_path / "t.csv").write_text(HEAD + "".join(rows))
    split = {"val": 0.2, "test": 0.3}
    return DataConfig(source="csv", path=str(tmp_path / "t.csv"), images=str(films), split=split)


def test_describe_and_check_tell_of_films(source):
    facts = describe_source(RunConfig(data=source))
    assert facts["films"] == {
        "films": 29,  # 5 * (0 + 1 + 2 + 3) - 1
        "studies": {"0": 5, "1": 5, "2": 6, "3+": 4},
        "views": {"frontal": 15, "lateral": 14},
        "sizes": 0,
        "without_frontal": 5,  # those with one film: it is lateral
        "missing": 1,
    }
    assert (facts["with_prior"], facts["problems"]) == (10, 0)
    assert "studies by films       0: 5, 1: 5, 2: 6, 3+: 4" in render(facts)
    said = {(f.level, f.count, f.message) for f in check(source, 0)}
    assert ("warning", 1, "films are named and not on disk; their studies stay with their other films") in said
    assert ("warning", 5, "studies have no film") in said
    assert ("info", 5, "studies have films, and none of them is frontal") in said
    assert not any("rows or cells" in message for _, _, message in said)


def test_a_film_of_two_studies_and_an_unknown_prior_are_named(tmp_path):
    films = touch(tmp_path / "films", "1.png", "2.png")
    rows = "a,p,w,Mass.,1.png,,,\nb,q,x,Mass.,1.png;2.png,,elsewhere,\nc,r,y,Mass.,2.png,PA,a,\n"
    (tmp_path / "t.csv").write_text(HEAD + rows)
    found = {f.message: f for f in check(DataConfig(source="csv", path=str(tmp_path / "t.csv"), images=str(films)), 0)}
    shared = found["studies name a film that belongs to an earlier one"]
    assert (shared.level, shared.ids) == ("error", ("b", "c"))
    assert found["studies have a prior that is none of the studies read"].ids == ("b",)
    assert found["studies have films of unknown view"].ids == ("a", "b")


def test_a_run_keeps_films_and_studies_without_any(source):
    prepared = prepare(RunConfig(data=source.model_copy(update={"views": ("frontal",), "images_per_study": 1})))
    studies = {s.study_id: s for s in (*prepared.train, *prepared.val, *prepared.test)}
    assert len(studies) == 20
    assert [image.image_id for image in studies["s2"].images] == ["s2/1.png"]
    assert studies["s1"].images == ()  # its only film is lateral
    assert studies["s12"].prior == "s2"
    assert prepared.counts["films"]["films"] == 10
    assert type(studies["s2"]).from_json(studies["s2"].to_json()) == studies["s2"]


def test_reports_alone_keep_identifiers_and_their_summary_says_nothing_of_films(source):
    prepared = prepare(RunConfig(data=source.model_copy(update={"images": None})))
    assert "films" not in prepared.counts
    assert {image.path for s in prepared.train for image in s.images} == {None}


def test_a_further_source_has_films_and_priors_of_its_own(source, tmp_path):
    more = SourceConfig(name="there", source="csv", path=source.path, images=source.images)
    loaded = load(source.model_copy(update={"more": (more,), "images_per_study": 1}))
    found = {s.study_id: s for s in loaded.studies}
    assert (found["s12"].prior, found["there:s12"].prior) == ("s2", "there:s2")
    assert {len(s.images) for s in loaded.studies} == {0, 1}
    assert [p.where for p in loaded.problems if p.where.startswith("there:")] == [f"there:{source.images}/s7/0.png"]


def test_a_fingerprint_follows_the_names_of_films_and_opens_none(source, tmp_path):
    first = fingerprint(source)
    (tmp_path / "films" / "s1" / "0.png").write_bytes(b"other pixels")
    assert fingerprint(source) == first
    (tmp_path / "films" / "s1" / "0.png").rename(tmp_path / "films" / "s1" / "9.png")
    assert fingerprint(source)["images"]["sha256"] != first["images"]["sha256"]
    assert "images" not in fingerprint(source.model_copy(update={"images": None}))
    with pytest.raises(DataError, match="no such folder"):
        fingerprint(source.model_copy(update={"images": str(tmp_path / "gone")}))


def test_a_given_split_leaves_out_studies_that_name_none(tmp_path):
    rows = "".join(f"s{k},p{k},w{k} x{k},Mass.,,,,{('train', 'val', 'test', '')[k % 4]}\n" for k in range(12))
    (tmp_path / "t.csv").write_text(HEAD + rows)
    data = DataConfig(source="csv", path=str(tmp_path / "t.csv"), split={"use_given": True})
    prepared = prepare(RunConfig(data=data))
    assert [len(part) for part in (prepared.train, prepared.val, prepared.test)] == [3, 3, 3]
    assert prepared.counts["without_split"] == 3
    assert prepared.counts["usable"] == 9
    assert {f.count for f in check(data, 0) if "name no split" in f.message} == {3}


@pytest.mark.parametrize("values", [{"views": ["front"]}, {"views": []}, {"images_per_study": 0}])
def test_wrong_film_options_are_refused(values):
    with pytest.raises(ConfigError, match=r"data\.(views|images_per_study)"):
        parse_config({"data": values}, "x.yaml")


def test_own_readers_may_take_the_folder_or_not(tmp_path, monkeypatch):
    (tmp_path / "film_reader.py").write_text(
        "from pathlib import Path\nfrom radiograd.types import Image, Sections, Study\n"
        "def one(name):\n    return Study(name, name, 'own', Sections('x', 'y'), images=(Image('1', Path('1.png')),))\n"
        "def plain(path, columns):\n    yield one('plain')\n"
        "def told(path, columns, images=None):\n    yield one(images.name)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    touch(tmp_path, "films/1.png")
    for name, study_id in (("plain", "plain"), ("told", "films")):
        data = DataConfig(source=f"film_reader:{name}", path=str(tmp_path), images=str(tmp_path / "films"))
        (found,) = load(data).studies
        assert (found.study_id, found.images[0].path) == (study_id, tmp_path / "films" / "1.png")

"""Each data set that is handed out with films, read from a small copy of its documented layout."""

import csv
import gzip
import json
import zipfile
from pathlib import Path

import pytest
from studies_fixture import part, xml

from radiograd import assets
from radiograd.config import DataConfig, parse_config
from radiograd.data import DUPLICATE_ID, load, source_of
from radiograd.data.check import check
from radiograd.errors import AssetError, ConfigError, DataError
from radiograd.types import Problem

SHARED = Path(__file__).parents[3] / "shared" / "data"


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def table(file, rows):
    """A CSV file of dicts; .gz is compressed."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(file, "wt", newline="") if file.suffix == ".gz" else file.open("w", newline="") as out:
        writer = csv.DictWriter(out, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return file


def read(source, path, images=None, **more):
    return load(DataConfig(source=source, path=str(path), images=None if images is None else str(images), **more))


def by_id(loaded):
    return {study.study_id: study for study in loaded.studies}


def films(study, root):
    return [(None if i.path is None else i.path.relative_to(root).as_posix(), i.view) for i in study.images]


@pytest.mark.parametrize("source", ["r2gen", "mimic-cxr", "chexpert-plus", "rexgradient", "padchest", "csv"])
def test_all_sources_but_the_public_one_count_as_credentialed(source):
    assert not parse_config({"data": {"source": source, "path": "x", "images": "y"}}, "x").data.public
    assert not parse_config({"data": {"more": [{"name": "a", "source": source, "path": "x"}]}}, "x").data.public
    assert parse_config({"data": {"images": "films"}}, "x").data.public


# ---- OpenI


@pytest.fixture
def openi(tmp_path):
    """CXR1 with two films, CXR2 with two, CXR3 with none."""
    reports = tmp_path / "reports"
    reports.mkdir()
    named = {1: ("CXR1_1_IM-0001-3001", "CXR1_1_IM-0001-4001"), 2: ("CXR2_IM-0652-1001", "CXR2_IM-0652-2001"), 3: ()}
    for uid, images in named.items():
        text = xml(f"CXR{uid}", part("FINDINGS", f"Clear {uid}.") + part("IMPRESSION", "Normal."), images=images)
        (reports / f"{uid}.xml").write_text(text)
    return reports


def test_openi_with_a_manifest_beside_its_folder(tmp_path, openi):
    root = touch(tmp_path / "films", "1_IM-0001-3001.jpg", "1_IM-0001-4001.jpg", "2_IM-0652-1001.jpg")
    rows = [
        ("1", "1_IM-0001-3001.jpg", "CXR1_1_IM-0001-3001", "Lateral", "", "", "train"),
        ("1", "1_IM-0001-4001.jpg", "CXR1_1_IM-0001-4001", "Frontal", "2991", "2500", "train"),
        ("2", "2_IM-0652-1001.jpg", "CXR2_IM-0652-1001", "Frontal", "2048", "2048", ""),
        ("9", "9_IM-1.jpg", "CXR9_IM-1", "Frontal", "1", "1", "test"),  # no such report
    ]
    names = ("uid", "file", "xml_image_id", "view", "dicom_rows", "dicom_cols", "r2gen_split")
    table(tmp_path / "manifest.csv", [dict(zip(names, row, strict=True)) for row in rows])
    loaded = read("openi", openi, root)
    found = by_id(loaded)
    assert films(found["CXR1"], root) == [("1_IM-0001-4001.jpg", "Frontal"), ("1_IM-0001-3001.jpg", "Lateral")]
    assert [(i.width, i.height) for i in found["CXR1"].images] == [(2500, 2991), (None, None)]
    assert films(found["CXR2"], root) == [("2_IM-0652-1001.jpg", "Frontal")]
    assert (found["CXR1"].split, found["CXR2"].split, found["CXR3"].images) == ("train", None, ())
    assert loaded.problems == [Problem(str(root / "CXR2_IM-0652-2001.png"), "film of CXR2 is named and is not on disk")]


def test_openi_as_the_official_archives_unpack(tmp_path, openi):
    png = touch(tmp_path / "png", "CXR1_1_IM-0001-3001.png", "CXR1_1_IM-0001-4001.png", "CXR2_IM-0652-1001.png")
    loaded = read("openi", openi, png)
    assert films(by_id(loaded)["CXR1"], png) == [("CXR1_1_IM-0001-3001.png", None), ("CXR1_1_IM-0001-4001.png", None)]
    assert [Path(p.where).name for p in loaded.problems] == ["CXR2_IM-0652-2001.png"]
    dcm = touch(tmp_path / "dcm", "1/1_IM-0001-3001.dcm", "2/2_IM-0652-1001.dcm", "2/2_IM-0652-2001.dcm")
    found = by_id(read("openi", openi, dcm))
    assert films(found["CXR1"], dcm) == [("1/1_IM-0001-3001.dcm", None)]
    assert films(found["CXR2"], dcm) == [("2/2_IM-0652-1001.dcm", None), ("2/2_IM-0652-2001.dcm", None)]
    # the metadata of the DICOM files, where it lies beside them, says views and sizes
    rows = [
        {
            "imageid": "CXR2_IM-0652-1001",
            "View Position": "",
            "Patient Orientation": "['A', 'F']",
            "Rows": 9,
            "Columns": 8,
        },
        {"imageid": "CXR2_IM-0652-2001", "View Position": "PA", "Patient Orientation": "", "Rows": 7, "Columns": 6},
    ]
    table(tmp_path / "nlmcxr_dicom_metadata.csv.gz", rows)
    study = by_id(read("openi", openi, dcm))["CXR2"]
    assert films(study, dcm) == [("2/2_IM-0652-2001.dcm", "PA"), ("2/2_IM-0652-1001.dcm", "Lateral")]
    assert [(i.width, i.height) for i in study.images] == [(6, 7), (8, 9)]


def test_openi_as_kaggle_hands_it_out(tmp_path, openi):
    names = ("1_IM-0001-3001.dcm.png", "1_IM-0001-4001.dcm.png", "2_IM-0652-1001.dcm.png", "2_IM-0652-2001.dcm.png")
    touch(tmp_path / "kaggle", *(f"images/images_normalized/{name}" for name in names))
    rows = [
        {"uid": name[0], "filename": name, "projection": view}
        for name, view in zip(names, ("Lateral", "Frontal", "Frontal", "Lateral"), strict=True)
    ]
    table(tmp_path / "kaggle" / "indiana_projections.csv", rows)
    loaded = read("openi", openi, tmp_path / "kaggle")
    assert loaded.problems == []
    below = tmp_path / "kaggle/images/images_normalized"
    assert films(by_id(loaded)["CXR1"], below) == [(names[1], "Frontal"), (names[0], "Lateral")]


def test_openi_folders_that_cannot_be_used_are_refused(tmp_path, openi):
    with pytest.raises(DataError, match=r"no such folder; check data\.images"):
        read("openi", openi, tmp_path / "gone")
    with pytest.raises(DataError, match="no film in it"):
        read("openi", openi, openi)
    root = touch(tmp_path / "films", "a.png")
    table(root / "manifest.csv", [{"path": "a.png", "study": 1}])
    with pytest.raises(DataError, match=r"manifest\.csv: no column 'uid' for uid; it has: path, study"):
        read("openi", openi, root)


def test_openi_without_films_is_read_as_ever(openi):
    assert [i.image_id for i in by_id(read("openi", openi))["CXR2"].images] == [
        "CXR2_IM-0652-1001",
        "CXR2_IM-0652-2001",
    ]
    assert {i.path for s in read("openi", openi).studies for i in s.images} == {None}


@pytest.fixture(scope="module")
def real_films():
    if not (SHARED / "openi_images").is_dir():
        pytest.skip("the OpenI films are not in ../shared/data")
    try:
        assets.locate("openi")
    except AssetError:
        pytest.skip("the OpenI reports are not in the cache: radiograd fetch openi")
    return DataConfig(images=str(SHARED / "openi_images"))


def test_all_studies_of_r2gens_split_have_films_of_known_views_and_sizes(real_films):
    loaded = load(real_films)
    assert (len(loaded.studies), len(loaded.problems)) == (3955, 44)  # 7,470 films are named, 7,426 are there
    given = [study for study in loaded.studies if study.split is not None]
    assert len(given) == 2955
    assert all(study.images for study in given)
    images = [image for study in given for image in study.images]
    assert {image.view for image in images} == {"Frontal", "Lateral"}
    unknown = {s.study_id for s in given if any(i.width is None or i.height is None for i in s.images)}
    assert len(unknown) == 2  # the manifest gives no size for their three films
    assert all(image.width > 300 and image.height > 300 for image in images if image.width is not None)
    ids = json.loads((SHARED / "openi_splits" / "r2gen_ids.json").read_text())
    expected = {row.split("_")[0]: split for split, rows in ids.items() for row in rows}
    assert {study.study_id: study.split for study in given} == expected


def test_the_given_split_is_taken_with_use_given_alone_and_its_leaks_are_told(real_films):
    data = DataConfig(images=real_films.images, split={"use_given": True})
    found = {finding.message: finding for finding in check(data, 0)}
    assert found["val and test studies have findings with the same words as one in another split"].level == "error"
    assert found["val and test studies have near-duplicate findings (0.7) in another split"].count > 400
    assert not any("same words as one" in f.message for f in check(real_films, 0))


# ---- R2Gen


def annotation(path, content):
    path.mkdir(parents=True, exist_ok=True)
    (path / "annotation.json").write_text(json.dumps(content))
    return path


def test_r2gen_iu_xray_is_a_study_a_row_and_keeps_its_split(tmp_path):
    rows = {
        "train": [
            {
                "id": "CXR2384_IM-0942",
                "report": "Clear.",
                "image_path": ["CXR2384_IM-0942/0.png", "CXR2384_IM-0942/1.png"],
            }
        ],
        "val": [{"id": "CXR5_IM-1", "report": "Big heart.", "image_path": ["CXR5_IM-1/0.png"], "split": "val"}],
        "test": [
            {"id": "CXR6_IM-1", "report": " "},
            "odd",
            {"report": "x"},
            {"id": "CXR7_IM-2", "report": "Films lost."},
        ],
    }
    folder = annotation(tmp_path / "iu", rows)
    touch(folder / "images", "CXR2384_IM-0942/0.png", "CXR2384_IM-0942/1.png")
    for images in (folder, folder / "images"):
        loaded = read("r2gen", folder, images)
        found = by_id(loaded)
        assert films(found["CXR2384_IM-0942"], folder / "images") == [
            ("CXR2384_IM-0942/0.png", None),
            ("CXR2384_IM-0942/1.png", None),
        ]
        assert [(s.patient_id, s.split) for s in loaded.studies] == [
            ("CXR2384", "train"),
            ("CXR5", "val"),
            ("CXR7", "test"),
        ]
        assert found["CXR5_IM-1"].sections.findings == "Big heart."
        assert found["CXR5_IM-1"].sections.impression is None
        assert [(Path(p.where).name, p.why) for p in loaded.problems] == [
            ("annotation.json:test[0]", "CXR6_IM-1 has no report"),
            ("annotation.json:test[1]", "is not an object"),
            ("annotation.json:test[2]", "has neither id nor study_id"),
            ("0.png", "film of CXR5_IM-1 is named and is not on disk"),
        ]
    assert source_of(folder) == source_of(folder / "annotation.json") == "r2gen"


def test_r2gen_mimic_is_a_film_a_row(tmp_path):
    def row(film, study_id, patient, report="FINDINGS: Clear.\nIMPRESSION: Normal."):
        path = f"p10/p{patient}/s{study_id}/{film}.jpg"
        return {"id": film, "study_id": study_id, "subject_id": patient, "report": report, "image_path": [path]}

    rows = {
        "train": [row("a", 51, 10001), row("b", 51, 10001)],
        "val": [row("c", 52, 10002)],
        "test": [row("d", 51, 10001)],
    }
    folder = annotation(tmp_path / "mimic", rows)
    touch(tmp_path / "jpg", "p10/p10001/s51/a.jpg", "p10/p10001/s51/b.png", "p10/p10002/s52/c.jpg")
    loaded = read("r2gen", folder / "annotation.json", tmp_path / "jpg")
    found = by_id(loaded)
    assert films(found["51"], tmp_path / "jpg") == [("p10/p10001/s51/a.jpg", None), ("p10/p10001/s51/b.png", None)]
    assert (found["51"].patient_id, found["51"].split, found["52"].split) == ("10001", "train", "val")
    assert (found["51"].sections.findings, found["51"].sections.impression) == ("Clear.", "Normal.")
    assert [p.why for p in loaded.problems] == ["51 came with another split, patient or report; passed over"]


@pytest.mark.parametrize(
    ("text", "words"), [("[]", "lists called train, val and test"), ("{", "not a whole JSON file")]
)
def test_r2gen_files_of_another_layout_are_refused(tmp_path, text, words):
    (tmp_path / "annotation.json").write_text(text)
    with pytest.raises(DataError, match=words):
        read("r2gen", tmp_path)
    with pytest.raises(ConfigError, match=r"data\.columns has no meaning"):
        read("r2gen", tmp_path, columns={"findings": "report"})
    (tmp_path / "annotation.json").unlink()
    with pytest.raises(DataError, match=r"annotation\.json: no such file"):
        read("r2gen", tmp_path)


def test_half_a_character_in_json_is_replaced(tmp_path):
    (tmp_path / "annotation.json").write_text(
        '{"train": [{"id": "a\\ud83d", "report": "Clear \\ud83d\\ude00 \\udc00."}]}'
    )
    (study,) = read("r2gen", tmp_path).studies
    assert study.study_id == "a\ufffd"
    assert study.sections.findings == "Clear \U0001f600 \ufffd."


# ---- MIMIC-CXR

REPORT = """                                 FINAL REPORT
 EXAMINATION:  CHEST (PA AND LAT)

 INDICATION:  ___F with new onset ascites  // eval for infection

 COMPARISON:  None.

 FINDINGS:

 There is no focal consolidation in study {}.

 IMPRESSION:

 No acute process.
"""
PATIENT = "files/p10/p10000032"


@pytest.fixture
def mimic(tmp_path):
    """Patient 10000032 with studies 53 (first), 50 and 51 (last); 10000980 with 60, whose report is missing."""
    head = ("dicom_id", "subject_id", "study_id", "ViewPosition", "Rows", "Columns", "StudyDate", "StudyTime")
    rows = [
        ("f1", "10000032", "50", "PA", "3056", "2544", "21800506", "213014.531"),
        ("f2", "10000032", "50", "LATERAL", "3056", "2544", "21800506", "213015.0"),
        ("f3", "10000032", "51", "", "", "", "21800726", "1.0"),
        ("f4", "10000032", "53", "AP", "2544", "3056", "21800506", "92733.0"),  # 09:27:33, before 21:30
        ("f5", "10000980", "60", "AP", "10", "10", "21850101", "1.0"),
        ("", "10000980", "60", "AP", "10", "10", "21850101", "1.0"),
    ]
    jpg, txt = tmp_path / "mimic-cxr-jpg", tmp_path / "mimic-cxr"
    table(jpg / "mimic-cxr-2.0.0-metadata.csv.gz", [dict(zip(head, row, strict=True)) for row in rows])
    splits = [
        {"dicom_id": r[0], "study_id": r[2], "subject_id": r[1], "split": "validate" if r[2] == "53" else "train"}
        for r in rows
    ]
    table(jpg / "mimic-cxr-2.0.0-split.csv.gz", splits)
    touch(jpg, f"{PATIENT}/s50/f1.jpg", f"{PATIENT}/s50/f2.jpg", f"{PATIENT}/s51/f3.dcm", f"{PATIENT}/s53/f4.jpg")
    (txt / PATIENT).mkdir(parents=True)
    for study_id in ("50", "51", "53"):
        (txt / PATIENT / f"s{study_id}.txt").write_text(REPORT.format(study_id))
    return txt, jpg


def assert_mimic(loaded, jpg):
    found = by_id(loaded)
    assert set(found) == {"50", "51", "53"}
    assert {s.study_id: s.prior for s in loaded.studies} == {"53": None, "50": "53", "51": "50"}
    assert {s.study_id: s.split for s in loaded.studies} == {"50": "train", "51": "train", "53": "validate"}
    assert films(found["50"], jpg) == [(f"{PATIENT}/s50/f1.jpg", "PA"), (f"{PATIENT}/s50/f2.jpg", "Lateral")]
    assert films(found["51"], jpg) == [(f"{PATIENT}/s51/f3.dcm", None)]
    assert [(i.width, i.height) for i in found["53"].images] == [(3056, 2544)]
    study = found["50"]
    assert (study.patient_id, study.source) == ("10000032", "mimic-cxr")
    assert study.indication == "___F with new onset ascites  // eval for infection"
    assert study.sections.findings == "There is no focal consolidation in study 50."
    assert (study.sections.impression, study.sections.comparison) == ("No acute process.", "None.")
    whys = [p.why for p in loaded.problems]
    assert sorted(whys) == ["60 has no report", "has no subject_id, study_id or dicom_id"]


def test_mimic_reports_and_films_in_two_folders(mimic):
    txt, jpg = mimic
    assert_mimic(read("mimic-cxr", txt, jpg), jpg)
    assert_mimic(read("mimic-cxr", txt, jpg / "files"), jpg)


def test_mimic_reports_as_the_zip_they_come_in(mimic):
    txt, jpg = mimic
    with zipfile.ZipFile(jpg / "mimic-cxr-reports.zip", "w") as archive:
        for file in sorted(txt.rglob("*.txt")):
            archive.write(file, file.relative_to(txt).as_posix())
    assert source_of(jpg) == "mimic-cxr"
    assert_mimic(read("mimic-cxr", jpg, jpg), jpg)
    (jpg / "mimic-cxr-reports.zip").write_bytes(b"PK, but not all of it")
    with pytest.raises(DataError, match="not a whole zip archive"):
        read("mimic-cxr", jpg, jpg)


def test_mimic_without_its_tables_is_reports_alone(mimic):
    txt, _ = mimic
    (txt / PATIENT / "s52.txt").write_bytes(b"FINDINGS: \xff")
    loaded = read("mimic-cxr", txt)
    assert sorted(by_id(loaded)) == ["50", "51", "53"]
    assert {(s.split, s.prior, s.images) for s in loaded.studies} == {(None, None, ())}
    assert [(Path(p.where).name, p.why) for p in loaded.problems] == [("s52.txt", "is not UTF-8")]
    with pytest.raises(DataError, match=r"metadata\.csv\.gz is neither there nor in"):
        read("mimic-cxr", txt, txt)
    with pytest.raises(DataError, match=r"no report like files/p10/p10000032/s50414267\.txt"):
        read("mimic-cxr", touch(txt.parent / "nothing", "files/a.txt"))


def test_a_mimic_table_without_a_column_is_refused_with_those_it_has(mimic):
    txt, jpg = mimic
    table(jpg / "mimic-cxr-2.0.0-split.csv.gz", [{"study_id": 1, "subject": 2, "split": "train"}])
    with pytest.raises(DataError, match="no column 'subject_id' for subject_id; it has: study_id, subject, split"):
        read("mimic-cxr", txt, jpg)


# ---- CheXpert Plus


def chexpert(film, order, side="Frontal", ap_pa="AP", **texts):
    names = ("findings", "impression", "clinical_history", "history", "comparison")
    return {
        "": 0,
        "path_to_image": film,
        "path_to_dcm": film.replace(".jpg", ".dcm"),
        "frontal_lateral": side,
        "ap_pa": ap_pa,
        "deid_patient_id": film.split("/")[1] if "/" in film else "",
        "patient_report_date_order": order,
        "report": texts.get("report", ""),
        **{f"section_{name}": texts.get(name, "") for name in names},
        "split": film.split("/")[0],
    }


def test_chexpert_plus_rows_of_a_study_are_its_films(tmp_path):
    texts = {"findings": "Clear.", "impression": "Normal.", "clinical_history": "Cough.", "comparison": "None."}
    rows = [
        chexpert("train/patient1/study2/view2_lateral.jpg", 2, "Lateral", "", **texts),
        chexpert("train/patient1/study2/view1_frontal.jpg", 2, ap_pa="PA", **texts),
        chexpert(
            "train/patient1/study1/view1_frontal.jpg", 1, history="Pain.", report="NARRATIVE: x\n\nIMPRESSION: Stable."
        ),
        chexpert("valid/patient2/study1/view1_frontal.jpg", "", ap_pa="", findings="nan", impression="Mass."),
        chexpert("elsewhere.jpg", 1),
    ]
    file = table(tmp_path / "df_chexpert_plus_240401.csv", rows)
    names = ("train/patient1/study2/view1_frontal.png", "train/patient1/study2/view2_lateral.png")
    touch(tmp_path / "PNG", *names, "valid/patient2/study1/view1_frontal.png")
    loaded = read("chexpert-plus", tmp_path, tmp_path / "PNG")
    found = by_id(loaded)
    assert films(found["patient1/study2"], tmp_path / "PNG") == [(names[0], "PA"), (names[1], "Lateral")]
    assert (found["patient1/study2"].prior, found["patient1/study1"].prior) == ("patient1/study1", None)
    assert (found["patient1/study2"].indication, found["patient1/study1"].indication) == ("Cough.", "Pain.")
    assert found["patient1/study1"].sections.impression == "Stable."  # read out of the report
    assert found["patient2/study1"].sections.findings is None
    assert [(s.patient_id, s.split) for s in loaded.studies] == [("patient1", "train")] * 2 + [("patient2", "valid")]
    assert films(found["patient2/study1"], tmp_path / "PNG") == [("valid/patient2/study1/view1_frontal.png", "Frontal")]
    assert [(Path(p.where).name, p.why.split()[0]) for p in loaded.problems] == [
        ("df_chexpert_plus_240401.csv:8", "has"),  # a report spans three lines
        ("view1_frontal.jpg", "film"),
    ]
    assert source_of(file) == source_of(tmp_path) == "chexpert-plus"


def test_chexpert_plus_says_which_columns_it_found_and_takes_other_names(tmp_path):
    rows = [
        {
            "path_to_image": "train/patient1/study1/a.jpg",
            "pid": "patient1",
            "section_findings": "x",
            "section_impression": "y",
        }
    ]
    file = table(tmp_path / "t.csv", rows)
    with pytest.raises(
        DataError, match=r"'deid_patient_id' or 'patient_id' for patient_id; it has: path_to_image, pid"
    ):
        read("chexpert-plus", file)
    (study,) = read("chexpert-plus", file, columns={"patient_id": "pid"}).studies
    assert study.patient_id == "patient1"
    with pytest.raises(ConfigError, match="Did you mean 'patient_id'"):
        read("chexpert-plus", file, columns={"patientid": "pid"})
    with pytest.raises(DataError, match="holds 0 files like"):
        read("chexpert-plus", tmp_path)


# ---- ReXGradient


def gradient(patient, date, paths=(), views=(), **texts):
    folder = f"../deid_png/{patient}/A/studies/1/series/2/instances"
    entry = {
        "PatientID": patient,
        "StudyDate": date,
        "ImagePath": [f"{folder}/{p}" for p in paths],
        "ImageViewPosition": list(views),
    }
    return {**entry, **texts}


def test_rexgradient_of_three_files(tmp_path):
    texts = {"Findings": "Clear.", "Impression": "Normal.", "Indication": "Cough", "Comparison": "None"}
    train = {
        "k1": gradient("P1", 20200101, ("a.png", "b.png"), ("LATERAL", "POSTERO_ANTERIOR"), **texts),
        "k2": gradient("P1", 20190101, ("c.png",), (), **texts),
        "k3": "odd",
    }
    test = {
        "k4": gradient("P2", 20200101, (), (), **texts | {"Findings": float("nan")}),
        "k1": gradient("P1", 1, **texts),
    }
    metadata = tmp_path / "metadata"
    metadata.mkdir()
    (metadata / "train_metadata_view_position.json").write_text(json.dumps(train))
    (metadata / "test_metadata_view_position.json").write_text(json.dumps(test))
    below = "P1/A/studies/1/series/2/instances"
    touch(tmp_path / "deid_png" / below, "a.png", "b.png", "c.png")
    for images in (tmp_path, tmp_path / "deid_png"):
        loaded = read("rexgradient", tmp_path, images)
        found = by_id(loaded)
        assert films(found["k1"], tmp_path / "deid_png") == [(f"{below}/b.png", "PA"), (f"{below}/a.png", "Lateral")]
        assert films(found["k2"], tmp_path / "deid_png") == [(f"{below}/c.png", None)]
        assert (found["k1"].prior, found["k2"].prior, found["k4"].prior) == ("k2", None, None)
        assert [s.split for s in loaded.studies] == ["train", "train", "test"]
        assert (found["k1"].indication, found["k1"].sections.comparison) == ("Cough", None)  # "None" says nothing
        assert found["k4"].sections.findings is None
        assert [p.why for p in loaded.problems] == [
            "has another number of views than of films; the views are unknown",
            "is not an object",
            DUPLICATE_ID,
        ]
    assert source_of(metadata) == "rexgradient"


def test_rexgradient_texts_may_stand_in_the_table_beside(tmp_path):
    (tmp_path / "valid_metadata_view_position.json").write_text(json.dumps({"k1": gradient("P1", 20200101)}))
    table(
        tmp_path / "valid_metadata.csv",
        [{"id": "k1", "Findings": "Clear.", "Impression": "Normal.", "Indication": "Pain"}],
    )
    (study,) = read("rexgradient", tmp_path / "valid_metadata_view_position.json").studies
    assert (study.sections.findings, study.indication, study.split) == ("Clear.", "Pain", "valid")
    (tmp_path / "valid_metadata.csv").unlink()
    with pytest.raises(DataError, match="no column 'Findings' for findings; it has: id, PatientID"):
        read("rexgradient", tmp_path)
    with pytest.raises(DataError, match="holds train_metadata_view_position"):
        read("rexgradient", touch(tmp_path / "nothing", "a.txt"))


def test_rexgradient_as_json_lines(tmp_path):
    row = {"id": 7, "PatientID": "P1", "Findings": "Clear.", "Impression": None, "ImagePath": "../deid_png/P1/a.png"}
    (tmp_path / "train.jsonl").write_text(json.dumps(row) + "\n")
    (study,) = read("rexgradient", tmp_path / "train.jsonl").studies
    assert (study.study_id, study.sections.impression, study.images[0].image_id) == ("7", None, "a")


# ---- PadChest


def padchest(film, folder, study_id, patient, date, view, labels, report="sin cambi . "):
    size = {"Rows_DICOM": "1728", "Columns_DICOM": "1872"}
    ids = {"ImageID": film, "ImageDir": folder, "StudyDate_DICOM": date, "StudyID": study_id, "PatientID": patient}
    return {"": 0, **ids, "Projection": view, **size, "Report": report, "Labels": labels}


def test_padchest_rows_of_a_study_are_its_films(tmp_path):
    rows = [
        padchest("a.png", "0", "s1", "p1", "20140915", "L", "['normal']"),
        padchest("b.png", "54", "s1", "p1", "20140915", "PA", "['normal']"),
        padchest("c.png", "0", "s2", "p1", "20130101", "AP_horizontal", "['unchanged', 'kyphosis ']", report="nan"),
        padchest("d.png", "0", "s3", "p1", "20140915", "UNK", "['exclude']"),
        padchest("e.png", "0", "s4", "p2", "20140915", "COSTAL", "nan"),
        padchest("f.png", "0", "s4", "p3", "20140915", "PA", "[broken"),
    ]
    file = table(tmp_path / "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv.gz", rows)
    nested = touch(tmp_path / "nested", "0/a.png", "54/b.png", "0/c.png", "0/d.png", "0/e.png")
    flat = touch(tmp_path / "flat", *(f"{letter}.png" for letter in "abcde"))
    for root, names in ((nested, ["54/b.png", "0/a.png"]), (flat, ["b.png", "a.png"])):
        loaded = read("padchest", tmp_path, root)
        found = by_id(loaded)
        assert films(found["s1"], root) == [(names[0], "PA"), (names[1], "Lateral")]
        assert found["s1"].images[0].width == 1872
        assert {s.study_id: s.prior for s in loaded.studies} == {"s1": "s2", "s2": None, "s3": "s2", "s4": None}
        assert {s.study_id: s.normal for s in loaded.studies} == {"s1": True, "s2": False, "s3": None, "s4": None}
        assert found["s2"].codes == ("unchanged", "kyphosis")
        assert (found["s1"].sections.findings, found["s2"].sections.findings) == ("sin cambi .", None)
        assert [p.why for p in loaded.problems] == ["s4 stands under another PatientID; the film is passed over"]
    assert source_of(file) == source_of(tmp_path) == "padchest"
    with pytest.raises(DataError, match="no column 'Report' for report; it has: ImageID, StudyID, PatientID"):
        read("padchest", table(tmp_path / "t.csv", [{"ImageID": 1, "StudyID": 2, "PatientID": 3}]))


# ---- a table of one's own


def jsonl(tmp_path, *rows):
    base = {"findings": "Clear.", "impression": "Normal."}
    (tmp_path / "t.jsonl").write_text("".join(json.dumps({**base, **row}) + "\n" for row in rows))
    return tmp_path / "t.jsonl"


@pytest.mark.parametrize(
    ("images", "views"),
    [
        ("a.png; b.png", "PA;LL"),
        ("a.png|b.png|", "PA | LL"),
        ('["a.png", "b.png"]', '["PA", "LL"]'),
        (["a.png", "b.png"], ["PA", "LL"]),
    ],
)
def test_a_table_names_films_in_four_ways(tmp_path, images, views):
    root = touch(tmp_path / "films", "a.png", "b.png")
    row = {
        "study_id": "x",
        "prior": 12,
        "images": images,
        "views": views,
        "width": [3000, "2000"],
        "height": "2500;2600.0",
    }
    loaded = read("jsonl", jsonl(tmp_path, row), root)
    assert loaded.problems == []
    (study,) = loaded.studies
    assert films(study, root) == [("a.png", "PA"), ("b.png", "Lateral")]
    assert [(i.width, i.height) for i in study.images] == [(3000, 2500), (2000, 2600)]
    assert study.prior == "12"


def test_odd_film_cells_leave_the_study_in_and_are_named(tmp_path):
    root = touch(tmp_path / "films", "a.png", "b.png")
    rows = [
        {"study_id": "views", "images": "a.png;b.png", "views": "PA"},
        {"study_id": "size", "images": "a.png", "width": "wide", "height": 5},
        {"study_id": "number", "images": [1, "a.png"]},
        {"study_id": "object", "images": {"path": "a.png"}},
        {"study_id": "json", "images": "[a.png"},
        {"study_id": "half", "images": "\ud83d.png"},
        {"study_id": "gap", "images": "a.png;b.png", "views": "PA;", "width": None},
        {"study_id": "blank", "images": "nan", "views": "PA", "width": 5},
    ]
    loaded = read("jsonl", jsonl(tmp_path, *rows), root)
    assert {s.study_id: films(s, root) for s in loaded.studies} == {
        "views": [("a.png", None), ("b.png", None)],
        "size": [("a.png", None)],
        "number": [],
        "object": [],
        "json": [],
        "half": [],
        "gap": [("a.png", "PA"), ("b.png", None)],
        "blank": [],
    }
    not_paths = "images holds something that is not a path; the study is kept without films"
    assert [(int(p.where.rsplit(":", 1)[1]), p.why) for p in loaded.problems] == [
        (1, "views is not one for each of 2 films; the study is kept with views unknown"),
        (2, "width and height are not both numbers of pixels; the study is kept with the size unknown"),
        *((line, not_paths) for line in (3, 4, 5, 6)),
    ]


def test_a_csv_table_with_its_own_column_names(tmp_path):
    root = touch(tmp_path / "films", "x/a.dcm")
    rows = [{"acc": 1, "f": "Clear.", "i": "Normal.", "dicom": "x/a.dcm", "pos": "AP"}]
    columns = {"study_id": "acc", "findings": "f", "impression": "i", "images": "dicom", "views": "pos"}
    (study,) = read("csv", table(tmp_path / "t.csv", rows), root, columns=columns).studies
    assert films(study, root) == [("x/a.dcm", "AP")]


def test_a_parquet_table_with_lists(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    root = touch(tmp_path / "films", "a.png", "b.png")
    row = {"study_id": "x", "findings": "f", "impression": "i", "images": ["b.png", "a.png"], "views": ["LL", "PA"]}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "t.parquet")
    (study,) = read("parquet", tmp_path / "t.parquet", root).studies
    assert films(study, root) == [("a.png", "PA"), ("b.png", "Lateral")]

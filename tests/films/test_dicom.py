"""DICOM that the tests write with pydicom, shown as its elements ask."""

from __future__ import annotations

import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pydicom", reason="needs the extra dicom")

from films_fixture import dicom, ramp, write_dicom
from pydicom.dataset import Dataset
from pydicom.uid import (
    MPEG2MPML,
    DeflatedExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    RLELossless,
)

from radiograd.errors import FilmError, MissingExtra
from radiograd.films import film as film_module
from radiograd.films.decode import read_film, read_header
from radiograd.films.index import scan

BYTES = ramp(6, 8)
TWELVE = ramp(60, 80, 4095)


def test_a_window_shows_what_it_spans(tmp_path: Path) -> None:
    values = np.array([[0, 1000, 1500, 2000, 4095]], dtype=np.uint16)
    film = read_film(
        write_dicom(tmp_path / "a.dcm", values, BitsStored=12, HighBit=11, WindowCenter=1500, WindowWidth=1001)
    )
    assert film.pixels.tolist() == [[0, 0, 128, 255, 255]]  # (1500 - 1499.5) / 1000 + .5 of 255: 127.6
    assert (film.width, film.height, film.bits, film.shading, film.format) == (5, 1, 12, "window", "DICOM")


def test_rescaling_goes_before_the_window(tmp_path: Path) -> None:
    values = np.array([[0, 500, 1000]], dtype=np.uint16)  # times 2 less 1000: -1000, 0, 1000
    elements = {"RescaleSlope": 2, "RescaleIntercept": -1000, "WindowCenter": 0.5, "WindowWidth": 2001}
    assert read_film(write_dicom(tmp_path / "a.dcm", values, **elements)).pixels.tolist() == [[0, 128, 255]]


def test_signed_values_and_the_first_of_several_windows(tmp_path: Path) -> None:
    values = np.array([[-100, 0, 100]], dtype=np.int16)
    path = write_dicom(tmp_path / "a.dcm", values, WindowCenter=[0.5, 999], WindowWidth=[201, 2])
    assert read_film(path).pixels.tolist() == [[0, 128, 255]]


def test_a_monochrome1_is_turned_over(tmp_path: Path) -> None:
    elements = {"WindowCenter": 2048, "WindowWidth": 4096, "BitsStored": 12, "HighBit": 11}
    right = read_film(write_dicom(tmp_path / "a.dcm", TWELVE, **elements)).pixels
    path = write_dicom(tmp_path / "b.dcm", TWELVE, PhotometricInterpretation="MONOCHROME1", **elements)
    assert (read_film(path).pixels == 255 - right).all()


def test_without_a_window_percentiles_are_taken_and_padding_is_not(tmp_path: Path) -> None:
    values = TWELVE.copy()
    values[:30] = 65535
    elements: dict[str, Any] = {"PixelPaddingValue": 65535}
    film = read_film(write_dicom(tmp_path / "a.dcm", values, **elements))
    assert film.shading == "percentiles"
    assert film.pixels[30, 0] == 0  # the darkest of what is film
    assert film.pixels[45, 0] in range(120, 136)


@pytest.mark.parametrize(
    "window", [{"WindowWidth": 0}, {"WindowWidth": -5}, {"WindowCenter": 60_000}, {"WindowCenter": ""}]
)
def test_a_window_that_shows_nothing_is_passed_over(tmp_path: Path, window: dict[str, Any]) -> None:
    elements = {"WindowCenter": 2000, "WindowWidth": 100} | window
    film = read_film(write_dicom(tmp_path / "a.dcm", TWELVE, **elements))
    assert film.shading == "percentiles"
    assert np.ptp(film.pixels) == 255


def table(entries: list[int], first: int = 0, bits: int = 16) -> Dataset:
    item = Dataset()
    item.LUTDescriptor = [len(entries), first, bits]
    item["LUTDescriptor"].VR = "US"
    item.LUTData = entries
    item["LUTData"].VR = "US"
    return item


def test_a_voi_table_goes_before_a_window_and_its_largest_entry_is_white(tmp_path: Path) -> None:
    values = np.array([[0, 1, 2, 3, 9]], dtype=np.uint16)
    # it claims 16 bits and uses 12; the value beyond its end is its last entry
    elements = {"VOILUTSequence": [table([0, 1000, 4000, 2000])], "WindowCenter": 1, "WindowWidth": 2}
    film = read_film(write_dicom(tmp_path / "a.dcm", values, **elements))
    assert film.pixels.tolist() == [[0, 64, 255, 128, 128]]
    assert film.shading == "lut"


def test_a_modality_table_goes_before_the_window(tmp_path: Path) -> None:
    item = table([0, 100, 50])
    item.ModalityLUTType = "US"
    elements = {"ModalityLUTSequence": [item], "WindowCenter": 50.5, "WindowWidth": 101}
    values = np.array([[0, 1, 2]], dtype=np.uint16)
    assert read_film(write_dicom(tmp_path / "a.dcm", values, **elements)).pixels.tolist() == [[0, 255, 128]]


def test_colours_become_grey(tmp_path: Path) -> None:
    colours = np.repeat(BYTES[..., None], 3, axis=2)
    film = read_film(write_dicom(tmp_path / "a.dcm", colours))
    assert (film.pixels == BYTES).all()
    assert film.shading == "as stored"


def test_a_palette_becomes_grey(tmp_path: Path) -> None:
    values = np.array([[0, 1, 2, 1]], dtype=np.uint8)
    elements: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour in ("Red", "Green", "Blue"):
        elements[f"{colour}PaletteColorLookupTableDescriptor"] = [3, 0, 16]
        elements[f"{colour}PaletteColorLookupTableData"] = np.array([0, 32896, 65535], np.uint16).tobytes()
    film = read_film(write_dicom(tmp_path / "a.dcm", values, **elements))
    assert film.pixels.tolist() == [[0, 128, 255, 128]]  # 32896 is 128 of 255


def test_a_sigmoid_window_is_used_when_the_file_says_so(tmp_path: Path) -> None:
    values = np.array([[0, 100, 125]], dtype=np.uint16)
    path = write_dicom(tmp_path / "a.dcm", values, WindowCenter=100, WindowWidth=100, VOILUTFunction="SIGMOID")
    assert read_film(path).pixels.tolist() == [[5, 128, 186]]  # 1 / (1 + e^4), 1/2, 1 / (1 + e^-1) of 255


@pytest.mark.parametrize("syntax", [DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless])
def test_every_syntax_gives_the_same_film(tmp_path: Path, syntax: str) -> None:
    plain = read_film(write_dicom(tmp_path / "a.dcm", TWELVE)).pixels
    data = dicom(TWELVE)
    if syntax == RLELossless:
        data.compress(syntax)
    else:
        data.file_meta.TransferSyntaxUID = syntax
    data.save_as(tmp_path / "b.dcm", enforce_file_format=True)
    assert (read_film(tmp_path / "b.dcm").pixels == plain).all()
    assert read_header(tmp_path / "b.dcm").width == 80


@pytest.mark.parametrize(("syntax", "kind"), [(JPEGBaseline8Bit, "JPEG"), (JPEG2000Lossless, "JPEG2000")])
def test_jpegs_in_dicom_are_read_with_what_comes_with_the_extra(tmp_path: Path, syntax: str, kind: str) -> None:
    from io import BytesIO

    from PIL import Image
    from pydicom.encaps import encapsulate

    big = np.kron(BYTES, np.ones((8, 8), np.uint8))
    out = BytesIO()
    Image.fromarray(big).save(out, kind, **({"quality": 100} if kind == "JPEG" else {"no_jp2": True}))
    data = dicom(big, WindowCenter=128, WindowWidth=256)
    data.file_meta.TransferSyntaxUID = syntax
    data.PixelData = encapsulate([out.getvalue()])
    data["PixelData"].is_undefined_length = True
    data.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    assert np.abs(read_film(tmp_path / "a.dcm").pixels.astype(int) - big).max() <= 2


def test_a_file_of_the_old_kind_without_a_mark_is_read_when_it_is_called_dcm(tmp_path: Path) -> None:
    data = dicom(BYTES, WindowCenter=128, WindowWidth=256)
    del data.file_meta
    data.save_as(tmp_path / "a.dcm", implicit_vr=True, little_endian=True, enforce_file_format=False)
    assert (tmp_path / "a.dcm").read_bytes()[128:132] != b"DICM"
    assert (read_film(tmp_path / "a.dcm").pixels == BYTES).all()


# ---- what is refused -------------------------------------------------------------------------------------------------


def refused(path: Path, why: str) -> None:
    with pytest.raises(FilmError, match=why) as caught:
        read_film(path)
    assert "SECRET" not in str(caught.value)


def written_with(path: Path, syntax: str) -> Path:
    """A file that says it is compressed so; what its one frame holds does not matter."""
    from pydicom.encaps import encapsulate

    data = dicom(BYTES)
    data.file_meta.TransferSyntaxUID = syntax
    data.PixelData = encapsulate([bytes(10)])
    data["PixelData"].is_undefined_length = True
    data.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize("jobs", [1, 2])
def test_without_pydicom_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jobs: int) -> None:
    write_dicom(tmp_path / "a.dcm", BYTES)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(MissingExtra, match=r"pip install 'radiograd\[dicom\]'"):
        scan(tmp_path, jobs)


def test_a_compression_that_is_not_decoded_here_says_what_to_install(tmp_path: Path) -> None:
    from pydicom.pixels.decoders.base import get_decoder

    if get_decoder(JPEGLosslessSV1).is_available:
        pytest.skip("a decoder for lossless JPEG is installed here")
    path = written_with(tmp_path / "a.dcm", JPEGLosslessSV1)
    refused(path, r"JPEG Lossless.*pip install pylibjpeg pylibjpeg-libjpeg")


def test_a_video_is_no_film(tmp_path: Path) -> None:
    refused(written_with(tmp_path / "a.dcm", MPEG2MPML), "no single film")


def test_a_frame_that_cannot_be_decoded_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    refused(written_with(tmp_path / "a.dcm", JPEGBaseline8Bit), r"cannot be decoded.*pip install pylibjpeg")
    refused(written_with(tmp_path / "b.dcm", RLELossless), "cannot be decoded")
    assert not caplog.records


def test_several_frames_are_no_film(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", BYTES, NumberOfFrames=3, PixelData=BYTES.tobytes() * 3)
    refused(path, "holds 3 frames")
    with pytest.raises(FilmError, match="holds 3 frames"):
        read_header(path)


def test_a_report_has_no_pixels(tmp_path: Path) -> None:
    data = dicom(BYTES)
    for name in ("Rows", "Columns", "PixelData"):
        delattr(data, name)
    data.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    refused(tmp_path / "a.dcm", "without pixels")


def test_pixels_that_are_missing_cut_short_or_of_another_size_are_named(tmp_path: Path) -> None:
    data = dicom(TWELVE)
    del data.PixelData
    data.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    refused(tmp_path / "a.dcm", "no PixelData")
    path = write_dicom(tmp_path / "b.dcm", TWELVE)
    path.write_bytes(path.read_bytes()[:-2000])
    refused(path, "cannot be")
    refused(write_dicom(tmp_path / "c.dcm", TWELVE, Rows=61), "cannot be decoded")


def test_a_huge_film_is_refused_by_its_header(tmp_path: Path) -> None:
    refused(write_dicom(tmp_path / "a.dcm", BYTES, Rows=9000, Columns=9000), "9,000 x 9,000 pixels")


def test_a_deflated_bomb_is_refused_before_it_inflates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("radiograd.films.dicom.MAX_BYTES", 1_000_000)
    data = dicom(BYTES)
    data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    data.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    raw = (tmp_path / "a.dcm").read_bytes()
    (length,) = struct.unpack_from("<I", raw, 140)
    body = zlib.decompress(raw[144 + length :], -zlib.MAX_WBITS)
    pack = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = pack.compress(body + bytes(3_000_000)) + pack.flush()
    (tmp_path / "a.dcm").write_bytes(raw[: 144 + length] + bomb)
    assert (tmp_path / "a.dcm").stat().st_size < 10_000
    refused(tmp_path / "a.dcm", "inflates to more than")
    assert film_module.MAX_BYTES > 1_000_000


def test_nothing_that_a_file_says_of_its_patient_is_logged_or_raised(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.warns(UserWarning, match="Invalid value"):  # the writer's
        path = write_dicom(tmp_path / "a.dcm", BYTES, PhotometricInterpretation="SECRET^NAME", WindowCenter=1)
    caplog.clear()
    refused(path, r"cannot be decoded|no film")
    raw = write_dicom(tmp_path / "b.dcm", BYTES, PatientAge="001Y").read_bytes()
    (tmp_path / "b.dcm").write_bytes(raw.replace(b"001Y", b"SECR").replace(b"DX", b"s^"))
    assert read_film(tmp_path / "b.dcm").pixels.shape == BYTES.shape
    assert not caplog.records

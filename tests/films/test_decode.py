"""Files to films: each kind there is, and everything that is no film."""

from __future__ import annotations

import os
import pickle
import struct
import sys
import warnings
import zlib
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from films_fixture import ramp, write_picture
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from radiograd.errors import FilmError, MissingExtra, RadiogradError
from radiograd.films import film as film_module
from radiograd.films.decode import read_film, read_header

WIDE = ramp(6, 8)


def size_of(path: Path) -> tuple[int, int]:
    header = read_header(path)
    return header.width, header.height


# ---- what is read ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.bmp"])
def test_eight_bits_are_read_as_they_stand(tmp_path: Path, name: str) -> None:
    film = read_film(write_picture(tmp_path / name, WIDE))
    assert (film.pixels == WIDE).all()
    assert (film.width, film.height, film.bits, film.shading) == (8, 6, 8, "as stored")
    assert film.pixels.dtype == np.uint8
    assert film.pixels.flags.writeable
    assert size_of(tmp_path / name) == (8, 6)


def test_a_jpeg_is_read_whatever_its_name(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    write_picture(path, np.kron(WIDE, np.ones((8, 8), np.uint8)), quality=100)
    path = path.rename(tmp_path / "a.png")
    film = read_film(path)
    assert film.format == "JPEG"
    assert np.abs(film.pixels[4::8, 4::8].astype(int) - WIDE).max() <= 2


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "CMYK", "LA"])
def test_grey_in_colour_is_the_same_grey(tmp_path: Path, mode: str) -> None:
    suffix = ".jpg" if mode == "CMYK" else ".png"
    big = np.kron(WIDE, np.ones((8, 8), np.uint8))
    picture = Image.fromarray(big).convert("RGB").convert(mode) if mode != "P" else Image.fromarray(big).convert("P")
    picture.save(tmp_path / f"a{suffix}", **({"quality": 100} if suffix == ".jpg" else {}))
    film = read_film(tmp_path / f"a{suffix}")
    assert np.abs(film.pixels.astype(int) - big).max() <= (3 if mode == "CMYK" else 0)


def test_what_lets_the_ground_through_lies_on_black(tmp_path: Path) -> None:
    pixels = np.full((2, 2, 4), 200, np.uint8)
    pixels[..., 3] = [[255, 0], [51, 255]]
    assert read_film(write_picture(tmp_path / "a.png", pixels)).pixels.tolist() == [[200, 0], [40, 200]]
    palette = Image.fromarray(WIDE).convert("P")
    palette.save(tmp_path / "p.png", transparency=palette.getpixel((7, 5)))
    assert read_film(tmp_path / "p.png").pixels[5, 7] == 0


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_twelve_bits_in_sixteen_are_not_black(tmp_path: Path, name: str) -> None:
    film = read_film(write_picture(tmp_path / name, ramp(60, 80, 4095)))
    assert (film.bits, film.shading) == (16, "percentiles")
    assert film.pixels.min() == 0
    assert film.pixels.max() == 255
    assert abs(film.pixels.mean() - 127.5) < 1


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_sixteen_bit_tiff_whose_white_is_zero_is_turned_over(tmp_path: Path, order: str) -> None:
    values = ramp(60, 80, 65535)
    path = write_picture(tmp_path / "a.tif", values)
    right = read_film(path).pixels
    raw = bytearray(path.read_bytes())
    place = raw.index(struct.pack("<HHI", 262, 3, 1)) + 8  # the entry of PhotometricInterpretation
    raw[place] = 0
    path.write_bytes(raw)
    assert (read_film(path).pixels == 255 - right).all()


def test_floats_with_gaps_are_read(tmp_path: Path) -> None:
    values = np.linspace(-2.0, 3.0, 4800, dtype=np.float32).reshape(60, 80)
    values[0, 0] = np.nan
    film = read_film(write_picture(tmp_path / "a.tif", values))
    assert (film.pixels[0, 0], film.pixels[0, 1], film.pixels[-1, -1]) == (0, 0, 255)


def test_one_bit_is_black_and_white(tmp_path: Path) -> None:
    film = read_film(write_picture(tmp_path / "a.png", WIDE > 100))
    assert film.bits == 1
    assert (film.pixels == np.where(WIDE > 100, 255, 0)).all()


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_film_is_held_as_its_file_says(tmp_path: Path, name: str, orientation: int) -> None:
    upright = np.kron(WIDE, np.ones((8, 8), np.uint8))
    stored = {  # what a camera held like that has written; EXIF 2.3, tag 0x0112
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: upright.T[::-1],
        7: upright.T[::-1, ::-1],
        8: upright.T[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, Any] = {"exif": exif} | ({"quality": 100} if name.endswith("jpg") else {})
    path = write_picture(tmp_path / name, np.ascontiguousarray(stored), **options)
    for film in (read_film(path), read_film(path, at_least=24)):
        assert (film.width, film.height) == (64, 48)
        step = 64 // film.pixels.shape[1]
        assert step == (2 if name.endswith("jpg") and film.pixels.shape != (48, 64) else 1)
        seen = film.pixels[4 // step :: 8 // step, 4 // step :: 8 // step].astype(int)
        assert np.abs(seen - WIDE).max() <= 3
    assert size_of(path) == (64, 48)


def test_a_large_jpeg_is_decoded_smaller_when_that_is_enough(tmp_path: Path) -> None:
    path = write_picture(tmp_path / "a.jpg", np.kron(ramp(50, 40), np.ones((16, 16), np.uint8)), quality=95)
    film = read_film(path, at_least=150)
    assert film.pixels.shape == (200, 160)  # a quarter: an eighth would leave 80
    assert (film.width, film.height) == (640, 800)
    assert read_film(path).pixels.shape == (800, 640)


# ---- what is refused -------------------------------------------------------------------------------------------------


def refused(path: Path, why: str) -> None:
    for read in (read_film, read_header):
        with pytest.raises(FilmError, match=why) as caught:
            read(path)
        assert caught.value.path == str(path)
        assert caught.value.__context__ is None or caught.value.__suppress_context__  # no decoder's traceback


def test_what_is_no_file_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    refused(tmp_path, "is a folder")
    refused(tmp_path / "none.png", "no such file")
    refused(tmp_path / "empty.png" / "x.png", "no such file")
    refused(tmp_path / "empty.png", r"is empty \(0 bytes\)")
    refused(tmp_path / "pipe.png", "is not a regular file")
    refused(tmp_path / "loop.png", "cannot be opened")
    with pytest.raises(FilmError, match=r"a\\x00b\.png: is no file name"):
        read_film("a\0b.png")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    path = write_picture(tmp_path / "a.png")
    path.chmod(0)
    refused(path, "Permission denied")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"\n<!DOCTYPE html><html>", "web page"),
        (b"GIF89a" + bytes(50), "not a PNG, JPEG, TIFF, BMP or DICOM"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "not a PNG, JPEG, TIFF, BMP or DICOM"),
        (b"\x89PNG\r\n\x1a\n", "PNG"),
    ],
)
def test_what_is_no_film_is_refused(tmp_path: Path, content: bytes, why: str) -> None:
    (tmp_path / "a.png").write_bytes(content)
    refused(tmp_path / "a.png", why)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.bmp"])
def test_a_film_cut_short_is_refused_though_its_header_is_whole(tmp_path: Path, name: str) -> None:
    rng = np.random.default_rng(0)
    path = write_picture(tmp_path / name, rng.integers(0, 256, (64, 64), dtype=np.uint8))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FilmError, match="damaged"):
        read_film(path)
    if name != "a.tif":  # its header stands at its end
        assert size_of(path) == (64, 64)


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("width", "height"), [(8001, 8000), (12_000, 9_000), (60_000, 60_000), (2**31 - 1, 2**31 - 1)])
def test_a_bomb_is_refused_by_its_header(tmp_path: Path, width: int, height: int) -> None:
    (tmp_path / "a.png").write_bytes(png_header(width, height))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        refused(tmp_path / "a.png", "pixels")


def test_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "a.dcm").open("wb") as file:
        file.truncate(film_module.MAX_BYTES + 1)  # sparse
    refused(tmp_path / "a.dcm", "bytes")


def test_several_pictures_in_one_file_are_no_film(tmp_path: Path) -> None:
    pages = [Image.fromarray(WIDE), Image.fromarray(WIDE)]
    for name in ("a.tif", "a.png"):
        pages[0].save(tmp_path / name, save_all=True, append_images=[Image.fromarray(255 - WIDE)])
        refused(tmp_path / name, "holds 2 pictures")


def test_a_phone_s_jpeg_with_a_preview_behind_it_is_read(tmp_path: Path) -> None:
    big = np.kron(WIDE, np.ones((8, 8), np.uint8))
    Image.fromarray(big).save(
        tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[Image.fromarray(WIDE)], quality=100
    )
    assert read_film(tmp_path / "a.jpg").pixels.shape == (48, 64)
    assert read_header(tmp_path / "a.jpg").format == "JPEG"


def test_without_pillow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_picture(tmp_path / "a.png")
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingExtra, match=r"pip install 'radiograd\[images\]'"):
        read_film(path)


def test_the_error_goes_to_another_process_and_prints_on_one_line(tmp_path: Path) -> None:
    error = FilmError(tmp_path / "a\nb\udcff.png", "is empty (0 bytes)")
    again = pickle.loads(pickle.dumps(error))
    assert (again.path, again.why, str(again)) == (error.path, error.why, str(error))
    assert str(error) == f"{tmp_path}/a\\nb\\udcff.png: is empty (0 bytes)"
    str(error).encode("utf-8")
    assert isinstance(error, RadiogradError)


# ---- any bytes at all ------------------------------------------------------------------------------------------------


def seeds() -> list[bytes]:
    from films_fixture import dicom

    found = []
    for name, options in (("PNG", {}), ("JPEG", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}), ("BMP", {})):
        out = BytesIO()
        Image.fromarray(np.kron(WIDE, np.ones((4, 4), np.uint8))).save(out, name, **options)
        found.append(out.getvalue())
    for elements in ({}, {"WindowCenter": 100, "WindowWidth": 50, "RescaleSlope": 2, "RescaleIntercept": 1}):
        out = BytesIO()
        dicom(WIDE, **elements).save_as(out, enforce_file_format=True)
        found.append(out.getvalue())
    return found


SEEDS = seeds()


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Any bytes; bytes that start like a film; or a whole film with bytes changed, cut out or cut off."""
    kind = draw(st.sampled_from(["any", "magic", "changed"]))
    if kind == "any":
        return draw(st.binary(max_size=300))
    seed = draw(st.sampled_from(SEEDS))
    if kind == "magic":
        return seed[: draw(st.sampled_from([2, 8, 132, 200]))] + draw(st.binary(max_size=300))
    content = bytearray(seed)
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, len(content) - 1))
        content[place : place + draw(st.integers(0, 4))] = draw(st.binary(max_size=4))
    return bytes(content[: draw(st.integers(1, max(1, len(content))))])


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=damaged(), suffix=st.sampled_from([".png", ".dcm"]))
def test_any_bytes_are_a_film_or_a_film_error(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    for read in (read_header, read_film):
        with suppress(FilmError):
            read(path)

"""DICOM, through pydicom: modality values, then the window that the file asks for, then greys.

DICOM PS3.3 C.11.1 (modality), C.11.2 (VOI), C.7.6.3.1.2 (photometric interpretation). Messages hold no element's value
but sizes and codes: others may name the patient.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import IO, Any, cast, get_args

import numpy as np
from numpy.typing import NDArray

from radiograd.errors import FilmError, MissingExtra
from radiograd.films.film import HEAD_BYTES, MAX_BYTES, Film, Grey, Header, Shading, refuse_huge
from radiograd.films.grey import Function, luma, stretch, to_grey, window

Dataset = Any
"""A pydicom Dataset."""

_HEADER_TAGS = ["Rows", "Columns", "NumberOfFrames", "SOPClassUID", "Modality"]
_HANDLERS = {
    "1.2.840.10008.1.2.4.50": "pylibjpeg pylibjpeg-libjpeg",
    "1.2.840.10008.1.2.4.51": "pylibjpeg pylibjpeg-libjpeg",
    "1.2.840.10008.1.2.4.57": "pylibjpeg pylibjpeg-libjpeg",
    "1.2.840.10008.1.2.4.70": "pylibjpeg pylibjpeg-libjpeg",
    "1.2.840.10008.1.2.4.80": "pyjpegls",
    "1.2.840.10008.1.2.4.81": "pyjpegls",
    "1.2.840.10008.1.2.4.90": "pylibjpeg pylibjpeg-openjpeg",
    "1.2.840.10008.1.2.4.91": "pylibjpeg pylibjpeg-openjpeg",
    "1.2.840.10008.1.2.4.201": "pylibjpeg pylibjpeg-openjpeg",
    "1.2.840.10008.1.2.4.202": "pylibjpeg pylibjpeg-openjpeg",
    "1.2.840.10008.1.2.4.203": "pylibjpeg pylibjpeg-openjpeg",
    "1.2.840.10008.1.2.5": "pylibjpeg pylibjpeg-rle",
}
"""Transfer syntax -> packages that decode it where what comes with the extra does not."""
_DEFLATED = "1.2.840.10008.1.2.1.99"
_META_START = 144  # preamble, "DICM" and the 12 bytes of the element that says how long the meta group is


def read_header(file: IO[bytes], path: Path) -> Header:
    """Size without decoding. FilmError when there are no pixels, several frames, or too many pixels."""
    width, height = _size(_dataset(file, path, only=_HEADER_TAGS), path)
    return Header("DICOM", width, height)


def read_pixels(file: IO[bytes], path: Path) -> Film:
    """The film as its file asks to be shown. FilmError naming what to install for a compression not decoded here."""
    width, height = _size(_dataset(file, path, only=_HEADER_TAGS), path)
    file.seek(0)
    data = _dataset(file, path, only=None)
    if not {"PixelData", "FloatPixelData", "DoubleFloatPixelData"} & set(data.dir()):
        raise FilmError(path, "has no PixelData")
    stored = _decode(data, path)
    pixels, shading = shade(stored, data, path)
    if pixels.shape != (height, width):
        raise FilmError(path, f"says {width} x {height} pixels but holds {pixels.shape[1]} x {pixels.shape[0]}")
    return Film(pixels, width, height, int(data.get("BitsStored") or data.BitsAllocated), "DICOM", shading)


def is_dicom(path: Path) -> bool:
    """Whether a file has the mark of a DICOM file. False when it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


# ---- the file --------------------------------------------------------------------------------------------------------


def _dataset(file: IO[bytes], path: Path, only: list[str] | None) -> Dataset:
    """All elements, or some without the pixels. The file stands at its start."""
    try:
        import pydicom
    except ImportError:
        raise MissingExtra("reading DICOM (module 'pydicom' is missing)", "dicom") from None
    marked = file.read(HEAD_BYTES)[128:132] == b"DICM"
    file.seek(0)
    if marked:
        _refuse_inflating(file, path)
    data = pydicom.dcmread(file, force=not marked, stop_before_pixels=only is not None, specific_tags=cast(Any, only))
    if not marked:
        _add_syntax(data, path)
    return data


def _add_syntax(data: Dataset, path: Path) -> None:
    """What a file without meta group leaves to be guessed: pydicom has, from the first element."""
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    if "Rows" not in data:
        raise FilmError(path, "is not DICOM: it lacks the mark of a DICOM file, and Rows")
    if "TransferSyntaxUID" not in data.file_meta:
        implicit, little = data.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        data.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit


def _refuse_inflating(file: IO[bytes], path: Path) -> None:
    """FilmError when a deflated file would inflate beyond MAX_BYTES; pydicom inflates all of it at once.

    Leaves the file at its start.
    """
    head = file.read(1 << 16)  # a meta group has some hundred bytes
    if _DEFLATED.encode() in head:
        (length,) = struct.unpack_from("<I", head, _META_START - 4)
        file.seek(_META_START + length)
        inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        size, left = 0, b""
        while chunk := left or file.read(1 << 20):
            size += len(inflate.decompress(chunk, 1 << 24))
            left = inflate.unconsumed_tail
            if size > MAX_BYTES:
                raise FilmError(path, f"inflates to more than {MAX_BYTES:,} bytes; refused")
            if inflate.eof:
                break
    file.seek(0)


def _size(data: Dataset, path: Path) -> tuple[int, int]:
    """(width, height) of a single frame."""
    rows, columns = data.get("Rows"), data.get("Columns")
    if not isinstance(rows, int) or not isinstance(columns, int):
        raise FilmError(path, "is DICOM without pixels (no Rows and Columns): a report, a waveform or a directory?")
    frames = data.get("NumberOfFrames")
    if frames is not None and int(frames) > 1:
        raise FilmError(path, f"holds {int(frames)} frames; a film has one")
    refuse_huge(path, columns, rows)
    return columns, rows


def _decode(data: Dataset, path: Path) -> NDArray[Any]:
    """Stored values: (H, W), or (H, W, 3) in red, green, blue."""
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.pixels.utils import pixel_array

    syntax = data.file_meta.TransferSyntaxUID
    install = _HANDLERS.get(str(syntax))
    try:
        available = get_decoder(syntax).is_available
    except NotImplementedError:
        raise FilmError(path, f"is compressed as {syntax.name}, which is no single film") from None
    if not available:
        raise FilmError(path, f"is compressed as {syntax.name}; to read it: pip install {install}")
    try:
        return pixel_array(data)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 (each decoder fails in its own way, and its words may hold values)
        why = f"its pixels ({syntax.name}) cannot be decoded ({type(error).__name__}): cut short or damaged"
        more = f", or of a kind that needs: pip install {install}" if install else ""
        raise FilmError(path, why + more) from None


# ---- values to greys -------------------------------------------------------------------------------------------------


def shade(stored: NDArray[Any], data: Dataset, path: Path) -> tuple[Grey, Shading]:
    """Greys (H, W) of stored values, and what made them: a VOI table goes before a window, a window before percentiles.

    A window that shows nothing (every pixel the same, of a film whose values differ) is passed over.
    """
    kind = str(data.get("PhotometricInterpretation", ""))
    if stored.ndim == 3:
        return luma(stored, 2.0 ** int(data.BitsStored) - 1), "as stored"
    if kind == "PALETTE COLOR":
        from pydicom.pixels.processing import apply_color_lut

        colours = apply_color_lut(stored, data)
        return luma(colours, 255.0 if colours.dtype.itemsize == 1 else 65535.0), "as stored"
    if kind not in ("MONOCHROME1", "MONOCHROME2"):
        raise FilmError(path, "has a PhotometricInterpretation that no film has")
    values = _modality(stored, data)
    grey, shading = _voi(values, stored, data)
    return (255 - grey if kind == "MONOCHROME1" else grey), shading


def _modality(stored: NDArray[Any], data: Dataset) -> NDArray[Any]:
    if data.get("ModalityLUTSequence"):
        from pydicom.pixels.processing import apply_modality_lut

        return apply_modality_lut(stored, data)
    slope, intercept = _number(data, "RescaleSlope"), _number(data, "RescaleIntercept")
    slope, intercept = slope if slope else 1.0, intercept if intercept is not None else 0.0
    if (slope, intercept) == (1.0, 0.0):
        return stored
    return stored.astype(np.float32) * np.float32(slope) + np.float32(intercept)


def _voi(values: NDArray[Any], stored: NDArray[Any], data: Dataset) -> tuple[Grey, Shading]:
    known = _not_padding(stored, data)
    if data.get("VOILUTSequence"):
        grey = _table(values, data)
        if _shows(grey, values):
            return grey, "lut"
    center, width = _number(data, "WindowCenter"), _number(data, "WindowWidth")
    if center is not None and width is not None:
        named = str(data.get("VOILUTFunction") or "LINEAR").upper()
        function = cast(Function, named if named in get_args(Function) else "LINEAR")
        try:
            grey = window(values, center, width, function)
        except ValueError:
            return stretch(values, known), "percentiles"
        if _shows(grey, values):
            return grey, "window"
    return stretch(values, known), "percentiles"


def _table(values: NDArray[Any], data: Dataset) -> Grey:
    """Through the first VOI table. White is its largest entry: tables often claim more bits than they use."""
    from pydicom.pixels.processing import apply_voi

    whole = np.rint(values).astype(np.int64)  # a table is looked up by whole numbers
    looked_up = apply_voi(whole, data)
    item = data.VOILUTSequence[0]
    entries, first = int(item.LUTDescriptor[0]) or 65536, int(item.LUTDescriptor[1])
    white = apply_voi(np.arange(first, first + entries), data).max()
    return to_grey(looked_up.astype(np.float32) / max(1.0, float(white)))


def _shows(grey: Grey, values: NDArray[Any]) -> bool:
    return bool(grey.min() < grey.max() or values.min() == values.max())


def _not_padding(stored: NDArray[Any], data: Dataset) -> NDArray[np.bool_] | None:
    """Pixels beyond the film carry PixelPaddingValue (PS3.3 C.7.5.1.1.2); None when the file names none."""
    padding, limit = _number(data, "PixelPaddingValue"), _number(data, "PixelPaddingRangeLimit")
    if padding is None:
        return None
    low, high = sorted((padding, padding if limit is None else limit))
    return (stored < low) | (stored > high)


def _number(data: Dataset, name: str) -> float | None:
    """The element's first value; None when it is absent, empty, or no finite number."""
    try:
        value = data.get(name)
        if value is not None and not isinstance(value, int | float | str) and hasattr(value, "__len__"):
            value = value[0] if len(value) else None
        number = None if value in (None, "") else float(value)
    except (ValueError, TypeError, OverflowError):
        return None
    return number if number is not None and np.isfinite(number) else None

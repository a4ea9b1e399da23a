"""Film files that tests write themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def ramp(height: int = 6, width: int = 8, top: int = 255) -> NDArray[Any]:
    """(H, W) values that rise from 0 to ``top`` row by row: every side and corner differs."""
    values = np.linspace(0, top, height * width).round().reshape(height, width)
    return values.astype(np.uint8 if top < 256 else np.uint16)


def write_picture(path: Path, pixels: NDArray[Any] | None = None, **options: Any) -> Path:
    """A PNG, JPEG, TIFF or BMP by the ending of ``path``."""
    from PIL import Image

    Image.fromarray(ramp() if pixels is None else pixels).save(path, **options)
    return path


def dicom(pixels: NDArray[Any], **elements: Any) -> Any:
    """A MONOCHROME2 data set of (H, W) or (H, W, 3) uint8, uint16 or int16 values; ``elements`` are set last."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    data.PatientName, data.PatientID, data.Modality = "SECRET^NAME", "SECRETID", "DX"
    data.Rows, data.Columns = pixels.shape[:2]
    data.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
    data.PhotometricInterpretation = "MONOCHROME2" if pixels.ndim == 2 else "RGB"
    if pixels.ndim == 3:
        data.PlanarConfiguration = 0
    data.BitsAllocated = data.BitsStored = 8 * pixels.dtype.itemsize
    data.HighBit = data.BitsStored - 1
    data.PixelRepresentation = int(pixels.dtype.kind == "i")
    raw = pixels.tobytes()
    data.PixelData = raw + b"\0" * (len(raw) % 2)
    for name, value in elements.items():
        setattr(data, name, value)
    return data


def write_dicom(path: Path, pixels: NDArray[Any], **elements: Any) -> Path:
    """An uncompressed DICOM file."""
    dicom(pixels, **elements).save_as(path, enforce_file_format=True)
    return path

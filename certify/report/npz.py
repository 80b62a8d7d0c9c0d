"""The certificate's arrays: reference/NAME, absolute_bound/NAME, conversion/NAME, observed_error/NAME, each (cases, *shape)."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from certify.certificate.contract import Certificate


def encode(certificate: Certificate) -> bytes:
    """The bytes of an .npz file. `observed_error` is absent where nothing was run."""
    arrays = {}
    for name, output in certificate.outputs.items():
        for kind in ("reference", "absolute_bound", "conversion", "observed_error"):
            array = getattr(output, kind)
            if array is not None:
                arrays[f"{kind}/{name}"] = np.asarray(array, dtype=np.float64)
    return pack(arrays)


def pack(arrays: Mapping[str, np.ndarray[Any, Any]]) -> bytes:
    """The arrays as the bytes of an .npz file, the same for the same arrays."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for key, array in arrays.items():
            # Not numpy.savez: it stamps the time of writing on every member.
            entry = zipfile.ZipInfo(f"{key}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(entry, "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
    return buffer.getvalue()

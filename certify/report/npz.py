"""The certificate's arrays: reference/NAME, absolute_bound/NAME, conversion/NAME, observed_error/NAME, each (cases, *shape)."""

from __future__ import annotations

import io
import zipfile

import numpy as np

from certify.certificate.contract import Certificate


def encode(certificate: Certificate) -> bytes:
    """The bytes of an .npz file, the same for the same arrays. `observed_error` is absent where nothing was run."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, output in certificate.outputs.items():
            for kind in ("reference", "absolute_bound", "conversion", "observed_error"):
                array = getattr(output, kind)
                if array is not None:
                    # Not numpy.savez: it stamps the time of writing on every member.
                    entry = zipfile.ZipInfo(f"{kind}/{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
                    entry.compress_type = zipfile.ZIP_DEFLATED
                    with archive.open(entry, "w", force_zip64=True) as member:
                        np.lib.format.write_array(member, np.asarray(array, dtype=np.float64), allow_pickle=False)
    return buffer.getvalue()

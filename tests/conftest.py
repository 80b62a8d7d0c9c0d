"""What every test may rely on: a derandomized profile in CI, and where the real models are."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest

ROOT = Path(__file__).resolve().parent.parent

hypothesis.settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
hypothesis.settings.register_profile("local", deadline=None)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


def models_folder() -> Path | None:
    """The folder of real models, from CERTIFY_MODELS or beside the repository; None where there is none."""
    folder = Path(os.environ.get("CERTIFY_MODELS", ROOT.parent / "shared" / "models"))
    return folder if folder.is_dir() else None


@pytest.fixture(scope="session")
def real_models() -> Path:
    """That folder; skips the test where there is none."""
    folder = models_folder()
    if folder is None:
        pytest.skip("the real models are not here; CERTIFY_MODELS names their folder")
    return folder

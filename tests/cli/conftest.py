"""The command line with a pipeline that answers at once."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

import certify
from certify.certificate.contract import Certificate
from certify.cli.main import main
from certify.request import Request
from tests.report import samples


@dataclass
class Program:
    """`certify`, run in this process; `request` is what the last run asked the pipeline for."""

    capture: pytest.CaptureFixture[str]
    answer: Callable[[], Certificate] = samples.certified
    request: Request | None = None
    stages: list[str] = field(default_factory=list)

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        """(exit code, standard output, standard error)."""
        code = main(arguments)
        out, err = self.capture.readouterr()
        return code, out, err

    def run(self, request: Request, progress: Any, stop: Any) -> Certificate:
        self.request = request
        return self.answer()


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Any) -> Program:
    monkeypatch.chdir(tmp_path)
    found = Program(capsys)
    pipeline: Any = types.ModuleType("certify.pipeline")
    pipeline.run = found.run
    monkeypatch.setitem(sys.modules, "certify.pipeline", pipeline)
    monkeypatch.setattr(certify, "pipeline", pipeline, raising=False)
    return found

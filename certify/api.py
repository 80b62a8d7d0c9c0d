"""The Python interface: `certify.certify()` takes every option of the command line by keyword."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from certify import request as forms
from certify.certificate.contract import Certificate
from certify.errors import UsageError
from certify.files import check_writable

if TYPE_CHECKING:
    import onnx


def certify(
    model: str | os.PathLike[str] | bytes | onnx.ModelProto,
    *,
    dtype: str | None = None,
    accumulate: str | None = None,
    profile: str | None = None,
    summation: str = "any",
    data: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    ranges: Mapping[str, forms.Range] | forms.Range | None = None,
    samples: int = 8,
    seed: int = 0,
    region: bool = False,
    vnnlib: str | os.PathLike[str] | None = None,
    as_run: str | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    engine: str = "auto",
    guarantee: str = "any",
    budgets: Sequence[str | float] = (),
    validate: bool = True,
    provider: Literal["cpu", "cuda"] = "cpu",
    outputs: Sequence[str | os.PathLike[str]] = (),
    time_limit: float = 60.0,
    jobs: int | None = None,
    scheduler: str | None = None,
    boxes: int | None = None,
    eta: float = 1e-9,
    memory_limit: str | int | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: forms.Progress = forms.no_progress,
) -> Certificate:
    """Bound the rounding error of the model's outputs, as `certify MODEL` does.

    `model` is a path, the bytes of a model or a ModelProto; `data` a path or arrays by input name (a list of arrays for a sequence, None
    for an optional input that is absent); `ranges` one (lo, hi)
    for all inputs or one by input name; `jobs` is 1 unless given, for regions too: more start processes, as multiprocessing does, which
    import the main module again; `scheduler` is the address of a Dask scheduler; `budgets` numbers or the command line's text; files in
    `outputs` are written.
    Raises UsageError, InvalidModel, InvalidData or Unsupported, each naming what is at fault.
    """
    by_name = ranges if isinstance(ranges, Mapping) else {} if ranges is None else {"": ranges}
    request = forms.Request(
        model=Path(model) if isinstance(model, str | os.PathLike) else model,
        dtype=dtype,
        accumulate=accumulate,
        profile=profile,
        summation=forms.parse_summation(summation),
        data=Path(data) if isinstance(data, str | os.PathLike) else data,
        ranges={name: _range(name, interval) for name, interval in by_name.items()},
        samples=samples,
        seed=seed,
        region=region,
        vnnlib=None if vnnlib is None else Path(vnnlib),
        as_run=None if as_run is None else forms.parse_as_run(as_run),
        shapes={name: forms.parse_shape(f"{name}={','.join(map(str, shape))}")[1] for name, shape in (shapes or {}).items()},
        engine=engine,
        guarantee=guarantee,
        budgets=tuple(forms.parse_budget(str(budget)) for budget in ([budgets] if isinstance(budgets, str) else budgets)),
        validate=validate,
        provider=provider,
        outputs=tuple(Path(output) for output in outputs),
        time_limit=time_limit,
        jobs=1 if jobs is None and scheduler is None else jobs,
        scheduler=scheduler,
        boxes=boxes,
        eta=eta,
        memory_limit=None if memory_limit is None else forms.parse_size(str(memory_limit)),
        checkpoint=None if checkpoint is None else Path(checkpoint),
    )
    for output in request.outputs:
        check_writable(output)
    from certify import pipeline

    certificate = pipeline.run(request, progress)
    for output in request.outputs:
        certificate.save(output)
    return certificate


def _range(name: str, interval: Sequence[float]) -> forms.Range:
    option = f"ranges[{name!r}]" if name else "ranges"
    try:
        lo, hi = interval
    except (TypeError, ValueError):
        raise UsageError(f"{option}: {interval!r} is not a pair (lo, hi)") from None
    return forms.check_range(lo, hi, option)

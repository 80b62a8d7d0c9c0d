"""com.microsoft's attention and normalizations against onnxruntime's own kernels: what these compute lies within reference +- bound."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from onnx import helper

import certify
from certify.errors import CertifyError
from tests.semantics.models import attacked

MS = "com.microsoft"
B, S, N, H = 2, 3, 2, 4
D = N * H
LEARNT = ("weights", "bias", "gamma", "beta", "cos", "sin", "word", "place", "kind")


def numbers(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32)


def model_of(kind: str, operands: Mapping[str, Any], outputs: tuple[str, ...], **attributes: Any) -> Any:
    """Operands by name in order, None for one that is absent; those that are learnt, and whole numbers that decide, are constants."""
    present = {n: x for n, x in operands.items() if x is not None}
    constants = [n for n in present if n.rstrip("0123456789") in LEARNT or n in ("lengths", "total")]
    node = helper.make_node(kind, [n if x is not None else "" for n, x in operands.items()], list(outputs), domain=MS, **attributes)
    fed = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
        for n, x in present.items()
        if n not in constants
    ]
    held = [
        helper.make_tensor(n, helper.np_dtype_to_tensor_dtype(present[n].dtype), present[n].shape, present[n].ravel()) for n in constants
    ]
    results = [helper.make_empty_tensor_value_info(n) for n in outputs if n]
    graph = helper.make_graph([node], "g", fed, results, held)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(MS, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9), {n: x for n, x in present.items() if n not in constants}


def inside(kind: str, operands: Mapping[str, Any], outputs: tuple[str, ...] = ("y",), tight: float = 1e-4, **attributes: Any) -> Any:
    import onnxruntime

    model, fed = model_of(kind, operands, outputs, **attributes)
    out = certify.certify(model, data={n: x[None] for n, x in fed.items()}, validate=False).outputs
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    for name, y in zip([o for o in outputs if o], session.run(None, fed), strict=True):
        reference, bound = out[name].reference[0], out[name].absolute_bound[0]
        assert reference.shape == y.shape, (name, reference.shape, y.shape)
        assert (np.abs(y.astype(np.float64) - reference) <= bound).all(), (name, np.abs(y - reference).max(), bound.max())
        assert bound[np.isfinite(bound)].max(initial=0.0) < tight, (name, bound.max())
        assert name == "qk" or np.isfinite(bound).all()
    return model, fed


@pytest.mark.parametrize(
    ("bias", "beta", "skip"), [(False, True, (B, S, D)), (True, True, (B, S, D)), (True, False, (1, S, D)), (False, False, (S, D))]
)
def test_skip_layer_normalization(bias: bool, beta: bool, skip: tuple[int, ...]) -> None:
    x = {"x": numbers(B, S, D), "skip": numbers(*skip, seed=1), "gamma": numbers(D), "beta": numbers(D, seed=2) if beta else None}
    x["bias"] = numbers(D, seed=3) if bias else None
    model, fed = inside("SkipLayerNormalization", x, ("y", "", "", "sum"), epsilon=1e-5)
    del x["beta"]
    inside("SkipSimplifiedLayerNormalization", x, ("y", "", "", "sum"), epsilon=1e-5)
    assert set(attacked(model, fed, formats=((None, "wide"), ("bf16", "wide"))).values()) == {"finite"}


@pytest.mark.parametrize(("kinds", "mask", "positions"), [(True, True, False), (False, False, False), (True, False, True)])
def test_embed_layer_normalization(kinds: bool, mask: bool, positions: bool) -> None:
    ids = np.array([[4, 0, 2], [1, 1, 3]], dtype=np.int32)
    x = {
        "ids": ids,
        "segments": ids % 2 if kinds else None,
        "word": numbers(5, D),
        "place": numbers(6, D, seed=1),
        "kind": numbers(2, D, seed=2) if kinds else None,
        "gamma": numbers(D, seed=3),
        "beta": numbers(D, seed=4),
        "mask": np.array([[1, 1, 0], [1, 0, 0]], dtype=np.int32) if mask else None,
        "positions": ids[:, ::-1] + 1 if positions else None,
    }
    inside("EmbedLayerNormalization", {n: None if v is None else np.ascontiguousarray(v) for n, v in x.items()}, ("y", "count", "sum"))


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("positions", [[2], [[0, 3, 1], [4, 4, 2]]])
@pytest.mark.parametrize("kind", ["four axes", "three axes", "part"])
def test_rotary_embedding(interleaved: int, positions: Any, kind: str) -> None:
    width = 2 if kind == "part" else H
    angles = np.random.default_rng(1).uniform(-3, 3, (6, width // 2))
    x = {"x": numbers(B, N, S, H) if kind == "four axes" else numbers(B, S, D), "p": np.array(positions, dtype=np.int64)}
    x |= {"cos": np.cos(angles).astype(np.float32), "sin": np.sin(angles).astype(np.float32)}
    part = {"num_heads": N, "rotary_embedding_dim": width} if kind == "part" else {}
    inside("RotaryEmbedding", x, interleaved=interleaved, **part)


MASKS: dict[str, Any] = {
    "none": None,
    "lengths": [2, 5],
    "ends and starts": [4, 5, 1, 0],
    "keys": [[1, 1, 0, 1, 0], [1, 1, 1, 1, 1]],
    "queries and keys": np.random.default_rng(2).integers(0, 2, (B, S, 5)) | np.eye(5, dtype=int)[:S],
}


@pytest.mark.parametrize("mask", list(MASKS))
@pytest.mark.parametrize("unidirectional", [0, 1])
def test_attention(mask: str, unidirectional: int) -> None:
    """With a past of two keys."""
    x = {"x": numbers(B, S, 6), "weights": numbers(6, 3 * D) / 2, "bias": numbers(3 * D)}
    x["mask"] = None if MASKS[mask] is None else np.asarray(MASKS[mask], dtype=np.int32)
    x |= {"past": numbers(2, B, N, 2, H)}
    model, fed = inside("Attention", x, ("y", "present"), num_heads=N, unidirectional=unidirectional, scale=0.3)
    if mask == "keys" and unidirectional:
        assert set(attacked(model, fed, formats=((None, "wide"), ("fp16", "wide"))).values()) == {"finite"}


def test_attention_of_different_sizes() -> None:
    x = {"x": numbers(B, S, 6), "weights": numbers(6, 2 * D + 2 * N), "bias": numbers(2 * D + 2 * N)}
    x |= {"mask": np.array([[1, 0, 1], [1, 1, 1]], dtype=np.int32), "past": None, "added": numbers(B, N, S, S)}
    inside("Attention", x, num_heads=N, qkv_hidden_sizes=[D, D, 2 * N])


@pytest.mark.parametrize("mask", [None, "keys", "queries and keys", "lengths"])
@pytest.mark.parametrize("past", [False, True])
def test_multi_head_attention(mask: str | None, past: bool) -> None:
    L = 3 if past else 5
    x = {"q": numbers(B, S, D), "k": numbers(B, L, D, seed=1), "v": numbers(B, L, D, seed=2), "bias": numbers(3 * D)}
    x["mask"] = None if mask is None else np.asarray(MASKS[mask], dtype=np.int32)
    x["added"] = numbers(1, N, S, 5) if past else None
    x |= {"past_key": numbers(B, N, 2, H), "past_value": numbers(B, N, 2, H, seed=3)} if past else {}
    outputs = ("y", "present_key", "present_value") if past else ("y",)
    inside("MultiHeadAttention", x, outputs, num_heads=N, unidirectional=int(past and mask is None))


def test_cross_attention_of_split_heads() -> None:
    x = {"q": numbers(B, S, D), "k": numbers(B, N, 5, H, seed=1), "v": numbers(B, N, 5, H, seed=2)}
    inside("MultiHeadAttention", x, num_heads=N, scale=0.7)


@pytest.mark.parametrize(
    "attributes", [{}, {"do_rotary": 1}, {"do_rotary": 1, "rotary_interleaved": 1, "softcap": 3.0}, {"local_window_size": 2, "scale": 0.4}]
)
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("past", [0, 2])
def test_group_query_attention(attributes: dict[str, Any], packed: bool, past: int) -> None:
    heads, size, rows = 4, 16, 1 if past else 3
    total = past + rows
    q, k, v = numbers(B, rows, heads * size), numbers(B, rows, N * size, seed=1), numbers(B, rows, N * size, seed=2)
    x: dict[str, Any] = {"q": np.concatenate([q, k, v], axis=2) if packed else q, "k": None if packed else k, "v": None if packed else v}
    pasts = {n: numbers(B, N, past, size, seed=i) if past else None for i, n in enumerate(("past_key", "past_value"))}
    x |= pasts | {"lengths": np.full(B, total - 1, dtype=np.int32), "total": np.array([total], dtype=np.int32)}
    angles = np.random.default_rng(1).uniform(-3, 3, (8, size // 2))
    if attributes.get("do_rotary"):
        x |= {"cos": np.cos(angles).astype(np.float32), "sin": np.sin(angles).astype(np.float32)}
    inside("GroupQueryAttention", x, ("y", "present_key", "present_value"), num_heads=heads, kv_num_heads=N, **attributes)


@pytest.mark.parametrize(
    ("kind", "attributes", "more"),
    [
        ("Attention", {"do_rotary": 1}, {}),
        ("Attention", {"past_present_share_buffer": 1}, {}),
        ("Attention", {}, {"mask": np.zeros(3 * B + 2, dtype=np.int32)}),
        ("RotaryEmbedding", {"scale": 2.0}, {}),
    ],
)
def test_refused(kind: str, attributes: dict[str, Any], more: dict[str, Any]) -> None:
    x = {"x": numbers(B, S, 6), "weights": numbers(6, 3 * D), "bias": numbers(3 * D)} | more
    if kind == "RotaryEmbedding":
        x = {"x": numbers(B, S, D), "p": np.array([0]), "cos": numbers(6, 2), "sin": numbers(6, 2)}
    model, fed = model_of(kind, x, ("y",), **attributes, **({"num_heads": N} if kind == "Attention" else {}))
    with pytest.raises(CertifyError, match="not supported|a mask of shape"):
        certify.certify(model, data={n: v[None] for n, v in fed.items()}, validate=False)

"""Operators of ai.onnx.ml against onnxruntime: what its kernels deliver lies within reference +- bound, labels included."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

import certify
from certify.errors import CertifyError

ML = "ai.onnx.ml"
TYPES = {"f": TensorProto.FLOAT, "d": TensorProto.DOUBLE, "l": TensorProto.INT64}


def model(kind: str, x: Any, outputs: tuple[str, ...] = ("Y",), opset: int = 1, more: Any = (), **attributes: Any) -> Any:
    """One node on inputs X0, X1, ..."""
    inputs = [x, *more]
    names = [f"X{k}" for k in range(len(inputs))]
    node = helper.make_node(kind, names, outputs, domain=ML, **attributes)
    declared = [helper.make_tensor_value_info(n, TYPES[v.dtype.char], v.shape) for n, v in zip(names, inputs, strict=True)]
    graph = helper.make_graph([node], "g", declared, [helper.make_empty_tensor_value_info(o) for o in outputs if o])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid(ML, opset)], ir_version=9)


def compared(built: Any, x: Any, more: Any = (), loosest: float = 1e-4) -> Any:
    """The certificate, after onnxruntime's outputs have been seen to lie in it."""
    import onnxruntime

    feeds = {f"X{k}": v for k, v in enumerate([x, *more])}
    certificate = certify.certify(built, data={k: v[None] for k, v in feeds.items()}, validate=False)
    session = onnxruntime.InferenceSession(built.SerializeToString(), providers=["CPUExecutionProvider"])
    for info, y in zip(session.get_outputs(), session.run(None, feeds), strict=True):
        out = certificate.outputs[info.name]
        reference, bound = out.reference[0], out.absolute_bound[0]
        assert reference.shape == y.shape, (info.name, reference.shape, y.shape)
        assert bound.max() <= loosest, (info.name, bound)
        assert (np.abs(y.astype(np.float64) - reference) <= bound).all(), (info.name, y, reference, bound)
    return certificate


def some(*shape: int, kind: Any = np.float32) -> Any:
    return np.random.default_rng(len(shape)).normal(size=shape).astype(kind)


def floats(*shape: int) -> list[float]:
    return [float(v) for v in some(*shape, 1).ravel()]


FEATURES: list[tuple[str, Any, dict[str, Any]]] = [
    ("Scaler", some(3, 4), {"offset": floats(4), "scale": floats(4)}),
    ("Scaler", some(3, 4, kind=np.float64), {"offset": [0.5], "scale": [3.0]}),
    ("Scaler", np.arange(8).reshape(2, 4), {"offset": floats(4), "scale": floats(4)}),
    *(("Normalizer", some(3, 4), {"norm": norm}) for norm in ("MAX", "L1", "L2")),
    ("Normalizer", np.array([[1e-30, -2.0, 3e-5]], np.float32), {"norm": "L2"}),
    ("Binarizer", some(3, 4), {"threshold": 0.25}),
    ("Imputer", np.array([[1.0, 2.0], [5.0, 1.0]], np.float32), {"imputed_value_floats": [7.0, 8.0], "replaced_value_float": 1.0}),
    ("Imputer", some(2, 2), {"imputed_value_floats": [7.0], "replaced_value_float": float("nan")}),
    ("Imputer", np.array([[1, 2], [5, 1]]), {"imputed_value_int64s": [7, 8], "replaced_value_int64": 1}),
    ("OneHotEncoder", np.array([3, 5, 4]), {"cats_int64s": [5, 3], "zeros": 1}),
    ("LabelEncoder", np.array([3, 5, 4]), {"keys_int64s": [5, 3], "values_floats": [0.25, -1.5], "default_float": 0.1}),
    ("LabelEncoder", np.array([0.5, 2.0, -0.0], np.float32), {"keys_floats": [0.5, 0.0], "values_int64s": [4, -7]}),
]


@pytest.mark.parametrize(("kind", "x", "attributes"), FEATURES, ids=[f"{kind} {k}" for k, (kind, *_) in enumerate(FEATURES)])
def test_features(kind: str, x: Any, attributes: dict[str, Any]) -> None:
    compared(model(kind, x, opset=2 if kind == "LabelEncoder" else 1, **attributes), x)


def test_columns_and_their_concatenation() -> None:
    x, y = some(3, 4), some(3, 2)
    compared(model("ArrayFeatureExtractor", x, more=[np.array([2, 0])]), x, [np.array([2, 0])])
    compared(model("FeatureVectorizer", x, more=[y], inputdimensions=[4, 2]), x, [y])


POSTS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO")
BOTH = ("label", "scores")


@pytest.mark.parametrize("post", POSTS)
def test_linear_models(post: str) -> None:
    x = some(5, 3)
    compared(model("LinearRegressor", x, coefficients=floats(6), intercepts=[0.5, -1.0], targets=2, post_transform=post), x)
    given = {"coefficients": floats(9), "intercepts": [0.5, -1.0, 0.25], "classlabels_ints": [4, 2, 9], "post_transform": post}
    compared(model("LinearClassifier", x, BOTH, **given), x)
    one = {"coefficients": floats(3), "intercepts": [0.5], "classlabels_ints": [4, 2], "post_transform": post}
    if post in ("NONE", "LOGISTIC"):
        compared(model("LinearClassifier", x, BOTH, **one), x)
    else:
        with pytest.raises(CertifyError, match="which onnxruntime leaves out"):
            compared(model("LinearClassifier", x, BOTH, **one), x)


@pytest.mark.parametrize("kernel", ["LINEAR", "POLY", "RBF", "SIGMOID"])
def test_support_vectors(kernel: str) -> None:
    x = 0.5 * some(5, 3)
    given = {"kernel_type": kernel, "kernel_params": [0.5, 0.25, 3.0], "support_vectors": floats(12)}
    compared(model("SVMRegressor", x, coefficients=floats(4), rho=[0.5], n_supports=4, **given), x)
    compared(model("SVMRegressor", x, coefficients=floats(4), rho=[0.5], n_supports=4, one_class=1, **given), x)
    for post in ("NONE", "LOGISTIC"):
        two = {"coefficients": floats(4), "rho": [0.5], "vectors_per_class": [3, 1], "classlabels_ints": [7, 3], "post_transform": post}
        compared(model("SVMClassifier", x, BOTH, **two, **given), x)
        three = {"coefficients": floats(8), "rho": [0.5, -0.1, 0.2], "vectors_per_class": [1, 1, 2], "classlabels_ints": [7, 3, 5]}
        compared(model("SVMClassifier", x, BOTH, post_transform=post, **three, **given), x)


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("classes", [2, 3])
def test_linear_support_vectors(classes: int, sign: float) -> None:
    x = some(6, 3)
    coefficients = [sign * abs(v) if sign > 0 else v for v in floats(3 * classes)]
    labels = {"classlabels_ints": [7, 3, 5][:classes], "coefficients": coefficients, "rho": [0.125], "kernel_params": [0.0, 0.0, 0.0]}
    compared(model("SVMClassifier", x, BOTH, **labels), x)
    y = model("SVMRegressor", x, coefficients=floats(3), rho=[0.5], n_supports=0, kernel_params=[0.0, 0.0, 0.0])
    compared(y, x)


def grown(rng: Any, trees: int, depth: int, features: int, modes: Any) -> tuple[dict[str, Any], list[tuple[int, int]]]:
    """Random trees as attributes, and (tree, node) of their leaves."""
    columns: dict[str, list[Any]] = {k: [] for k in ("treeids", "nodeids", "featureids", "values", "modes", "truenodeids", "falsenodeids")}
    ends = []
    for tree in range(trees):
        waiting, number = [(0, 0)], 1
        while waiting:
            node, level = waiting.pop()
            leaf = level == depth or (level > 0 and rng.random() < 0.2)
            yes, no = (0, 0) if leaf else (number, number + 1)
            if not leaf:
                waiting += [(yes, level + 1), (no, level + 1)]
                number += 2
            else:
                ends.append((tree, node))
            row = (
                tree,
                node,
                int(rng.integers(features)),
                float(np.float32(rng.normal())),
                "LEAF" if leaf else str(rng.choice(modes)),
                yes,
                no,
            )
            for column, value in zip(columns.values(), row, strict=True):
                column.append(value)
    return {f"nodes_{k}": v for k, v in columns.items()}, ends


COMPARED = [f"BRANCH_{mode}" for mode in ("LEQ", "LT", "GTE", "GT")]


@pytest.mark.parametrize("mode", [*COMPARED, "BRANCH_EQ", "BRANCH_NEQ"])
@pytest.mark.parametrize("how", ["SUM", "AVERAGE", "MIN", "MAX"])
def test_regression_trees(how: str, mode: str) -> None:
    rng = np.random.default_rng(3)
    nodes, ends = grown(rng, 6, 4, 3, [mode])
    x = some(8, 3)
    x[0, :] = nodes["nodes_values"][:3]  # on thresholds
    weights = [float(np.float32(v)) for v in rng.normal(size=len(ends))]
    targets = {"target_treeids": [t for t, _ in ends], "target_nodeids": [k for _, k in ends], "target_ids": [0] * len(ends)}
    built = model(
        "TreeEnsembleRegressor", x, aggregate_function=how, n_targets=1, base_values=[0.3], target_weights=weights, **targets, **nodes
    )
    compared(built, x, loosest=1e-5)


@pytest.mark.parametrize("post", ["NONE", "SOFTMAX", "LOGISTIC"])
@pytest.mark.parametrize("base", [(), (0.1, -0.2, 0.3)])
def test_classification_trees(post: str, base: tuple[float, ...]) -> None:
    rng = np.random.default_rng(5)
    nodes, ends = grown(rng, 5, 3, 4, COMPARED)
    x = some(9, 4)
    every = [(*end, k) for end in ends for k in range(3)]
    given = {
        "class_treeids": [t for t, *_ in every],
        "class_nodeids": [k for _, k, _ in every],
        "class_ids": [k for *_, k in every],
        "class_weights": [float(np.float32(v)) for v in rng.normal(size=len(every))],
        "classlabels_int64s": [11, 5, 8],
        "post_transform": post,
    }
    compared(model("TreeEnsembleClassifier", x, BOTH, **given, **nodes, **({"base_values": base} if base else {})), x)


@pytest.mark.parametrize("target", [0, 1])
@pytest.mark.parametrize("positive", [True, False])
@pytest.mark.parametrize("post", ["NONE", "LOGISTIC"])
def test_two_classes_by_one_score(post: str, positive: bool, target: int) -> None:
    rng = np.random.default_rng(7)
    nodes, ends = grown(rng, 3, 3, 4, COMPARED)
    x = some(9, 4)
    weights = rng.uniform(size=len(ends)) / 3 if positive else rng.normal(size=len(ends))
    given = {
        "class_treeids": [t for t, _ in ends],
        "class_nodeids": [k for _, k in ends],
        "class_ids": [target] * len(ends),
        "class_weights": [float(np.float32(v)) for v in weights],
        "classlabels_int64s": [11, 5],
        "post_transform": post,
    }
    compared(model("TreeEnsembleClassifier", x, BOTH, **given, **nodes), x)


def test_membership_is_a_chain_of_equalities() -> None:
    """The tree of ONNX's own case, on numbers alone."""
    nan = float("nan")

    def tensor(kind: int, values: Any) -> Any:
        return helper.make_tensor("t", kind, (len(values),), values)

    attributes = {
        "n_targets": 4,
        "aggregate_function": 1,
        "membership_values": tensor(1, [1.2, 3.7, 8, 9, nan, 12, 7, nan]),
        "nodes_modes": tensor(2, [0, 6, 6]),
        "nodes_splits": tensor(1, [11, 232344, nan]),
        "nodes_featureids": [0, 0, 0],
        "nodes_truenodeids": [1, 0, 1],
        "nodes_falsenodeids": [2, 2, 3],
        "nodes_trueleafs": [0, 1, 1],
        "nodes_falseleafs": [0, 1, 1],
        "tree_roots": [0],
        "leaf_targetids": [0, 1, 2, 3],
        "leaf_weights": tensor(1, [1, 10, 1000, 100]),
    }
    attributes["nodes_truenodeids"], attributes["nodes_falsenodeids"] = [1, 0, 1], [2, 3, 2]
    x = np.array([[1.2], [3.4], [-0.12], [12.0], [7.0], [8.0], [9.0], [13.0]], np.float32)
    compared(model("TreeEnsemble", x, opset=5, **attributes), x)


def test_a_feature_near_a_threshold_leaves_the_hull() -> None:
    """x - 1/3 in fp32 is off by a rounding; a threshold within it leaves both leaves possible, one beyond decides."""
    x = np.full((1, 1), 2.0, np.float32)
    scaled = np.float32(2.0 - np.float64(np.float32(1 / 3)))
    for threshold, bound in ((float(scaled), 5.0), (float(np.nextafter(scaled, np.float32(9.0), dtype=np.float32)) + 1e-5, 0.0)):
        scaler = helper.make_node("Scaler", ["X"], ["S"], domain=ML, offset=[1 / 3], scale=[1.0])
        tree = helper.make_node(
            "TreeEnsembleRegressor",
            ["S"],
            ["Y"],
            domain=ML,
            n_targets=1,
            nodes_treeids=[0, 0, 0],
            nodes_nodeids=[0, 1, 2],
            nodes_featureids=[0, 0, 0],
            nodes_values=[threshold, 0.0, 0.0],
            nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF"],
            nodes_truenodeids=[1, 0, 0],
            nodes_falsenodeids=[2, 0, 0],
            target_treeids=[0, 0],
            target_nodeids=[1, 2],
            target_ids=[0, 0],
            target_weights=[1.0, 6.0],
        )
        declared = [helper.make_tensor_value_info(n, TensorProto.FLOAT, (1, 1)) for n in ("X", "Y")]
        graph = helper.make_graph([scaler, tree], "g", declared[:1], declared[1:])
        built = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid(ML, 3)], ir_version=9)
        out = certify.certify(built, data={"X": x[None]}).outputs["Y"]
        assert bound <= out.absolute_bound.max() <= bound * (1 + 1e-12)


def test_strings_are_refused_where_they_are_wanted() -> None:
    x = some(2, 3)
    given = {"coefficients": floats(6), "intercepts": [0.5, -1.0], "classlabels_strings": ["a", "b"]}
    with pytest.raises(CertifyError, match="it holds strings"):
        certify.certify(model("LinearClassifier", x, BOTH, **given), data={"X0": x[None]})
    kept = model("LinearClassifier", x, BOTH, **given)
    del kept.graph.output[0]
    assert np.isfinite(certify.certify(kept, data={"X0": x[None]}).outputs["scores"].absolute_bound).all()


@pytest.mark.parametrize(
    ("kind", "attributes", "reason"),
    [
        ("LabelEncoder", {"keys_strings": ["a"], "values_int64s": [1]}, "strings"),
        ("SVMClassifier", {"prob_a": [0.5], "prob_b": [0.1], "classlabels_ints": [0, 1], "coefficients": [1.0], "rho": [0.0]}, "iteration"),
        ("LinearRegressor", {"coefficients": floats(6), "targets": 2, "post_transform": "PROBIT"}, "PROBIT"),
        ("SVMRegressor", {"coefficients": floats(3), "rho": [0.0], "post_transform": "LOGISTIC"}, "leaves out"),
    ],
)
def test_refused_with_a_reason(kind: str, attributes: dict[str, Any], reason: str) -> None:
    x = some(2, 3) if kind != "LabelEncoder" else np.array([1, 2])
    outputs = BOTH if kind == "SVMClassifier" else ("Y",)
    with pytest.raises(CertifyError, match=reason):
        certify.certify(model(kind, x, outputs, opset=2 if kind == "LabelEncoder" else 1, **attributes), data={"X0": x[None]})


@pytest.mark.parametrize("dtype", ["fp16", "bf16", "fp8e4m3"])
def test_narrow_formats(dtype: str) -> None:
    """Conforming runs of a scaler before a classifier, by the simulator and node by node."""
    x = some(4, 3)
    given = {"coefficients": floats(9), "intercepts": [0.5, -1.0, 0.25], "classlabels_ints": [4, 2, 9], "post_transform": "SOFTMAX"}
    built = model("LinearClassifier", x, BOTH, **given)
    certificate = certify.certify(built, data={"X0": x[None]}, dtype=dtype)
    assert certificate.gate is not None
    assert certificate.gate.exit_code != 4, certificate.gate.reasons

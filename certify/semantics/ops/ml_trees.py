"""TreeEnsemble, TreeEnsembleRegressor and TreeEnsembleClassifier of ai.onnx.ml.

A tree is a chain of decisions (families/forest); its leaves are added up, averaged or compared. Kernels that are covered: leaves and
base values added in any order, in the kernel's format or a wider one. Features are compared with thresholds as the kernel
holds both. NaN is no number: what a missing value would follow is not asked. Scores of two classes are onnxruntime's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from certify.semantics.contract import UnsupportedOperator, register
from certify.semantics.families.composite import Composite, Expansion
from certify.semantics.families.forest import MODES, Forest, Leaves
from certify.semantics.families.writer import Parts, Writer
from certify.semantics.ops.ml_scores import FLOAT, Labels, rows, score_output, transformed, two_sided


@dataclass(frozen=True)
class Ensemble:
    """A forest with its numbers. given: (leaves, targets), where a leaf says something of a target."""

    forest: Forest
    thresholds: Any
    table: Any
    given: Any

    def always(self, target: int) -> bool:
        """True if some tree says something of the target wherever it ends."""
        return bool(np.logical_and.reduceat(self.given[:, target], self.forest.starts).any())


def _forest(roots: Sequence[int], inner: Sequence[tuple[int, int, int, int]], leaves: int) -> tuple[Forest, Any]:
    """Inner nodes (feature, mode, yes, no), leaves numbered behind them -> the forest, and the old number of each leaf in its order."""
    n = len(inner)
    children = [(yes, no) for *_, yes, no in inner]
    order: list[int] = []
    starts = []
    depth = np.zeros(n, dtype=np.intp)
    for root in roots:
        starts.append(len(order))
        found, waiting = set(), [root]
        while waiting:
            node = waiting.pop()
            if node in found:
                continue
            found.add(node)
            if node < n:
                waiting.extend(children[node])
        order += sorted(node - n for node in found if node >= n)
        _deepen(root, children, depth, len(found))
    if len(set(order)) != len(order):
        raise UnsupportedOperator("two of its trees share a leaf")
    place = np.zeros(leaves, dtype=np.intp)
    place[order] = np.arange(len(order))
    moved = np.asarray([[k if k < n else n + place[k - n] for k in pair] for pair in children], dtype=np.intp).reshape(n, 2)
    levels = tuple(np.flatnonzero(depth == d + 1) for d in range(int(depth.max(initial=0))))
    at = np.asarray([root if root < n else n + place[root - n] for root in roots], dtype=np.intp)
    feature, mode = (np.asarray([node[k] for node in inner], dtype=np.intp) for k in (0, 1))
    return Forest(at, feature, mode, moved[:, 0], moved[:, 1], np.asarray(starts), len(order), levels), np.asarray(order, dtype=np.intp)


def _deepen(root: int, children: Sequence[tuple[int, int]], depth: Any, most: int) -> None:
    """Longest distance from the root, one at it, of every inner node below. Raises UnsupportedOperator for a cycle."""
    level = {root}
    distance = 0
    while level := {node for node in level if node < len(children)}:
        distance += 1
        if distance > most:
            raise UnsupportedOperator("a node of its trees leads back to itself")
        for node in level:
            depth[node] = distance
        level = {child for node in level for child in children[node]}


def _numbers(values: Any, tensor: Any) -> Any:
    """A list of floats, or the tensor that may stand for it."""
    return np.asarray(values if tensor is None or not len(np.ravel(tensor)) else tensor, dtype=np.float64).ravel()


def classic(attributes: dict[str, Any], kind: str, targets: int) -> Ensemble:
    """From the attributes of TreeEnsembleRegressor (kind "target") or TreeEnsembleClassifier ("class")."""
    trees, numbers = attributes["nodes_treeids"], attributes["nodes_nodeids"]
    modes = [m.decode() if isinstance(m, bytes) else m for m in attributes["nodes_modes"]]
    keys = list(zip(trees, numbers, strict=True))
    splits = [k for k, mode in enumerate(modes) if mode != "LEAF"]
    ends = [k for k, mode in enumerate(modes) if mode == "LEAF"]
    place = {keys[k]: i for i, k in enumerate(splits)} | {keys[k]: len(splits) + i for i, k in enumerate(ends)}
    if len(place) != len(keys):
        raise UnsupportedOperator("two of its nodes have one number")
    inner, pointed = [], set()
    for k in splits:
        if modes[k].removeprefix("BRANCH_") not in MODES:
            raise UnsupportedOperator(f"its node mode {modes[k]!r}")
        yes, no = ((trees[k], attributes[way][k]) for way in ("nodes_truenodeids", "nodes_falsenodeids"))
        inner.append((attributes["nodes_featureids"][k], MODES.index(modes[k].removeprefix("BRANCH_")), place[yes], place[no]))
        pointed |= {yes, no}
    roots = [place[key] for key in keys if key not in pointed]
    if len(roots) != len(set(trees)):
        raise UnsupportedOperator("one of its trees has no root, or several")
    forest, order = _forest(roots, inner, len(ends))
    thresholds = _numbers(attributes.get("nodes_values", ()), attributes.get("nodes_values_as_tensor"))
    ids = attributes[f"{kind}_ids"]
    entries = zip(attributes[f"{kind}_treeids"], attributes[f"{kind}_nodeids"], ids, strict=True)
    leaf_of = [(place[tree, node] - len(splits), target) for tree, node, target in entries]
    weights = _numbers(attributes.get(f"{kind}_weights", ()), attributes.get(f"{kind}_weights_as_tensor"))
    return _filled(forest, order, thresholds[splits], leaf_of, weights, targets)


def _filled(forest: Forest, order: Any, thresholds: Any, entries: Sequence[tuple[int, int]], weights: Any, targets: int) -> Ensemble:
    """The table of leaves; a leaf has at most one weight for a target."""
    place = {int(leaf): k for k, leaf in enumerate(order)}
    table, given = np.zeros((forest.leaves, targets)), np.zeros((forest.leaves, targets), dtype=bool)
    for (leaf, target), weight in zip(entries, weights, strict=True):
        if leaf < 0 or not 0 <= target < targets:
            raise UnsupportedOperator("a weight at an inner node, or of a target that there is not")
        if leaf not in place:
            continue  # no root leads there
        if given[place[leaf], target]:
            raise UnsupportedOperator("a leaf with several weights for one target")
        table[place[leaf], target], given[place[leaf], target] = weight, True
    return Ensemble(forest, thresholds, table, given)


def _modern(attributes: dict[str, Any]) -> Ensemble:
    """From the attributes of TreeEnsemble; membership of a set is a chain of equalities."""
    modes = np.ravel(attributes["nodes_modes"]).astype(int)
    splits = np.ravel(np.asarray(attributes["nodes_splits"], dtype=np.float64))
    sets = _sets(attributes.get("membership_values"))
    n, ways = len(modes), [attributes[f"nodes_{way}nodeids"] for way in ("true", "false")]
    at_leaf = [attributes[f"nodes_{way}leafs"] for way in ("true", "false")]
    leaf_targets = attributes["leaf_targetids"]
    extra = [next(sets) if mode == 6 else None for mode in modes]
    more = sum(max(len(members) - 1, 0) for members in extra if members is not None)
    total = n + more

    def child(way: int, k: int) -> int:
        return int(ways[way][k]) + (total if at_leaf[way][k] else 0)

    inner: list[tuple[int, int, int, int]] = []
    thresholds = list(splits)
    tail: list[tuple[int, int, int, int]] = []
    for k, mode in enumerate(modes):
        feature, members = int(attributes["nodes_featureids"][k]), extra[k]
        if members is None:
            inner.append((feature, int(mode), child(0, k), child(1, k)))
            continue
        if not members:
            raise UnsupportedOperator("membership of an empty set")
        links = [k, *(n + len(tail) + i for i in range(len(members) - 1))]
        chain = [(feature, MODES.index("EQ"), child(0, k), links[i + 1] if i + 1 < len(links) else child(1, k)) for i in range(len(links))]
        thresholds[k] = members[0]
        thresholds += members[1:]
        inner.append(chain[0])
        tail += chain[1:]
    forest, order = _forest([int(root) for root in attributes["tree_roots"]], inner + tail, len(leaf_targets))
    weights = np.ravel(np.asarray(attributes["leaf_weights"], dtype=np.float64))
    entries = [(k, int(target)) for k, target in enumerate(leaf_targets)]
    return _filled(forest, order, np.asarray(thresholds), entries, weights, int(attributes.get("n_targets", 1)))


def _sets(values: Any) -> Any:
    """The sets, each of which ends with NaN; members that are NaN there are no numbers."""
    members: list[float] = []
    for v in np.ravel(np.asarray(() if values is None else values, dtype=np.float64)):
        if np.isnan(v):
            yield members
            members = []
        else:
            members.append(float(v))
    yield members


def _leaves(w: Writer, ensemble: Ensemble) -> tuple[str, int]:
    """(rows, trees, targets), and the number of rows."""
    x, count, features = rows(w)
    if ensemble.forest.feature.size and int(ensemble.forest.feature.max()) >= features:
        raise UnsupportedOperator(f"it asks for feature {int(ensemble.forest.feature.max())} of {features}")
    operands = (x, w.constant(ensemble.thresholds), w.constant(ensemble.table))
    return w.put("Leaves", *operands, domain="certify", forest=ensemble.forest), count


def _added(w: Writer, leaves: str, count: int, base: Sequence[float]) -> str:
    """The sum over trees and base values, in any order."""
    if len(base):
        constant = np.broadcast_to(np.asarray(base, dtype=np.float64), (count, 1, len(base)))
        leaves = w.put("Concat", leaves, w.constant(constant), axis=1)
    return w.put("ReduceSum", leaves, axes=np.asarray([1]), keepdims=0)


def _aggregated(w: Writer, ensemble: Ensemble, how: str, base: Sequence[float]) -> str:
    """(rows, targets)."""
    targets = ensemble.table.shape[1]
    if len(base) not in (0, targets):
        raise UnsupportedOperator(f"{len(base)} base values for {targets} targets")
    leaves, count = _leaves(w, ensemble)
    axes = np.asarray([1])
    if how == "SUM":
        return _added(w, leaves, count, base)
    if how == "AVERAGE":
        found = w.put("ReduceMean", leaves, axes=axes, keepdims=0)
    elif how in ("MIN", "MAX"):
        if not ensemble.given.all():
            raise UnsupportedOperator(f"{how} over leaves, some of which say nothing of a target")
        found = w.put(f"Reduce{how.capitalize()}", leaves, axes=axes, keepdims=0)
    else:
        raise UnsupportedOperator(f"its aggregate_function is {how!r}")
    return w.put("Add", found, w.constant(np.asarray(base, dtype=np.float64))) if len(base) else found


def _regressed(w: Writer, ensemble: Ensemble, how: str, base: Sequence[float], post_transform: str) -> Parts:
    if ensemble.table.shape[1] == 1 and post_transform != "NONE":
        raise UnsupportedOperator(f"{post_transform} of a single target, which onnxruntime leaves out")
    transformed(w, _aggregated(w, ensemble, how, base), post_transform, w.e.outputs[0])
    return w.parts


def tree_regressor(
    e: Expansion,
    *,
    aggregate_function: str = "SUM",
    n_targets: int = 1,
    post_transform: str = "NONE",
    base_values: Sequence[float] = (),
    base_values_as_tensor: Any = None,
    **attributes: Any,
) -> Parts:
    """Leaves copied where every comparison is decided within the error of its feature, else their hull, tree by tree."""
    base = _numbers(base_values, base_values_as_tensor)
    return _regressed(Writer(e, like=FLOAT), classic(attributes, "target", n_targets), aggregate_function, base, post_transform)


def tree_ensemble(e: Expansion, *, aggregate_function: int = 1, post_transform: int = 0, n_targets: int = 1, **attributes: Any) -> Parts:
    """Leaves copied where every comparison is decided within the error of its feature, else their hull, tree by tree."""
    how = ("AVERAGE", "SUM", "MIN", "MAX")[aggregate_function]
    post = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")[post_transform]
    return _regressed(Writer(e), _modern(attributes | {"n_targets": n_targets}), how, (), post)


def tree_classifier(
    e: Expansion,
    *,
    classlabels_int64s: Sequence[int] | None = None,
    classlabels_strings: Sequence[Any] | None = None,
    post_transform: str = "NONE",
    base_values: Sequence[float] = (),
    base_values_as_tensor: Any = None,
    **attributes: Any,
) -> Parts:
    """Leaves copied where every comparison is decided within the error of its feature, else their hull, tree by tree."""
    w = Writer(e, like=FLOAT)
    labels = Labels(w, classlabels_int64s, classlabels_strings)
    base = _numbers(base_values, base_values_as_tensor)
    ensemble = classic(attributes, "class", labels.count)
    named = set(attributes["class_ids"])
    if labels.count == 2 and len(named) == 1:
        _one_score(w, labels, ensemble, named.pop(), base, post_transform)
        return w.parts
    if labels.count < 2 or (labels.count == 2 and len(base)):
        raise UnsupportedOperator(f"{labels.count} labels with {len(base)} base values")
    if not len(base) and not all(map(ensemble.always, range(labels.count))) and not bool((ensemble.table[ensemble.given] > 0).all()):
        raise UnsupportedOperator("a class that no leaf may say anything of, whose score counts only if some leaf does")
    scores = _aggregated(w, ensemble, "SUM", base)
    if labels.count > 2:  # of two, onnxruntime delivers 0 or 1 by the second score's sign, whatever the labels and the first score
        labels.deliver(labels.largest(scores))
    transformed(w, scores, post_transform, score_output(e))
    return w.parts


def _one_score(w: Writer, labels: Labels, ensemble: Ensemble, target: int, base: Any, post_transform: str) -> None:
    """Two classes, of which the leaves name one: its score decides by 0.5 if all weights are positive, else by 0."""
    positive = bool((ensemble.table[ensemble.given] >= 0).all())
    if len(base) > 1 - target or not ensemble.always(target):
        raise UnsupportedOperator(f"{len(base)} base values, or leaves without a weight, where only one of two classes has weights")
    one = replace(ensemble, table=ensemble.table[:, [target]], given=ensemble.given[:, [target]])
    score = _aggregated(w, one, "SUM", base)
    labels.deliver(labels.beyond(score, 0.5 if positive else 0.0))
    output = score_output(w.e)
    if target == 0:
        two_sided(w, score, post_transform, positive, output)
    else:
        transformed(w, w.put("Concat", w.put("Mul", score, w.constant(0.0)), score, axis=1), post_transform, output)


_ML = "ai.onnx.ml"

register(
    Leaves(),
    Composite("TreeEnsembleRegressor", 1, ("X",), tree_regressor, domain=_ML),
    Composite("TreeEnsembleClassifier", 1, ("X",), tree_classifier, domain=_ML, outputs=2),
    Composite("TreeEnsemble", 5, ("X",), tree_ensemble, domain=_ML),
)

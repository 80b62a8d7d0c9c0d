"""If, Loop and Scan: a branch that a constant selects is inlined, a loop unrolled.

Where data decide, both branches are walked, and each result is a choice between what they give (`Where`): certainly the one that is
taken where the condition cannot change, so that whatever the other one makes of its operands does no harm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from certify.graph.model import InvalidModel, Unsupported, Value
from certify.graph.passes import pieces
from certify.graph.structure import label

if TYPE_CHECKING:
    import onnx

    from certify.graph.passes.specialize import Frame, Tracer

OPERATORS = frozenset({"If", "Loop", "Scan"})
LONGEST = 1024  # iterations; beyond, the unrolled graph would be larger than anything the engines take


def trace(tracer: Tracer, node: onnx.NodeProto, frame: Frame) -> None:
    """Walk a control-flow node. Raises InvalidModel or Unsupported, naming it."""
    {"If": _if, "Loop": _loop, "Scan": _scan}[node.op_type](tracer, node, frame)


def _where(node: onnx.NodeProto) -> str:
    return f"node {label(node)!r} ({node.op_type})"


def _scope(frame: Frame, node: onnx.NodeProto, part: str) -> str:
    return "/".join(p for p in (frame.scope, label(node), part) if p)


def _body(node: onnx.NodeProto, name: str) -> onnx.GraphProto:
    for attribute in node.attribute:
        if attribute.name == name and attribute.HasField("g"):
            body: onnx.GraphProto = attribute.g
            return body
    raise InvalidModel(f"{_where(node)} has no {name}")


def _operand(tracer: Tracer, node: onnx.NodeProto, frame: Frame, position: int) -> Value | None:
    name = node.input[position] if position < len(node.input) else ""
    found = frame.names[name] if name else None
    return None if found is None else tracer.values[found]


def _if(tracer: Tracer, node: onnx.NodeProto, frame: Frame) -> None:
    condition = _operand(tracer, node, frame, 0)
    if condition is None or condition.size != 1 or condition.elem_type != 9:
        raise InvalidModel(f"{_where(node)}: its condition must be one boolean")
    branches = {name: _body(node, name) for name in ("then_branch", "else_branch")}
    for name, branch in branches.items():
        if len(branch.output) != len(node.output) or branch.input:
            raise InvalidModel(f"{_where(node)}: {name} must take no inputs and give {len(node.output)} outputs")
    if condition.constant is not None:
        taken = "then_branch" if bool(condition.constant.reshape(())) else "else_branch"
        targets = [tracer.target(name, frame) if name else None for name in node.output]
        found = tracer.body(branches[taken], frame, (), targets, _scope(frame, node, taken))
        frame.names.update({outer: inner for outer, inner in zip(node.output, found, strict=True) if outer})
        return
    one, other = (tracer.body(x, frame, (), [None] * len(x.output), _scope(frame, node, name)) for name, x in branches.items())
    for outer, a, b in zip(node.output, one, other, strict=True):
        if outer:
            target = tracer.target(outer, frame)
            chosen = pieces.choice(tracer, frame, condition.name, (a, b), _where(node), target)
            frame.names[outer] = chosen if chosen == target else pieces.second(tracer, frame, chosen, target)


def _loop(tracer: Tracer, node: onnx.NodeProto, frame: Frame) -> None:
    """Unrolled. Where data decide when it stops, every iteration that its trip limit allows is, and each one's states are kept where
    the iteration is run: state = Where(still going, what the body makes of it, state). That is the loop's own definition."""
    body, limit = _body(node, "body"), _operand(tracer, node, frame, 0)
    condition = _operand(tracer, node, frame, 1)
    if len(body.input) != len(node.input) or len(node.input) < 2 or len(body.output) < len(body.input) - 1:
        raise InvalidModel(f"{_where(node)}: a body of {len(body.input)} inputs and {len(body.output)} outputs does not fit the node")
    if limit is not None and limit.constant is None:
        raise Unsupported(f"{_where(node)}: data decides how often it runs; its trip limit must be a constant")
    trips = LONGEST if limit is None or limit.constant is None else int(limit.constant.reshape(()))
    going = _Going(tracer, node, frame, limit is not None and trips <= LONGEST)
    going.meet(None if condition is None else condition.name)
    state = [frame.names[name] if name else None for name in node.input[2:]]
    kept: list[list[str]] = [[] for _ in range(len(body.output) - 1 - len(state))]
    count = 0
    while going.flag is not False and count < trips:
        if count >= LONGEST:
            raise Unsupported(f"{_where(node)} runs more than {LONGEST} times; too many to unroll")
        if going.flag is not True and any(node.output[len(state) :]):
            raise Unsupported(f"{_where(node)}: data decides when it stops, and so how long the outputs are that it gathers")
        scope = _scope(frame, node, f"body[{count}]")
        actual = [pieces.scalar(tracer, frame, 7, count), pieces.scalar(tracer, frame, 9, True), *state]
        found = tracer.body(body, frame, actual, [None] * len(body.output), scope)
        state = going.kept(state, found[1 : 1 + len(state)])
        if condition is None and (flag := _constant(tracer, found[0])) is not True:
            stops = "stops it" if flag is False else "decides from data when it stops"
            raise Unsupported(f"{_where(node)}: it has no condition, and its body {stops} all the same; runtimes disagree on that")
        going.meet(found[0])
        count += 1
        for results, name in zip(kept, found[1 + len(state) :], strict=True):
            results.append(_tensor(tracer, node, name))
    if going.flag is not False and limit is None:
        raise Unsupported(f"{_where(node)} does not stop within {LONGEST} iterations")
    _deliver(tracer, node, frame, state, kept, [0] * len(kept))


def _constant(tracer: Tracer, name: str | None) -> bool | None:
    """The truth value that is known of a flag, None if data decide it."""
    constant = None if name is None else tracer.values[name].constant
    return None if constant is None else bool(constant.reshape(()))


@dataclass
class _Going:
    """Whether a loop still runs: True, False, or the name of the truth value that says so.

    bounded: whether it has a trip limit that can be unrolled, without which data may not decide.
    """

    tracer: Tracer
    node: onnx.NodeProto
    frame: Frame
    bounded: bool
    flag: bool | str = True

    def meet(self, name: str | None) -> None:
        """It goes on only where `name` (None: no condition) holds as well."""
        known = True if name is None else _constant(self.tracer, name)
        if known is not None:
            self.flag = self.flag if known else False
            return
        if not self.bounded:
            raise Unsupported(f"{_where(self.node)}: data decides when it stops, and it has no trip limit of at most {LONGEST}")
        assert name is not None
        inner = f"{label(self.node)} goes on"
        self.flag = pieces.both(self.tracer, self.frame, self.flag, name, inner) if isinstance(self.flag, str) else name

    def kept(self, before: Sequence[str | None], after: Sequence[str | None]) -> list[str | None]:
        """The states after an iteration that may or may not have been run."""
        flag, names = self.flag, self.node.output
        if not isinstance(flag, str):
            return list(after)
        told = [names[i] if i < len(names) and names[i] else f"{label(self.node)} state {i}" for i in range(len(after))]
        targets = [self.tracer.fresh(f"{name} kept", self.frame.scope) for name in told]
        pairs = zip(zip(after, before, strict=True), targets, strict=True)
        return [pieces.choice(self.tracer, self.frame, flag, pair, _where(self.node), target) for pair, target in pairs]


def _tensor(tracer: Tracer, node: onnx.NodeProto, name: str | None) -> str:
    if name is None or name in tracer.sequences:
        raise Unsupported(f"{_where(node)}: it gathers sequences or optional values, which is not supported")
    return name


def _required(node: onnx.NodeProto, frame: Frame, position: int) -> str:
    found = frame.names[node.input[position]] if node.input[position] else None
    if found is None:
        raise InvalidModel(f"{_where(node)}: input {position} is required but absent")
    return found


def _attribute(node: onnx.NodeProto, name: str, length: int) -> list[int]:
    """A repeated integer attribute, zeros where it is absent."""
    found = next((list(a.ints) for a in node.attribute if a.name == name), [0] * length)
    if len(found) != length:
        raise InvalidModel(f"{_where(node)}: attribute {name!r} must have {length} entries")
    return found


def _scan(tracer: Tracer, node: onnx.NodeProto, frame: Frame) -> None:
    batched = frame.opsets[""] < 9  # then a first operand gives lengths, and the first axis of all others is a batch
    body = _body(node, "body")
    scanned = next((a.i for a in node.attribute if a.name == "num_scan_inputs"), 0)
    operands = list(node.input[1:] if batched else node.input)
    carried = len(operands) - scanned
    if scanned < 1 or carried < 0 or len(body.input) != len(operands) or len(body.output) != len(node.output):
        raise InvalidModel(f"{_where(node)}: a body of {len(body.input)} inputs and {len(body.output)} outputs does not fit the node")
    names = [_required(node, frame, i + batched) for i in range(len(operands))]
    if any(name in tracer.sequences for name in names):
        raise Unsupported(f"{_where(node)}: scanning a sequence is not supported")
    if batched:
        _batches(tracer, node, frame, [tracer.values[name] for name in names], carried)
        return
    axes, backward = _attribute(node, "scan_input_axes", scanned), _attribute(node, "scan_input_directions", scanned)
    state, kept = _scanned(tracer, node, frame, names, carried, axes, backward, "body")
    directions = _attribute(node, "scan_output_directions", len(kept))
    kept = [results[::-1] if reverse else results for results, reverse in zip(kept, directions, strict=True)]
    _deliver(tracer, node, frame, state, kept, _attribute(node, "scan_output_axes", len(kept)))


def _scanned(
    tracer: Tracer, node: onnx.NodeProto, frame: Frame, names: Sequence[str], carried: int, axes: list[int], backward: list[int], part: str
) -> tuple[list[str | None], list[list[str]]]:
    """The last states, and what each iteration gave, output by output."""
    values, body = [tracer.values[name] for name in names], _body(node, "body")
    if any(not -len(v.shape) <= axis < len(v.shape) for v, axis in zip(values[carried:], axes, strict=True)):
        raise InvalidModel(f"{_where(node)}: scan_input_axes {axes} do not fit its inputs")
    lengths = {v.shape[axis] for v, axis in zip(values[carried:], axes, strict=True)}
    if len(lengths) != 1 or not 0 < max(lengths) <= LONGEST:
        raise Unsupported(f"{_where(node)}: scan inputs of lengths {sorted(lengths)}; one length from 1 to {LONGEST} is needed")
    length = lengths.pop()
    state: list[str | None] = [v.name for v in values[:carried]]
    kept: list[list[str]] = [[] for _ in range(len(body.output) - carried)]
    for step in range(length):
        slices = [
            pieces.take(tracer, frame, v, axis, length - 1 - step if reverse else step)
            for v, axis, reverse in zip(values[carried:], axes, backward, strict=True)
        ]
        found = tracer.body(body, frame, [*state, *slices], [None] * len(body.output), _scope(frame, node, f"{part}[{step}]"))
        state = found[:carried]
        for results, name in zip(kept, found[carried:], strict=True):
            results.append(_tensor(tracer, node, name))
    return state, kept


def _batches(tracer: Tracer, node: onnx.NodeProto, frame: Frame, values: Sequence[Value], carried: int) -> None:
    """Scan as opset 8 defines it: each row of the batch by itself, along its first axis. Full sequences alone: the standard does not
    say what the outputs are beyond a shorter one."""
    lengths = _operand(tracer, node, frame, 0)
    extents = {v.shape[0] if v.shape else 0 for v in values}
    batch = max(extents)
    if len(extents) != 1 or batch < 1 or any(len(v.shape) < 2 for v in values[carried:]):
        raise InvalidModel(f"{_where(node)}: its inputs must share a batch, their first axis, before the axis that is scanned")
    if lengths is not None and (lengths.constant is None or any(int(n) != values[carried].shape[1] for n in lengths.constant.reshape(-1))):
        raise Unsupported(f"{_where(node)}: only sequences of full length are supported")
    zeros = [0] * (len(values) - carried)
    backward = _attribute(node, "directions", len(zeros))
    states: list[list[str]] = []
    rows: list[list[str]] = []
    for row in range(batch):
        names = [pieces.take(tracer, frame, v, 0, row) for v in values]
        state, kept = _scanned(tracer, node, frame, names, carried, zeros, backward, f"body[{row}]")
        states.append([_tensor(tracer, node, name) for name in state])
        fresh = [tracer.fresh(f"{label(node)} row", frame.scope) for _ in kept]
        rows.append([pieces.stack(tracer, frame, results, 0, target) for results, target in zip(kept, fresh, strict=True)])
    gathered = [list(x) for x in zip(*([*state, *row] for state, row in zip(states, rows, strict=True)), strict=True)]
    _deliver(tracer, node, frame, [], gathered, [0] * len(gathered))


def _deliver(
    tracer: Tracer, node: onnx.NodeProto, frame: Frame, state: Sequence[str | None], kept: Sequence[Sequence[str]], axes: Sequence[int]
) -> None:
    """Bind a loop's results: last states, and what each iteration gave, stacked along a new axis."""
    for outer, found in zip(node.output, state, strict=False):
        if outer:
            frame.names[outer] = pieces.second(tracer, frame, found, tracer.target(outer, frame))
    for outer, results, axis in zip(node.output[len(state) :], kept, axes, strict=True):
        if outer and not results:
            raise Unsupported(f"{_where(node)}: it never runs, so output {outer!r} would be empty")
        if outer:
            frame.names[outer] = pieces.stack(tracer, frame, results, axis, tracer.target(outer, frame))

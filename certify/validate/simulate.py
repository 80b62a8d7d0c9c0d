"""A numpy simulator of a bound program: every step rounds as its arithmetic says, sums in an order of our choosing.

It covers what no CPU runtime runs: tf32 operands, tensor cores, narrow accumulators and adversarial orders. Contractions
(MatMul, Gemm, Conv) and reductions are added term by term; every other operator is its float64 value rounded once into
the step's format, as a faithful kernel delivers it.
"""

from __future__ import annotations

from collections import ChainMap, Counter
from collections.abc import Mapping

import numpy as np

from certify.analysis.problem import Step
from certify.analysis.program import Program
from certify.number.formats import FORMATS, Format
from certify.number.rounding import round_to
from certify.number.upward import Array
from certify.semantics.families.block import Block
from certify.validate.products import Factors, addends, by_parts, factors, products_of
from certify.validate.runtime import ValidationUnavailable
from certify.validate.summation import Order, TensorCore, into, native, plus

PRODUCTS = 200_000_000  # products of one simulated run beyond which it would take minutes
_CHUNK = 1 << 22  # terms held at a time: 32 MiB


class Simulator:
    """A program's runs: inputs as held, (cases or 1, *shape), to the outputs.

    limit: the most products that a run may add up. Raises ValidationUnavailable beyond.
    """

    def __init__(self, program: Program, limit: int = PRODUCTS) -> None:
        self._program = program
        self._limit = limit

    def run(self, inputs: Mapping[str, Array], order: Order) -> dict[str, Array]:
        """Outputs by name, (cases or 1, *shape) float64, NaN and infinities included."""
        values = ChainMap[str, Array](dict(inputs), self._program.stored)  # pop leaves the constants alone
        uses = Counter(name for step in self._program.steps for name in step.operands if name)
        uses.update(self._program.outputs)
        spent = 0
        with np.errstate(all="ignore"):
            for step in self._program.steps:
                operands = [None if name is None else values[name] for name in step.operands]
                spent += products_of(step, [() if x is None else x.shape for x in operands])
                if spent > self._limit:
                    raise ValidationUnavailable(f"a simulated run adds up more than {self._limit} products one by one")
                values[step.output] = self._step(step, operands, order)
                for name in step.operands:
                    if name:
                        uses[name] -= 1
                        if not uses[name]:
                            values.pop(name, None)  # no later step needs it
        return {name: values[name] for name in self._program.outputs}

    def _step(self, step: Step, operands: list[Array | None], order: Order) -> Array:
        if isinstance(step.rule, Block):
            return np.asarray(by_parts(step, operands, lambda part, x: self._step(part, x, order)))
        storage = self._program.formats[step.output]
        delivers = getattr(step.rule, "deliver", None)
        if storage is None or delivers is not None:
            result = np.asarray((delivers or step.rule.value)(*operands, **step.attributes), dtype=np.float64)
            return result if storage is None else round_to(result, storage)
        if step.rule.domain == "certify" and step.rule.name == "Convert" and operands[0] is not None:
            _, mode = getattr(step.arithmetic, "conversion", None) or (storage, "nearest")
            return round_to(operands[0], storage, mode)
        contraction = factors(step, operands)
        if contraction is not None:
            return self._added(step, contraction, storage, order)
        reduction = addends(step, operands)
        if reduction is not None:
            return self._reduced(step, *reduction, storage, order)
        return round_to(step.rule.value(*operands, **step.attributes), storage)

    def _reduced(self, step: Step, terms: Array, count: int, storage: Format, order: Order) -> Array:
        """A sum in the accumulator, divided there, then stored."""
        accumulator: Format = getattr(step.arithmetic, "accumulator", storage)
        if not len(terms):
            return np.zeros(terms.shape[1:])
        total = order.add(into(terms, accumulator), accumulator)
        return round_to(total if count == 1 else into(total / count, accumulator), storage)

    def _added(self, step: Step, contraction: Factors, storage: Format, order: Order) -> Array:
        """The contraction's sums, in the accumulator, then scaled and stored."""
        accumulator: Format = getattr(step.arithmetic, "accumulator", storage)
        core = _matrix_unit(step)
        start = None if contraction.addend is None else into(np.asarray(contraction.addend), accumulator)
        left, right = contraction.left, contraction.right
        blocks, m, n = left.shape
        total = np.empty((blocks, m, right.shape[2]))
        rows = max(1, _CHUNK // max(1, n * right.shape[2]))
        last = contraction.scale != 1.0 or core is not None  # the addend comes after the sum
        initial = None if start is None or last else _initial(contraction, start, total.shape)
        one_by_one = core is None and order.in_turn and n > 0
        if one_by_one:
            total = _in_turn(left, right, initial, accumulator)
        together = max(1, rows // max(1, m))
        for g in range(0, 0 if one_by_one else blocks, together):
            for first in range(0, m, rows):
                part = (slice(g, g + together), slice(first, first + rows))
                products = np.moveaxis(left[part], 2, 0)[..., None] * np.moveaxis(right[part[0]], 1, 0)[:, :, None, :]
                if core is None:
                    total[part] = _accumulated(products, None if initial is None else initial[part], accumulator, order)
                else:
                    total[part] = core.add(order.arrange(products), np.zeros(products.shape[1:]))
        result = np.asarray(contraction.shape(total))
        result = result if contraction.scale == 1.0 else into(result * contraction.scale, accumulator)
        result = into(result + start, accumulator) if last and start is not None else result
        return round_to(result, storage)


def _matrix_unit(step: Step) -> TensorCore | None:
    """The matrix unit that the step's arithmetic describes (profiles/tensor_core), if it runs on one."""
    block = getattr(step.arithmetic, "block", None)
    return (
        None if block is None else TensorCore(step.kind, block.fraction, block.terms, Format(f"e8m{block.kept}", block.kept + 1, -126, 127))
    )


def _initial(contraction: Factors, start: Array, shape: tuple[int, ...]) -> Array:
    """The addend of every sum, in the shape of the sums: found by running their numbers through `shape`."""
    numbers = np.asarray(contraction.shape(np.arange(int(np.prod(shape)), dtype=np.int64).reshape(shape)))
    initial = np.empty(int(np.prod(shape)))
    initial[numbers.reshape(-1)] = np.broadcast_to(start, numbers.shape).reshape(-1)
    return initial.reshape(shape)


def _in_turn(left: Array, right: Array, initial: Array | None, accumulator: Format) -> Array:
    """((initial + p_1) + p_2) + ... for all sums at once, as `sequential` adds them, without holding every product.

    fp32 multiplies by itself where both factors are of fp32: the product is rounded once, as `into` rounds the exact one.
    """
    narrow = accumulator == FORMATS["fp32"]
    itself = narrow and all(np.array_equal(x.astype(np.float32), x, equal_nan=True) for x in (left, right))
    a, b = (left.astype(np.float32), right.astype(np.float32)) if itself else (left, right)
    total = None if initial is None else native(initial, accumulator)
    for k in range(a.shape[2]):
        product = a[:, :, k, None] * b[:, k, None, :]
        product = product if itself else native(into(np.asarray(product, dtype=np.float64), accumulator), accumulator)
        total = product if total is None else plus(total, product, accumulator)
    return np.asarray(total, dtype=np.float64)


def _accumulated(products: Array, initial: Array | None, accumulator: Format, order: Order) -> Array:
    """The sums of exact products (n, *rows), and the addend where the order puts it."""
    if not len(products) and initial is None:
        return np.zeros(products.shape[1:])
    return order.add(into(products, accumulator), accumulator, initial)

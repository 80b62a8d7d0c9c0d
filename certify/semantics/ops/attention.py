"""Softmax and LogSoftmax. Before opset 13 all axes from `axis` (1) on form one group; since then one axis (-1)."""

from __future__ import annotations

from certify.semantics.contract import register
from certify.semantics.families.softmax import Softmax

register(
    Softmax("Softmax", 1, logarithm=False, flattened=True),
    Softmax("Softmax", 13, logarithm=False, flattened=False),
    Softmax("LogSoftmax", 1, logarithm=True, flattened=True),
    Softmax("LogSoftmax", 13, logarithm=True, flattened=False),
)

"""Copies that are delivered in another format. Over the reals each is the identity.

Store:   in the step's own storage format: a Cast between floats, the end of a fused kernel.
Convert: an operand that a kernel rounds on entry (tf32). A node of its own, so that the rounding is weighed by the adjoint of the
         operand instead of by the sum of magnitudes inside the dot product (up to 8 times tighter).
"""

from __future__ import annotations

from certify.semantics.contract import register
from certify.semantics.families.delivery import Delivery, converted, stored

register(Delivery("Store", stored), Delivery("Convert", converted))

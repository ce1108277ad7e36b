"""The questions asked of every op, in every tier that can answer them.

An op's test file subclasses `Conformance`, sets `info`, and has been asked. A question belongs here if it makes sense for
an op that is not written yet.
"""

from .base import EVERY_TIER, OPERATOR, close
from .compiled import Compiled
from .dispatch import Dispatch
from .gradients import Gradients
from .operator import Operator
from .transforms import Transforms
from .values import Values

__all__ = ["EVERY_TIER", "OPERATOR", "Conformance", "close"]


class Conformance(Values, Gradients, Transforms, Dispatch, Operator, Compiled):
    """All of them."""

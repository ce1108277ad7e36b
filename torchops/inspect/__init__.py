"""Look inside a call: which implementation and block sizes it takes, and what its kernels become on a GPU.

No GPU is needed: launches are recorded at the door they go through (`kernels/launch.py`), compiled by Triton for the GPU asked
for, and read off the machine code.
"""

from .explanations import Explanation, explain
from .launches import check_further, inspect, plan, record_launches
from .reports import LaunchReport, Total, dump, report, total
from .times import Counted, model

__all__ = [
    "Counted",
    "Explanation",
    "LaunchReport",
    "Total",
    "check_further",
    "dump",
    "explain",
    "inspect",
    "model",
    "plan",
    "record_launches",
    "report",
    "total",
]

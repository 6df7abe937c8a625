"""Our environment keys that no input maps to: hooks, run.sh, variations and dependencies speak through them."""

from __future__ import annotations

from cmx4trt.frameworks.dependencies import have_keys
from cmx4trt.frameworks.evaluation import COMMAND_KEYS, NEED_IMAGES, RUN_LOADGEN
from cmx4trt.frameworks.precedence import CHOSEN, DEFAULT_WORKSPACE_SIZE
from cmx4trt.frameworks.sweep import SWEEP_KEY

_WORKER_KEYS = frozenset(
    f"CMX4TRT_{name}"
    for name in (
        *("REQUEST_FILE", "RESULT_FILE", "EXIT_STATUS", "PYTHON", "PYTHONPATH", "RUN_SCRIPT"),
        *("WORKER_DRY_RUN", "WORKER_NEW", "WORKER_EVALUATION", "WORKER_SWEEP", "WORKER_STORE"),
    )
)
"""What passes between the hooks and run.sh."""


def internal_keys() -> frozenset[str]:
    """Environment keys of ours that no input maps to: nobody types them."""
    chosen = (*CHOSEN.values(), DEFAULT_WORKSPACE_SIZE)
    return _WORKER_KEYS | have_keys() | {*chosen, *COMMAND_KEYS.values(), SWEEP_KEY, RUN_LOADGEN, NEED_IMAGES}

"""With how many queries LoadGen's early stopping can first call a run VALID: the numbers in SHORT_QUERIES."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cmx4trt.bench.settings import SHORT_QUERIES


@pytest.mark.parametrize("scenario", ["SingleStream", "MultiStream", "Server"])
def test_a_run_of_that_length_is_valid_and_a_shorter_one_is_not(
    run_echo: Any, echo: Any, scenario: str, tmp_path: Path
) -> None:
    patient = tmp_path / "user.conf"  # on a busy machine one late answer must not decide
    patient.write_text("*.Server.target_latency = 60000\n*.Server.target_latency_percentile = 99\n")
    queries, per_query = SHORT_QUERIES[scenario], 8 if scenario == "MultiStream" else 1
    qps = 5000.0 if scenario == "Server" else None
    enough = run_echo(echo(), scenario=scenario, count=queries * per_query, target_qps=qps, user_conf=str(patient))
    assert enough.valid, enough.reason
    short = run_echo(echo(), scenario=scenario, count=(queries - 1) * per_query, target_qps=qps, user_conf=str(patient))
    assert short.valid is False
    assert "early stopping" in short.reason or "more queries" in short.reason

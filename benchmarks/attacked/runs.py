"""What an evaluation is given, and what LoadGen leaves."""

from __future__ import annotations

import contextlib
import json
import re
import struct
from pathlib import Path
from typing import Any

from attacked.base import Kind, sha256_of
from attacked.engines import ManifestFile
from cmx4trt.bench.results import read_detail_log
from cmx4trt.bench.user_conf import KEYS, read_user_conf
from cmx4trt.cli.evaluations import read_evaluations
from cmx4trt.errors import CmxError
from cmx4trt.networks.classification.accuracy import top1_of_answers
from cmx4trt.report.facts import facts_of_engine
from cmx4trt.requests.evaluation_options import PERFORMANCE
from cmx4trt.verify.accuracy import read_accuracy_log


class EvaluationFile(Kind):
    """The evaluations after a build."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "evaluation.json"
        values = {"count": 100, "scenario": "Server", "target_qps": 120.5, "data": "synthetic", "duration": "60"}
        self.path.write_text(json.dumps({"verify": {"count": 10}, "bench": values}, indent=1))

    def read(self) -> Any:
        return read_evaluations(str(self.path))

    def check(self, content: bytes, value: Any) -> None:
        assert value.keys() == json.loads(content).keys()
        assert all(1 <= (options.count or 1) <= 10**9 for options in value.values())


class ResultFile(Kind):
    """A LoadGen result beside an engine; the page names unreadable ones."""

    def __init__(self, folder: Path) -> None:
        self._manifest = ManifestFile(folder)
        self.path = folder / "e.results" / "cmx4trt_result.json"
        self.path.parent.mkdir()
        metric = {"name": "samples_per_second", "value": 101.25, "unit": "samples/s"}
        result = {"schema": "cmx4trt-bench/1", "status": "complete", "scenario": "Offline", "mode": "performance"}
        subject = {"engine sha256": sha256_of(b"an engine"), "network": "resnet50"}
        latency = {"50.00": 1000000, "99.00": 2500000}
        rest = {"executed": "x", "valid": True, "metric": metric, "latency_ns": latency, "subject": subject}
        self.path.write_text(json.dumps({**result, **rest}, indent=1))

    def read(self) -> Any:
        facts = facts_of_engine(str(self._manifest.path))
        facts.to_dict()
        return facts

    def check(self, content: bytes, value: Any) -> None:
        assert len(value.runs) + len(value.unreadable_runs) == 1
        if value.runs:
            assert json.loads(content)["schema"] == "cmx4trt-bench/1"


class DetailLog(Kind):
    """LoadGen's detail log."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "mlperf_log_detail.txt"
        values = {"result_query_count": 10, "result_samples_per_second": 12.5, "result_validity": "VALID"}
        entry = ':::MLLOG {{"key": "{}", "value": {}, "metadata": {{"is_error": false, "is_warning": false}}}}\n'
        self.path.write_text("".join(entry.format(key, json.dumps(value)) for key, value in values.items()))

    def read(self) -> Any:
        return read_detail_log(str(self.path.parent), PERFORMANCE)

    def check(self, content: bytes, value: Any) -> None:
        assert b"result_validity" in content
        assert "result_validity" in value.values


class AccuracyLog(Kind):
    """LoadGen's accuracy log."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "mlperf_log_accuracy.json"
        entries = [{"seq_id": i, "qsl_idx": i, "data": struct.pack("<i", i % 7).hex().upper()} for i in range(30)]
        self.path.write_text("[\n" + ",\n".join(json.dumps(entry) for entry in entries) + "\n]")

    def read(self) -> Any:
        return read_accuracy_log(str(self.path))

    def check(self, content: bytes, value: Any) -> None:
        written = {entry["qsl_idx"]: bytes.fromhex(entry["data"]) for entry in reversed(json.loads(content))}
        assert written == value
        assert min(value) >= 0
        with contextlib.suppress(CmxError):
            assert 0 <= top1_of_answers(value, [0] * 30) <= 100


class UserConf(Kind):
    """MLPerf's user.conf."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "user.conf"
        lines = ["# comment", "*.Offline.target_qps = 100.5", "resnet50.Server.target_latency = 15"]
        lines += ["*.*.min_duration = 60000", "resnet50.Offline.min_query_count = 24576", "*.Server.target_qps = 1e3"]
        self.path.write_text("\n".join(lines) + "\n")

    def read(self) -> Any:
        return read_user_conf(str(self.path), "resnet50", "Offline")

    def check(self, content: bytes, value: Any) -> None:
        for key, number in value.items():
            takes = KEYS[key]["Offline"]
            assert takes.least <= float(number) <= takes.most
            assert re.search(
                rf"(?:\*|resnet50)\.(?:\*|Offline)\.{key}\s+=\s+{re.escape(number)}(?!\S)", content.decode()
            )

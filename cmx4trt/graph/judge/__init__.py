"""Judges a prepared graph layer by layer: each is fed with what the original has in its place, and must give what the original
gives there in the same arithmetic, up to a bound that follows from rounding alone.

So a wrong layer is found whatever the weights behind it make of it, and a right one is never refused because they amplify
roundings. docs/decisions/060-faithful-arithmetic.md has the reasons.
"""

from __future__ import annotations

from cmx4trt.graph.judge.judgement import LayerJudgement, NonFinite
from cmx4trt.graph.judge.layers import judge_layers
from cmx4trt.graph.judge.values import is_run_briefly
from cmx4trt.graph.judge.watch import WatchedSession

__all__ = ["LayerJudgement", "NonFinite", "WatchedSession", "is_run_briefly", "judge_layers"]

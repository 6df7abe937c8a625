"""The verdicts of a verification."""

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"
"""Both agree; they do not; what was measured cannot tell, or nothing was."""

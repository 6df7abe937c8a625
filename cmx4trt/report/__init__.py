"""Manifests and measurements -> readable pages: one engine, or several side by side.

facts.py reads, estimates.py estimates the speed, verdicts.py says what was verified, page.py and comparison.py lay out the pages,
plots.py draws, writing.py writes.
"""

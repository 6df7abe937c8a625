"""Manifests and measurements -> pages that people read: one engine, or several side by side.

facts.py reads, estimates.py and gpus.py estimate the speed, verdicts.py says what is proven, page.py and comparison.py lay out,
plots.py draws, writing.py writes.
"""

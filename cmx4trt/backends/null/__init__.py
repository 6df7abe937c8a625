"""Computes nothing: what is measured over it is the harness itself."""

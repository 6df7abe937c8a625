"""Execution of graphs and engines: the interface, and the two sessions that need no backend."""

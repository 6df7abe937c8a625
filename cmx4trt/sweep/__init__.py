"""Sweeps: many engines from one file, built, verified and measured on this machine, on Ray or on Slurm.

file -> cells -> tasks (``plan``) -> a runner (``on_processes``, ``on_ray``, ``on_slurm``) -> worker -> arrival -> status, page.
What is scheduled where is the runner's; what a cell is, and what became of it, is everybody's.
"""

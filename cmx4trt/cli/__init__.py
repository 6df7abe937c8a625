"""The command line: one module per command, and ``command_line`` around them; nothing else prints or exits."""

from cmx4trt.cli.command_line import main, program

__all__ = ["main", "program"]

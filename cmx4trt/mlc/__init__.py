"""The MLCFlow edge: the only modules that know MLC's keys. Standard library only: hooks run in MLC's own Python."""

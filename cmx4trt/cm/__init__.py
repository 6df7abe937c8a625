"""The CM edge: the only modules that know CM's keys. Standard library only: hooks run in CM's own Python."""

"""The GPU of this machine, through its driver."""

"""From a request to an answer: building an engine, verifying and benchmarking one."""

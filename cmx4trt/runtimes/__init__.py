"""Sessions that execute graphs and engines, one module per runtime."""

"""A stand-in for pycuda that needs no GPU: see driver.py."""

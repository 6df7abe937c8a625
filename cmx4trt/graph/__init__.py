"""Passes on ONNX graphs, and the two states of a graph between a model file and a builder."""

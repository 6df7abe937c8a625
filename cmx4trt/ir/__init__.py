"""ONNX graphs in memory and on disk, without third-party imports: the bottom layer under models and passes."""

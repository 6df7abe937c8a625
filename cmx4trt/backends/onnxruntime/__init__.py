"""ONNX Runtime: runs the graphs that engines are built from, on a CPU or a GPU."""

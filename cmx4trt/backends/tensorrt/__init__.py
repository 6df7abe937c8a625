"""TensorRT and TensorRT-RTX: two flavours of one library, which build engines and run them."""

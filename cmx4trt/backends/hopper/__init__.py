"""An engine of our own for Hopper GPUs (compute capability 9.0): ResNet-50 in INT8, built without a GPU, exact to the bit."""

"""RetinaNet: from a file with dynamic post-processing to a static graph with exact detections, without a plugin."""

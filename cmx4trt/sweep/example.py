"""The sweep file that ``cmx4trt sweep init`` writes."""

EXAMPLE = """\
# A sweep: cmx4trt sweep sweep.yaml [--on=local|ray|slurm] [--dry_run]
# Cells take every option of cmx4trt build; bench.NAME is an option of cmx4trt bench, accuracy.NAME one of cmx4trt verify.

# What all cells have in common.
defaults:
  network: resnet50
  random_weights: 0           # or   model: resnet50.onnx   (paths are relative to this file)
  bench: {count: 64}          # a short run; without it LoadGen takes ten seconds and more. bench: no measures nothing
  # accuracy: {data: images}  # preprocessed images with labels

# Every combination of these is a cell.
matrix:
  precision: [fp32, fp16]
  batch_size: [1, 4]
  bench.scenario: [Offline, SingleStream]   # one engine, measured in each; 'scenario' would build one for each

# Combinations to leave out.
exclude:
  - {precision: fp32, batch_size: 4}

# Cells in addition to the matrix. With gpu, a cell is measured on a node with that GPU; with device: cuda, it is built there too.
include:
  - {builder: hopper, precision: int8, calibration_data: random, batch_size: 1}
  # - {builder: hopper, precision: int8, calibration_data: random, batch_size: 64, gpu: sm90}
  # - {device: cuda, builder: tensorrt, batch_size: 16, gpu: L40S}

# Where engines go, relative to this file.
store: engines

# Where tasks run: local, ray or slurm; --on has priority.
run_on: local

# What one task takes. Tasks of a lost node are retried this many times; refused requests are not.
tasks: {cores: 1, memory: 4GiB, retries: 2, minutes: 240}

# How to request each kind of GPU from Slurm (--on=slurm).
# slurm:
#   partition: main
#   gpus:
#     sm90: {constraint: h100, gres: "gpu:1"}
"""

#!/usr/bin/env bash
# MLC sources this file; preprocess says where the script is that all frameworks share (cmx4trt/frameworks/run.sh).
# shellcheck source=cmx4trt/frameworks/run.sh
. "${CMX4TRT_RUN_SCRIPT}"

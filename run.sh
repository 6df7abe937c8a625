#!/usr/bin/env bash
# CM sources this file. The worker's exit status goes into a file and this script ends well, so that postprocess, not CM's
# banner, tells what went wrong.
if [ -n "${CMX4TRT_PYTHONPATH:-}" ]; then
  export PYTHONPATH="${CMX4TRT_PYTHONPATH}${PYTHONPATH:+:${PYTHONPATH}}"
fi
"${CM_PYTHON_BIN_WITH_PATH}" -m cmx4trt build --request "${CMX4TRT_REQUEST_FILE}" --result "${CMX4TRT_RESULT_FILE}" \
  ${CMX4TRT_WORKER_FLAGS:+"${CMX4TRT_WORKER_FLAGS}"}
echo "CMX4TRT_EXIT_STATUS=$?" >tmp-run-env.out

# shellcheck shell=bash
# The run.sh of every framework's script sources this file. The worker's exit status goes into a file and this script ends
# well, so that postprocess, not the framework's banner, tells what went wrong.
if [ -n "${CMX4TRT_PYTHONPATH:-}" ]; then
  export PYTHONPATH="${CMX4TRT_PYTHONPATH}${PYTHONPATH:+:${PYTHONPATH}}"
fi
if [ -n "${CMX4TRT_WORKER_SWEEP:-}" ]; then
  "${CMX4TRT_PYTHON}" -m cmx4trt sweep "${CMX4TRT_WORKER_SWEEP}" --result "${CMX4TRT_RESULT_FILE}" \
    ${CMX4TRT_WORKER_DRY_RUN:+--dry_run} ${CMX4TRT_WORKER_STORE:+"--output_dir=${CMX4TRT_WORKER_STORE}"}
else
  "${CMX4TRT_PYTHON}" -m cmx4trt build --request "${CMX4TRT_REQUEST_FILE}" --result "${CMX4TRT_RESULT_FILE}" \
    ${CMX4TRT_WORKER_DRY_RUN:+--dry_run} ${CMX4TRT_WORKER_NEW:+--new} \
    ${CMX4TRT_WORKER_EVALUATION:+"--evaluation=${CMX4TRT_WORKER_EVALUATION}"}
fi
echo "CMX4TRT_EXIT_STATUS=$?" >tmp-run-env.out

"""The variations ``_verify`` and ``_bench``: what is to be evaluated of the engine that was built. Standard library only."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from cmx4trt.base.values import absolute_path, parse_bool, parse_int
from cmx4trt.errors import DataError, RequestError
from cmx4trt.frameworks.base import Framework
from cmx4trt.pipeline.evaluate import check_evaluation
from cmx4trt.requests.build import BuildRequest
from cmx4trt.requests.evaluation_options import ACCURACY, CM_OPTIONS, LOADGEN_OPTIONS, VERIFY_OPTIONS, EvaluationOptions

COMMAND_KEYS = {"verify": "CMX4TRT_RUN_VERIFY", "bench": "CMX4TRT_RUN_BENCH"}
"""What the two variations set."""
RUN_LOADGEN, NEED_IMAGES = "CMX4TRT_RUN_LOADGEN", "CMX4TRT_NEED_IMAGES"
"""What evaluations ask of the dependencies."""
_MAX_FACTOR = 10**6


@dataclass(slots=True)
class ScriptEvaluation:
    """``commands``: for 'verify' and 'bench' what is asked; ``needs_images``: whether the data set is to be fetched."""

    commands: dict[str, EvaluationOptions] = field(default_factory=dict)
    needs_images: bool = False
    needs_loadgen_too: bool = False
    """Whether LoadGen runs for a sweep."""

    @property
    def needs_loadgen(self) -> bool:
        """Whether LoadGen runs."""
        return self.needs_loadgen_too or "bench" in self.commands or self.needs_images or self._verifies_images

    @property
    def _verifies_images(self) -> bool:
        return "verify" in self.commands and self.commands["verify"].data is not None

    def keys(self) -> dict[str, str]:
        """What the conditions of the dependencies look at."""
        keys = {RUN_LOADGEN: "yes"} if self.needs_loadgen else {}
        if self.needs_images:  # also where an int8 build has all it needs
            keys |= {NEED_IMAGES: "yes", "CMX4TRT_HAVE_CALIBRATION": "no"}
        return keys

    def worker_file(self, framework: Framework, scratch: str, env: Mapping[str, Any], dry_run: bool = False) -> str:
        """The worker's file of evaluations, in folder ``scratch``; empty where nothing is to be evaluated.

        ``env`` is the environment after the dependencies; in a dry run they have fetched nothing, and only evaluations of images
        that are there can be checked. Raises DataError where they fetched no images.
        """
        commands = self.commands
        if dry_run and self.needs_images:
            commands = {name: options for name, options in commands.items() if not _measures_accuracy(name, options)}
        if not commands:
            return ""
        if self.needs_images and not dry_run:
            key = framework.key("DATASET_PREPROCESSED_PATH")
            folder = env.get(key)
            if not folder:
                raise DataError(f"the dependency get,dataset,preprocessed provided no folder ({key}); give --data=PATH")
            commands = {
                command: replace(options, data=absolute_path(folder))
                if _measures_accuracy(command, options)
                else options
                for command, options in commands.items()
            }
        path = os.path.join(scratch, "evaluation.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump({command: options.to_dict() for command, options in commands.items()}, file)
        return path


def evaluation_of_environment(
    framework: Framework,
    env: Mapping[str, Any],
    flags: Iterable[str],
    mapping: Mapping[str, str],
    request: BuildRequest,
) -> ScriptEvaluation:
    """What the variations and flags ask for. Raises RequestError for a value that cannot be meant.

    Without ``count``, accuracy is measured over BATCH_COUNT x BATCH_SIZE images, the seed's two keys; where both have their
    default, over all images of a folder that was named. Random weights have no accuracy: no images are fetched for them.
    """
    evaluation, wanted = (
        ScriptEvaluation(),
        {c: parse_bool(key, env.get(key, False)) for c, key in COMMAND_KEYS.items()},
    )
    if not any(wanted.values()):  # such keys may then be those of other scripts; flags were typed for this one
        lost = next((option.name for option in CM_OPTIONS if option.name in flags), None)
        if lost is not None:
            raise RequestError(f"--{lost} has no effect without _verify or _bench; add one of them to the tags")
        return evaluation
    given = {o.name: o.parse(v) for o in CM_OPTIONS if (v := env.get(mapping.get(o.name, ""))) is not None}
    trained = request.random_weights is None
    if wanted["verify"]:
        asked = _options_of_verify(given, wanted["bench"], "data" in given or trained)
        evaluation.commands["verify"] = EvaluationOptions(**asked)
    if wanted["bench"]:
        evaluation.commands["bench"] = EvaluationOptions(**given)
    for command, options in evaluation.commands.items():
        accuracy = _measures_accuracy(command, options)
        fetched = accuracy and options.data is None and trained
        evaluation.needs_images |= fetched
        check_evaluation(command, options, request, fetched)
        if accuracy and options.count is None and (options.data is not None or fetched or command == "bench"):
            count = _factor(env, framework.key("BATCH_COUNT")) * _factor(env, framework.key("BATCH_SIZE"))
            if count > 1 or options.data is None:
                evaluation.commands[command] = replace(options, count=count)
    return evaluation


def _options_of_verify(given: Mapping[str, Any], bench: bool, images: bool) -> dict[str, Any]:
    """What of the flags is for ``_verify``: with ``_bench`` beside it, what verify has no use for is bench's."""
    names = {option.name for option in VERIFY_OPTIONS}
    if bench and not images:
        names -= set(LOADGEN_OPTIONS)
    alien = next((name for name in given if name not in names), None)
    if alien is not None and not bench:
        raise RequestError(f"--{alien} has no effect without _bench; add it to the tags, or leave --{alien} out")
    return {name: value for name, value in given.items() if name in names}


def _measures_accuracy(command: str, options: EvaluationOptions) -> bool:
    return command == "verify" or options.mode == ACCURACY


def _factor(env: Mapping[str, Any], key: str) -> int:
    return parse_int(key, env.get(key, 1), 1, _MAX_FACTOR)

"""What train_resnet50.py and train_retinanet.py have in common: how a run begins, learns, and is described."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

PEAK_RATE = 1e-3
"""AdamW's learning rate after the warm-up (its authors' default, arXiv:1711.05101), not tuned, for a run of minutes."""
WEIGHT_DECAY = 0.05
WARM_UP = 0.06
"""Share of the time in which the rate rises linearly; afterwards it decays as a cosine."""


def begin(options: argparse.Namespace) -> torch.device:
    """Creates the folder and seeds torch; the device to train on."""
    torch.manual_seed(options.seed)
    torch.backends.cudnn.benchmark = True
    options.out.mkdir(parents=True, exist_ok=True)
    return torch.device(options.device)


def new_optimizer(model: Any, options: argparse.Namespace) -> torch.optim.Optimizer:
    """Only weights decay, biases and normalization do not."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": decayed, "weight_decay": options.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=0.0)


def rate(done: float) -> float:
    """The learning rate's factor at share ``done`` of the time."""
    if done < WARM_UP:
        return done / WARM_UP
    return 0.5 * (1 + float(np.cos(np.pi * (done - WARM_UP) / (1 - WARM_UP))))


def facts_of_run(options: argparse.Namespace, steps: int, device: torch.device) -> dict[str, Any]:
    """For the JSON file beside the network."""
    return {
        "seed": options.seed,
        "steps": steps,
        "batch": options.batch,
        "seconds": options.seconds,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "torch": torch.__version__,
    }


def write_facts(file: Path, facts: dict[str, Any]) -> None:
    """Writes and prints them."""
    file.write_text(json.dumps(facts, indent=2) + "\n")
    print(json.dumps(facts), flush=True)

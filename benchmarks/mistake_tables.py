"""What mistakes.py has found, as tables; and what the tables lack."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]

RIGHT = "nothing"
NO_PLACE = "no place"
OVERFLOW = " overflows "
"""Of the sentence that refuses a graph whose values the precision does not hold: the true reason, but no evidence."""


def key(row: Row) -> tuple[str, str, str]:
    """What a result is of."""
    return row["network"], row["precision"], row["mistake"]


def read_rows(path: Path) -> list[Row]:
    """The results that are there; a line that was cut off is none."""
    if not path.exists():
        return []
    text = path.read_text()
    if text and not text.endswith("\n"):
        text = text[: text.rfind("\n") + 1]
        path.write_text(text)
    return list({key(row): row for row in map(json.loads, text.splitlines())}.values())


def is_wrong(row: Row) -> bool:
    """Whether a right graph was refused or a wrong one was not."""
    if row["verdict"] == NO_PLACE:
        return False
    return bool((row["verdict"] == "failed") == (row["mistake"] == RIGHT))


def report(
    rows: Sequence[Row],
    precisions: Sequence[str],
    cases: Sequence[str],
    expected: int,
    left_out: Mapping[str, Sequence[str]],
) -> str:
    """Both tables, Markdown, and all that must be known to read them."""
    overflowing = {(r["network"], r["precision"]) for r in rows if r["mistake"] == RIGHT and OVERFLOW in r["sentence"]}
    counted = [row for row in rows if (row["network"], row["precision"]) not in overflowing]
    parts = []
    if len(rows) < expected:
        parts.append(f"**Incomplete: {expected - len(rows)} of {expected} results are missing.**")
    parts += [f"Left out: {title} (not installed: {', '.join(names)})" for title, names in left_out.items()]
    networks = len({row["network"] for row in rows})
    parts.append(f"{networks} networks, {len(rows)} results, {sum(map(is_wrong, counted))} of them wrong.")
    parts += [by_mistake(counted, precisions, cases), by_origin(counted)]
    parts += [
        f"Not counted: {network} in {precision}, which overflows, and is refused for that"
        for network, precision in sorted(overflowing)
    ]
    parts += [
        f"Wrong: {row['network']}, {row['precision']}, {row['mistake']}: {row['verdict']}: {row['sentence']}"
        for row in counted
        if is_wrong(row)
    ]
    cost, peak = sum(row.get("cpu_seconds", 0) for row in rows), max((row.get("peak_mb", 0) for row in rows), default=0)
    parts.append(f"{cost:,.0f} CPU seconds of verification; at most {peak:,} MB a process.")
    return "\n\n".join(parts) + "\n"


def by_mistake(rows: Sequence[Row], precisions: Sequence[str], cases: Sequence[str]) -> str:
    """Refused of planted, by mistake and precision; of what is right, passed of all."""
    lines = ["| | " + " | ".join(precisions) + " |", "|---" * (len(precisions) + 1) + "|"]
    for case in cases:
        cells = [
            _share([row for row in rows if row["mistake"] == case and row["precision"] == precision])
            for precision in precisions
        ]
        title = "**right graphs, passed**" if case == RIGHT else f"{case}, refused"
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def by_origin(rows: Sequence[Row]) -> str:
    """The same by where the networks come from."""
    lines = ["| | networks | right graphs, passed | wrong graphs, refused |", "|---|---|---|---|"]
    for origin in dict.fromkeys(row["origin"] for row in rows):
        own = [row for row in rows if row["origin"] == origin]
        right, wrong = ([row for row in own if (row["mistake"] == RIGHT) is good] for good in (True, False))
        networks = len({row["network"] for row in own})
        lines.append(f"| {origin} | {networks} | {_share(right)} | {_share(wrong)} |")
    return "\n".join(lines)


def _share(rows: Sequence[Row]) -> str:
    verdicts = Counter(row["verdict"] for row in rows if row["verdict"] != NO_PLACE)
    wanted = "passed" if any(row["mistake"] == RIGHT for row in rows) else "failed"
    undecided = f" ({verdicts['skipped']} without a verdict)" if verdicts["skipped"] else ""
    return f"{verdicts[wanted]} of {sum(verdicts.values())}{undecided}"

"""The report: what was measured, as Markdown, and how far it is from what was aimed at."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from benchmarks.cells import INFERENCE_BATCHES, KINDS, TORCH, Cell
from benchmarks.nets import NETS

Result = dict[str, Any]
Found = dict[Cell, Result]

EAGER = [name for name in TORCH if "compiled" not in name]


def those(word: str, names: Iterable[str] = TORCH) -> list[str]:
    return [name for name in names if word in name]


#: What was aimed at: net -> (rivals, of which the best counts; their time over LayerForge's).
TRAINING_AIMS: dict[str, list[tuple[str, list[str], float]]] = {
    net: [
        ("the best eager mode, tuned", those("tuned", EAGER), tuned),
        ("NCHW, stock", ["PyTorch, NCHW, stock"], stock),
    ]
    for net, tuned, stock in (
        ("alexnet", 2.0, 3.0),
        ("caffenet", 1.35, 1.75),
        ("googlenet", 1.5, 2.5),
        ("resnet50", 1.15, 1.6),
        ("vgg16", 1.08, 1.5),
        ("lenet", 1.7, 2.2),
    )
}
TRAINING_AIMS["alexnet"].append(("the better compiled", those("compiled"), 1.6))

#: net -> batch -> the best rival's time over LayerForge's.
INFERENCE_AIMS = {
    "alexnet": {1: 1.2, 32: 1.6},
    "caffenet": {1: 1.1, 32: 1.1},
    "googlenet": {1: 1.0, 32: 1.3},
    "resnet50": {1: 0.97, 32: 0.97},
    "vgg16": {1: 0.97, 32: 0.97},
}

#: Peak memory of training, in MB of 2^20 bytes.
MEMORY_AIMS = {"alexnet": 1500, "resnet50": 2200, "googlenet": 1800}


def report(cells: dict[str, Result], others: list[str], foreword: str, command: str, remark: str = "") -> str:
    """The whole page. ``others`` are chapters that are ready."""
    found = {cell: result for key, result in cells.items() for cell in [Cell.read(key)] if cell.net in NETS}
    parts = [foreword.strip(), remark, about(found.values(), command)]
    parts += [aims(found)]
    for kind, title in (("train", "Training: forward, backward and update"), ("infer", "Inference")):
        chapters = [
            chapter(kind, net, batch, {cell.rival: result for cell, result in found.items() if place(cell) == at})
            for net in NETS
            for batch in sorted({cell.batch for cell in found if cell.net == net and cell.kind == kind})
            for at in [(kind, net, batch)]
        ]
        if chapters:
            parts += [f"## {title}", *chapters]
    return "\n\n".join(part for part in [*parts, *others] if part) + "\n"


def place(cell: Cell) -> tuple[str, str, int]:
    return cell.kind, cell.net, cell.batch


def about(results: Iterable[Result], command: str) -> str:
    """On what, with what and when. Where results come from several machines or commits, all of them are told."""
    results = list(results)
    if not results:
        return ""

    def all_of(name: str) -> list[str]:
        return list(dict.fromkeys(str(result[name]) for result in results if result.get(name)))

    versions = list(dict.fromkeys(version for result in results for version in result.get("versions", ())))
    loads = [result["load"] for result in results]
    days = sorted(result["when"][:10] for result in results)
    lines = [
        f"- Machine: {'; '.join(all_of('hardware'))}; {'; '.join(all_of('system'))}",
        f"- Load of the machine before each contest: {min(loads):.1f} to {max(loads):.1f}",
        f"- Versions: {', '.join(versions)}; commit {', '.join(all_of('commit'))}",
        f"- {' or '.join(all_of('threads'))} threads, {' or '.join(all_of('rounds'))} rounds; "
        + (days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"),
        f"- Command: `{command}`",
    ]
    if all_of("environment"):
        lines.insert(1, f"- The environment had `{'`, or `'.join(all_of('environment'))}`")
    return "\n".join(lines)


def ms_of(result: Result, side: str) -> float:
    return statistics.median(result[side]["ms"])


def ratio(result: Result) -> float:
    """The rival's time over LayerForge's, both of one contest."""
    return ms_of(result, "theirs") / ms_of(result, "ours")


def best(results: dict[str, Result], rivals: Iterable[str]) -> tuple[str, float] | None:
    """The quickest of these rivals, and its time over LayerForge's."""
    ran = [name for name in rivals if name in results and "ours" in results[name]]
    if not ran:
        return None
    name = min(ran, key=lambda name: ms_of(results[name], "theirs"))
    return name, ratio(results[name])


def aims(found: Found) -> str:
    """What was aimed at, and what was reached."""
    rows = []
    for net, wanted in TRAINING_AIMS.items():
        results = {
            cell.rival: result for cell, result in found.items() if place(cell) == ("train", net, NETS[net].batch)
        }
        for words, rivals, aim in wanted:
            reached = best(results, rivals)
            if reached:
                rows.append(aim_row(f"{NETS[net].title} {NETS[net].batch}, training", words, aim, reached))
        peaks = [result["ours"]["peak_mb"] for result in results.values() if "ours" in result]
        if peaks and net in MEMORY_AIMS:
            most, peak = MEMORY_AIMS[net], max(peaks)
            verdict = "yes" if peak <= most else f"missed by {peak / most - 1:.0%}"
            name = f"{NETS[net].title} {NETS[net].batch}, training"
            rows.append(f"| {name} | peak memory | at most {most:,} MB | {peak:,} MB | {verdict} |")
    for net, batches in INFERENCE_AIMS.items():
        for batch in INFERENCE_BATCHES:
            results = {cell.rival: result for cell, result in found.items() if place(cell) == ("infer", net, batch)}
            reached = best(results, KINDS["infer"])
            if reached:
                rows.append(aim_row(f"{NETS[net].title} {batch}, inference", "the best", batches[batch], reached))
    if not rows:
        return ""
    head = ["| net, batch | against | aim | reached | |", "|---|---|---|---|---|"]
    text = "How many times as fast as its rivals LayerForge is meant to be, and is:"
    return "\n".join([f"## Aims\n\n{text}\n", *head, *rows])


def aim_row(name: str, words: str, aim: float, reached: tuple[str, float]) -> str:
    rival, value = reached
    verdict = "yes" if value >= aim else f"missed by {1 - value / aim:.0%}"
    return f"| {name} | {words} ({rival}) | {aim:.2f} | {value:.2f} | {verdict} |"


def chapter(kind: str, net: str, batch: int, results: dict[str, Result]) -> str:
    """One table: LayerForge, over all its contests, and each rival."""
    ran = {name: results[name] for name in KINDS[kind] if name in results and "ours" in results[name]}
    lines = [f"### {NETS[net].title}, batch {batch}", ""]
    if ran:
        unit = "step" if kind == "train" else "pass"
        lines += [
            f"| | ms per {unit} (quartiles) | images/s | peak MB | page faults per {unit} | LayerForge is |",
            "|---|---|---|---|---|---|",
            row("LayerForge", together([result["ours"] for result in ran.values()]), batch, ""),
        ]
    for name, result in ran.items():
        lines.append(row(name, result["theirs"], batch, f"{ratio(result):.2f} times as fast"))
    lines.append("")
    for name, result in results.items():
        if "failed" in result:
            lines += [f"{name}: {result['failed']}", ""]
        if result.get("compiling"):
            lines += [f"{name}: {result['compiling']:.0f} s until the first {unit} was done.", ""]
    agreements = list(dict.fromkeys(result["agreement"] for result in ran.values() if result.get("agreement")))
    if agreements and kind == "train":
        lines += agreements
    elif agreements:
        lines.append(f"Outputs differ by at most {max(map(float, agreements)):.0e} of the largest.")
    return "\n".join(lines).rstrip()


def together(sides: Sequence[Result]) -> Result:
    """LayerForge in all its contests."""
    return {
        "ms": [ms for side in sides for ms in side["ms"]],
        "peak_mb": max(side["peak_mb"] for side in sides),
        "faults": statistics.median(side["faults"] for side in sides),
    }


def row(name: str, side: Result, batch: int, last: str) -> str:
    middle = statistics.median(side["ms"])
    low, high = np.percentile(side["ms"], [25, 75])
    digits = 0 if middle >= 100 else 2 if middle >= 1 else 3
    return (
        f"| {name} | {middle:,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f}) | {1e3 * batch / middle:,.0f} "
        f"| {side['peak_mb']:,} | {side['faults']:,.0f} | {last} |"
    )

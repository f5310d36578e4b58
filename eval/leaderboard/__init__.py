"""The leaderboard: our saved results beside what others have published, as one page of Markdown.

A page says the same whenever it is made of the same results.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.published import Group, Row, published
from eval.report import HEADLINE, cell, count, data_of, gamma_of, number, percent

INTRODUCTION = """# Leaderboard

Phrase grounding on Flickr30k Entities, in per cent. `python -m eval.leaderboard` makes this page of the results that
`python -m eval` saves; change nothing here by hand.

* **R@K**: the share of phrases with a box of IoU .5 or more among the best K. **Pointing**: the share of phrases, or
  entities, whose point lies inside a true box.
* Each number follows a protocol (a *preset* of ours). Numbers of different protocols are not comparable as they stand,
  and pointing figures of different families are not comparable at all.
* Ours are bold. Mind the photos: few of them make wide intervals (95 %, by photo), and published numbers are on the
  1,000 of the test split unless a row says another.
* GoldG, on which GLIP, Grounding DINO and others are trained, contains the *train* split of Flickr30k Entities:
  "zero-shot" there is no unseen data set.
* How sure we are of a published number: {marks}.
"""
SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")

Result = Mapping[str, Any]


def read_results(folder: str | Path) -> list[dict[str, Any]]:
    """The results that ``python -m eval`` saved in a folder, by the names of their files.

    Raises:
        ValueError: there is no such folder, no result in it, or a file is no result; the message names it.
    """
    found = Path(folder).expanduser()
    paths = sorted(found.glob("*.json")) if found.is_dir() else []
    if not paths:
        problem = "no result (.json) in it" if found.is_dir() else "no such folder"
        raise ValueError(f"{folder}: {problem}; run python -m eval first, which saves results")
    return [_read(path) for path in paths]


def leaderboard(results: Sequence[Result]) -> str:
    """The page: our results by preset, the runs that made them, then published rows by group, our best among them."""
    marks = "; ".join(f"**{mark}**, {meaning}" for mark, meaning in published().marks.items())
    runs = _runs(results)
    parts = [INTRODUCTION.format(marks=marks), "## Measured here\n"]
    parts += [_our_table(preset, results, runs) for preset in _presets(results)]
    parts.append("Runs:\n\n" + "\n".join(f"{index}. {line}" for index, line in enumerate(runs, 1)) + "\n")
    for group in published().groups:
        parts.append(f"## {group.title}\n")
        parts += _group_tables(group, [result for result in results if is_ours(result)])
    parts.append("## Protocols\n")
    parts.append("\n".join(f"* {cell(name)}: {meaning}" for name, meaning in published().protocols.items()) + "\n")
    return "\n".join(parts)


def is_ours(result: Result) -> bool:
    """Whether a method of ours made the boxes; those of files (``predictions=``) are others' until they say so."""
    return not result["manifest"].get("predictions")


def check_result(result: Any) -> None:
    """Whether this is a result of format 1.

    Raises:
        ValueError: what it lacks, or which share is none.
    """
    if not isinstance(result, dict):
        raise ValueError(f"expected an object, got {type(result).__name__}")
    if result.get("format") != 1:
        raise ValueError(f"expected a result of format 1, got {result.get('format')!r}; run python -m eval again")
    if not isinstance(result.get("name"), str) or not result["name"].strip():
        raise ValueError("has no name")
    for name in ("manifest", "presets"):
        if not isinstance(result.get(name), dict) or not result[name]:
            raise ValueError(f"has no {name}")
    for preset, values in result["presets"].items():
        kind = values.get("kind") if isinstance(values, dict) else None
        if kind not in ("boxes", "pointing"):
            raise ValueError(f"{preset}: expected kind boxes or pointing, got {kind!r}")
        if not isinstance(values.get("all"), dict):
            raise ValueError(f"{preset}: has no scores of all instances")
        for subset in ("all", "small", "large"):
            if values.get(subset) is not None:
                _check_scores(values[subset], kind, f"{preset}, {subset}")


def _check_scores(scores: Any, kind: str, where: str) -> None:
    if not isinstance(scores, dict):
        raise ValueError(f"{where}: expected scores, got {scores!r}")
    if kind == "pointing":
        shares = {"accuracy": scores.get("accuracy", math.nan)}
        intervals = {"interval": scores.get("interval")}
    else:
        recall, interval = scores.get("recall"), scores.get("interval") or {}
        if not isinstance(recall, dict) or not isinstance(interval, dict):
            raise ValueError(f"{where}: has no recall")
        shares = {f"recall {rank}": recall.get(rank, math.nan) for rank in ("1", "5", "10", "bound")}
        shares |= {name: scores.get(name) for name in ("map_group", "map_phrase", "type_mean_recall_5")}
        intervals = {f"interval {rank}": ends for rank, ends in interval.items()}
    for name, ends in intervals.items():
        if ends is not None and not (isinstance(ends, list) and len(ends) == 2):
            raise ValueError(f"{where}: {name} must be two shares, got {ends!r}")
        shares |= {f"{name}, {side}": end for side, end in zip(("low", "high"), ends or (), strict=False)}
    for name, share in shares.items():
        is_number = isinstance(share, int | float) and not isinstance(share, bool)
        if share is not None and not (is_number and 0 <= share <= 1):  # false for NaN, too
            raise ValueError(f"{where}: {name} must be a share from 0 to 1, got {share!r}")


def _read(path: Path) -> dict[str, Any]:
    try:
        result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON: {error}") from None
    try:
        check_result(result)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return result


def _presets(results: Sequence[Result]) -> list[str]:
    """All presets: the paper's first, then others of boxes, then of pointing, each by name."""
    kinds = {name: values["kind"] for result in results for name, values in result["presets"].items()}
    return sorted(kinds, key=lambda name: (kinds[name], name != HEADLINE, name))


def _runs(results: Sequence[Result]) -> dict[str, int]:
    """What made each result, in a line, and the line's number from 1."""
    runs: dict[str, int] = {}
    for result in results:
        runs.setdefault(_run(result), len(runs) + 1)
    return runs


def _run(result: Result) -> str:
    manifest = result["manifest"]
    command = " ".join(str(manifest.get("command") or "").split())
    fence = "``" if "`" in command else "`"
    parts = [f"{fence}{command}{fence}"] if command else []
    parts += [f"commit {manifest['commit']}"] if manifest.get("commit") else []
    return ", ".join((*parts, str(manifest["date"])) if manifest.get("date") else parts) or "not recorded"


def _our_table(preset: str, results: Sequence[Result], runs: Mapping[str, int]) -> str:
    """Every result's scores by a preset, best first."""
    scored = [(result, result["presets"][preset]) for result in results if preset in result["presets"]]
    is_boxes = scored[0][1]["kind"] == "boxes"
    scored.sort(key=lambda pair: (-(_first(pair[1]) or 0), pair[0]["name"]))
    heads = ["method", "model", "γ", "data"]
    if is_boxes:
        heads += ["phrases", "R@1 (interval)", "R@5", "R@10", "bound", "small: R@1/5/10", "mAP (Group)", "mAP (Phrase)"]
    else:
        heads += ["number", "accuracy (interval)"]
    lines = [f"### {preset}\n", f"{_settings(scored[0][1])}\n", _line(heads), _rule(heads, text=(0, 1, 3))]
    for result, values in scored:
        manifest, scores = result["manifest"], values["all"]
        gamma = gamma_of(result)
        note = str(runs[_run(result)]).translate(SUPERSCRIPTS)
        name = f"**{cell(result['name'])}**" if is_ours(result) else cell(result["name"])
        cells = [f"{name} {note}", cell(manifest.get("model") or "–")]
        cells += ["–" if gamma is None else f"{gamma:g}", cell(_data(result, values)), count(scores.get("instances"))]
        interval = scores.get("interval")
        if is_boxes:
            recall, small = scores["recall"], (values.get("small") or {}).get("recall", {})
            cells.append(f"{percent(recall['1'])}{_ends((interval or {}).get('1'))}")
            cells += [percent(recall[rank]) for rank in ("5", "10", "bound")]
            cells.append("/".join(percent(small.get(rank)) for rank in ("1", "5", "10")) if small else "–")
            cells += [percent(scores.get(name)) for name in ("map_group", "map_phrase")]
        else:
            cells.append(percent(scores["accuracy"]) + _ends(interval))
        lines.append(_line(cells))
    return "\n".join(lines) + "\n"


def _group_tables(group: Group, results: Sequence[Result]) -> list[str]:
    """Published rows of a group best first, with our best by each preset; of pointing, a table for each protocol."""
    rows: list[tuple[str | None, float, list[str]]] = [
        (row.protocol, row.numbers[0] or 0.0, _published_cells(row, group.kind)) for row in group.rows
    ]
    if group.name != "supervised":  # we learn from no box
        rows += _our_best(group.kind, results)
    rows.sort(key=lambda row: (-row[1], row[2]))
    if group.kind == "boxes":
        return [_published_table(group.kind, [cells for _, _, cells in rows])]
    titles = published().protocols
    protocols = sorted({name for name, _, _ in rows if name}, key=lambda name: (name not in titles, name))
    tables = []
    for protocol in (*protocols, None):
        chosen = [cells for its, _, cells in rows if its == protocol]
        title = ": ".join((protocol, *((titles[protocol],) if protocol in titles else ()))) if protocol else "not known"
        tables += [f"### Protocol {title}\n", _published_table(group.kind, chosen)] if chosen else []
    return tables


def _published_table(kind: str, rows: Sequence[list[str]]) -> str:
    heads = ["method", *(("R@1", "R@5", "R@10") if kind == "boxes" else ("accuracy",)), "protocol", "data"]
    heads += ["how sure", "source, notes"]
    last = len(heads)
    return "\n".join((_line(heads), _rule(heads, text=(0, *range(last - 4, last))), *map(_line, rows))) + "\n"


def _published_cells(row: Row, kind: str) -> list[str]:
    numbers = [_as_printed(value) for value in row.numbers]
    if row.shown:
        numbers[0] = row.shown
    if kind == "boxes":
        numbers += ["–"] * (3 - len(numbers))
    notes = "; ".join(part for part in (row.source, row.note) if part)
    return [cell(row.method), *numbers, row.protocol or "–", row.split or "–", row.mark, cell(notes)]


def _as_printed(value: float | None) -> str:
    """With the decimals that were published, one at least."""
    return number(value) if value is None or f"{value:.2f}".endswith("0") else f"{value:.2f}"


def _our_best(kind: str, results: Sequence[Result]) -> list[tuple[str | None, float, list[str]]]:
    """Our best result by each preset of a kind."""
    found: list[tuple[str | None, float, list[str]]] = []
    for preset in _presets(results):
        scored = [
            (value, result)
            for result in results
            if preset in result["presets"]
            and result["presets"][preset]["kind"] == kind
            and (value := _first(result["presets"][preset])) is not None
        ]
        if not scored:
            continue
        value, result = min(scored, key=lambda pair: (*_weight(pair[1]), -pair[0], pair[1]["name"]))
        values = result["presets"][preset]
        shares = [values["all"]["recall"][rank] for rank in ("1", "5", "10")] if kind == "boxes" else [value]
        cells = [f"**{cell(result['name'])}, ours**", *(f"**{percent(share)}**" for share in shares), preset]
        found.append((preset, 100 * value, [*cells, cell(_data(result, values)), "ours", ""]))
    return found


def _weight(result: Result) -> tuple[bool, int]:
    """Sorts results on the test split first, then those on most photos: a good score on few is no better."""
    photos = result["manifest"].get("photos")
    return result["manifest"].get("split") != "test", -photos if isinstance(photos, int) else 0


def _first(values: Mapping[str, Any]) -> float | None:
    """The share that results are ranked by: R@1 or pointing accuracy."""
    scores = values["all"]
    share: float | None = scores["recall"]["1"] if values["kind"] == "boxes" else scores["accuracy"]
    return share


def _data(result: Result, values: Mapping[str, Any]) -> str:
    return data_of(result, values["all"].get("photos"))


def _ends(shares: Any) -> str:
    return f" ({percent(shares[0])}–{percent(shares[1])})" if shares and None not in shares else ""


def _settings(values: Mapping[str, Any]) -> str:
    """A preset's settings as words; what it means is in ``conf/preset``."""
    settings = values.get("settings") or {}
    plain = {True: "yes", False: "no", None: "none"}
    parts = (f"{name} {plain[value] if isinstance(value, bool | None) else value}" for name, value in settings.items())
    return cell(", ".join(part.replace("_", " ") for part in parts)) or "settings not recorded"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _rule(heads: Sequence[str], *, text: Sequence[int]) -> str:
    return f"|{'|'.join('---' if index in text else '---:' for index in range(len(heads)))}|"

"""Are the available photos a random part of their split? Types of phrases, and how often the centre is a hit.

    python benchmarks/splits.py PHOTOS ENTITIES                                  prints a table
    python benchmarks/splits.py PHOTOS ENTITIES --output eval/splits.json   saves the counts, too

The table compares the photos of each split that are in PHOTOS, the rest of that split, and the whole test split. It
also shows how often the centre lies in the union box of an entity: for all entities (preset ``pointing_entity_all``),
and for those whose first box covers more than 5 % of the photo (preset ``pointing_entity``). No photo is opened.

The 247 val photos of docs/results.md (those of Flickr8k) and the test split: three seconds on one core.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from eval.flickr30k import SPLITS, TYPES, read_split
from eval.splits import SplitStatistics, count_split
from grounding.files import write_file


def parts(photos: Path, entities: Path) -> dict[str, frozenset[str]]:
    """Return the names of the photos to compare, by the name of their set."""
    present = {path.stem for path in photos.glob("*.jpg")}
    found = {}
    for split in SPLITS:
        names = read_split(entities, split)
        if (here := names & present) and here != names:
            found[f"part of {split}, {len(here):,} photos"] = here
            found[f"rest of {split}, {len(names - here):,} photos"] = names - here
        elif here or split == "test":
            found[f"{split}, {len(names):,} photos"] = names
    return found


def print_table(splits: list[SplitStatistics]) -> None:
    """Print counts and shares in per cent, one column for each set of photos."""
    table = Table(box=box.SIMPLE)
    for head in ("per cent", *(one.name for one in splits)):
        table.add_column(head, justify="right" if table.columns else "left")
    table.add_row("phrases", *(f"{one.phrases:,}" for one in splits))
    for kind in TYPES:
        table.add_row(kind, *(f"{100 * one.share(kind):.1f}" for one in splits))
    rows = {
        "centre in a box of the phrase": ("phrases_at_centre", "phrases"),
        "centre in the union box, all entities": ("entities_at_centre", "entities"),
        "centre in the union box, large entities": ("large_entities_at_centre", "large_entities"),
    }
    for label, (hits, count) in rows.items():
        pairs = ((getattr(one, hits), getattr(one, count)) for one in splits)
        table.add_row(label, *(f"{100 * hit / number:.2f} of {number:,}" for hit, number in pairs))
    Console().print(table)


def main() -> None:
    """Count, print the table, and write the counts to ``--output``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", metavar="PHOTOS", type=Path, help="folder of ID.jpg")
    parser.add_argument("entities", metavar="ENTITIES", type=Path, help="folder of Flickr30k Entities")
    parser.add_argument("--output", metavar="FILE.json", type=Path, help="file for the counts")
    arguments = parser.parse_args()
    try:
        found = parts(arguments.photos, arguments.entities)
        splits = [count_split(name, names, arguments.entities) for name, names in found.items()]
        print_table(splits)
        if arguments.output:
            content = json.dumps([asdict(one) for one in splits], indent=1) + "\n"
            write_file(arguments.output, content.encode())
    except (ValueError, OSError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()

"""What was found in a folder of data, to be said before anything is trained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from torchops.files.images import ImageError
from torchops.files.names import printable

Thing = TypeVar("Thing", bound=Hashable)
Seen = TypeVar("Seen")

EXAMPLES = 3
"""So many of the files that are left out for one reason are named."""


class DataError(Exception):
    """What is wrong with the data, in one line, whatever the names in it."""

    def __init__(self, text: str) -> None:
        super().__init__(printable(text))


def counted(count: int, what: str) -> str:
    """A number and its noun, as "1 image" or "1,200 images"; nouns that end in s get es."""
    ending = "" if count == 1 else "es" if what.endswith("s") else "s"
    return f"{count:,} {what}{ending}"


def listed(names: list[str], most: int | None = EXAMPLES) -> str:
    """Names with commas, the first `most` of them: "a, b, c and 4 more"."""
    shown = names if most is None else names[:most]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more:,} more" if more else "")


@dataclass
class Found:
    """How much there is of every class in every part, how the held-out part came about, what was left out and why."""

    parts: dict[str, dict[str, int]] = field(default_factory=dict)
    """By part ("train", "val", "test"): images by class; of masks, images in which the class has pixels."""
    images: dict[str, int] = field(default_factory=dict)
    """By part: images in all."""
    shares: dict[str, float] = field(default_factory=dict)
    """By class: its share of the pixels of the training masks; empty where there are no masks."""
    held_out: str = ""
    """Which images are held out, in words, as "the images in val"."""
    left_out: list[tuple[str, str]] = field(default_factory=list)
    """Files and folders that are not used, each with the reason; reasons that are the same read the same."""
    notes: list[str] = field(default_factory=list)
    """What else is worth knowing, a sentence each."""

    def count(self, part: str, classes: Mapping[str, int], images: int | None = None) -> None:
        """Say what a part holds of every class; `images` in all, if it is not their sum."""
        self.parts[part] = dict(classes)
        self.images[part] = sum(classes.values()) if images is None else images

    def leave_out(self, path: object, reason: str) -> None:
        self.left_out.append((str(path), reason))

    def note_frames(self, files: list[str]) -> None:
        """Say which files have more frames than the one that is read, if there are some."""
        if files:
            self.notes.append(f"the first frame of {counted(len(files), 'file')} is read: {listed(files)}")

    def reasons(self) -> Counter[str]:
        """How many files and folders were left out, by reason."""
        return Counter(reason for _, reason in self.left_out)

    def table(self, most: int | None = 20) -> tuple[list[str], list[list[str]]]:
        """Headings, and a row for every class and a last one for all, as text that a screen can show; names are not markup.

        Args:
            most: of more classes, the largest and the smallest are shown, half as many of each; None for all.
        """
        classes = list(dict.fromkeys(label for counts in self.parts.values() for label in counts))

        def row(label: str) -> list[str]:
            counts = [self.parts.get(part, {}).get(label, 0) for part in self.images]
            share = [f"{self.shares.get(label, 0.0):.1%}"] if self.shares else []
            return [printable(label), *(f"{n:,}" for n in (*counts, sum(counts))), *share]

        headings = ["class", *self.images, "all", *(["pixels"] if self.shares else [])]
        if most is not None and len(classes) > most:
            first = next(iter(self.parts.values()))
            ordered = sorted(classes, key=lambda label: -first.get(label, 0))
            above, below = ordered[: most - most // 2], ordered[len(ordered) - most // 2 :]
            between = [f"and {len(classes) - most:,} more", *[""] * (len(headings) - 1)]
            rows = [*map(row, above), between, *map(row, below)]
        else:
            rows = [*map(row, classes)]
        totals = [*self.images.values(), sum(self.images.values())]
        rows.append(["all", *(f"{n:,}" for n in totals), *(["100.0%"] if self.shares else [])])
        return headings, rows

    def sentences(self, most: int | None = EXAMPLES) -> list[str]:
        """How much there is, what is held out, what was left out for which reason, and notes: a line each, without markup.

        Args:
            most: of the files that are left out for one reason, so many are named; None for all.
        """
        lines = []
        if self.images:
            train, classes = self.images.get("train", 0), len(self.parts.get("train", {}))
            of = f" of {counted(classes, 'class')}" if classes else ""
            how = f" ({self.held_out})" if self.held_out else ""
            test = f", {self.images['test']:,} to test at the end" if "test" in self.images else ""
            lines.append(
                f"{counted(train, 'image')}{of} to train on, {self.images.get('val', 0):,} held out{how}{test}"
            )
        for reason, count in self.reasons().most_common():
            names = [path for path, why in self.left_out if why == reason]
            lines.append(f"{count:,} left out, {reason}: {listed(names, most)}")
        return [printable(line) for line in (*lines, *self.notes)]


def readable(
    things: Sequence[Thing],
    look: Callable[[Thing], Seen],
    found: Found,
    *,
    skip_corrupt: bool,
    threads: int | None = None,
) -> dict[Thing, Seen]:
    """What there is in files that can be read; the others are left out, if they may be.

    Args:
        things: files, or what stands for some that belong together.
        look: reads one; raises `ImageError` if it cannot.
        found: where to say what is left out.
        skip_corrupt: whether it may be.
        threads: so many are looked at together; as many as there are CPUs by default, and a few more.

    Raises:
        DataError: if something cannot be read and is not to be skipped.
    """

    def seen_or_broken(thing: Thing) -> Seen | ImageError:
        try:
            return look(thing)
        except ImageError as error:
            return error

    with ThreadPoolExecutor(threads) as pool:
        looks = dict(zip(things, pool.map(seen_or_broken, things), strict=True))
    broken = [one for one in looks.values() if isinstance(one, ImageError)]
    if broken and not skip_corrupt:
        more = f", and {len(broken) - 1} more" if len(broken) > 1 else ""
        raise DataError(f"{broken[0]}{more}; `skip_corrupt` leaves such files out")
    for error in broken:
        found.leave_out(error, "cannot be read")
    return {thing: one for thing, one in looks.items() if not isinstance(one, ImageError)}

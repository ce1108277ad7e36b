"""What was found in a folder of data, to be said before anything is trained."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Found:
    """How much there is of every class in every part, how the held-out part came about, what was left out and why."""

    parts: dict[str, dict[str, int]] = field(default_factory=dict)
    """By part ("train", "val", "test"): images by class; of masks, images in which the class has pixels."""
    images: dict[str, int] = field(default_factory=dict)
    """By part: images in all."""
    held_out: str = ""
    """How the held-out images were chosen, in a sentence."""
    left_out: list[tuple[str, str]] = field(default_factory=list)
    """Files and folders that are not used, each with the reason; reasons that are the same read the same."""
    notes: list[str] = field(default_factory=list)
    """What else is worth knowing, a sentence each."""

    def leave_out(self, path: object, reason: str) -> None:
        self.left_out.append((str(path), reason))

    def reasons(self) -> Counter[str]:
        """How many files and folders were left out, by reason."""
        return Counter(reason for _, reason in self.left_out)

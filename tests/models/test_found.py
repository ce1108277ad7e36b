"""What was found in data, as the screen shows it."""

from __future__ import annotations

from pathlib import Path

from torchops.models.data import Found, named, pages


def test_table_of_a_few_classes() -> None:
    found = Found()
    found.count("train", {"cat": 1200, "dog\n": 3})
    found.count("val", {"cat": 2, "dog\n": 0})
    assert found.table() == (
        ["class", "train", "val", "all"],
        [["cat", "1,200", "2", "1,202"], ["dog\\n", "3", "0", "3"], ["all", "1,203", "2", "1,205"]],
    )


def test_table_of_many_classes_shows_the_largest_and_the_smallest() -> None:
    found = Found()
    found.count("train", {f"c{i:04}": i for i in range(1000)})
    headings, rows = found.table(4)
    assert headings == ["class", "train", "all"]
    assert rows == [
        ["c0999", "999", "999"], ["c0998", "998", "998"], ["and 996 more", "", ""],
        ["c0001", "1", "1"], ["c0000", "0", "0"], ["all", "499,500", "499,500"],
    ]  # fmt: skip
    assert [row[0] for row in found.table(None)[1]] == [*(f"c{i:04}" for i in range(1000)), "all"]
    assert len(found.table(3)[1]) == 5


def test_images_of_masks_have_several_classes() -> None:
    """The sum over classes is not the number of images."""
    found = Found(shares={"paper": 0.875, "ink": 0.125})
    found.count("train", {"paper": 4, "ink": 3}, 4)
    assert found.table() == (
        ["class", "train", "all", "pixels"],
        [["paper", "4", "4", "87.5%"], ["ink", "3", "3", "12.5%"], ["all", "4", "4", "100.0%"]],
    )


def test_sentences() -> None:
    found = Found(held_out="the images in val", notes=["a\nnote"])
    found.count("train", {"a": 1, "b": 0})
    found.count("val", {"a": 1, "b": 1})
    found.count("test", {"a": 3, "b": 2})
    for i in range(5):
        found.leave_out(f"{i}.txt", "no image by its name (.txt)")
    found.leave_out("x\n", "hidden")
    first, *others = found.sentences()
    assert first == "1 image of 2 classes to train on, 2 held out (the images in val), 5 to test at the end"
    assert others == [
        "5 left out, no image by its name (.txt): 0.txt, 1.txt, 2.txt and 2 more",
        "1 left out, hidden: x\\n",
        "a\\nnote",
    ]
    assert found.sentences(None)[1].endswith(": 0.txt, 1.txt, 2.txt, 3.txt, 4.txt")
    assert Found().sentences() == []


def test_sets_by_name_say_what_they_hold() -> None:
    found = named("digits", Path("nowhere"), size=8, channels=1, seed=0, examples=10).found
    assert found.parts["train"] == dict.fromkeys(map(str, range(10)), 10)
    assert found.images == {"train": 100, "val": 359}
    assert found.sentences() == [
        "100 images of 10 classes to train on, 359 held out (a fifth of every class, chosen at random with seed 0)",
        "of 1,438 images to train on, 100 are used",
    ]
    found = pages(32, 8).found
    assert found.images == {"train": 8, "val": 2}
    assert found.sentences()[0] == "8 images to train on, 2 held out (pages of digits that are on no other)"

"""What networks are trained on. Needs the extra `models`.

preprocess.py   from pixels to the input of a network
classes.py      images of classes: digits, torchvision's sets, a folder a class
sets.py         torchvision's sets, as its files have them
changes.py      random changes of images to train on
trees.py        which files of a tree of folders belong to which class and part
pages.py        pages of digits with the class of every pixel
masks.py        folders of images and masks; mask_files.py: values and palettes of a mask, classes.txt
stored.py       bytes of which floats are made after they are cropped
found.py        what was found, to be said before training
loading.py      batches that depend on seed, epoch and step only
"""

from torchops.models.extra import needs

with needs("torchops.models.data"):
    from .classes import DATASETS, digits, folder, named
    from .found import DataError, Found
    from .loading import Data, Images, Seeded, train_loader, val_loader
    from .masks import pairs
    from .pages import pages
    from .preprocess import Preprocess, read

__all__ = [
    "DATASETS", "Data", "DataError", "Found", "Images", "Preprocess", "Seeded",
    "digits", "folder", "named", "pages", "pairs", "read", "train_loader", "val_loader",
]  # fmt: skip

"""The networks of the course, built from torchops' layers, and how they are trained.

lenet.py  resnet.py  unet.py  diffusion.py      one network a file, to be read at a sitting
backbones.py                                    classifiers of torchvision and timm, with our layers
encoded.py                                      a U-Net whose encoder is one of timm
checkpoints.py                                  networks by name and as files
archives.py  validation.py  weights.py          what such a file may hold, and whose weights a network can take
trained.py                                      a trained network asked about an image
predict.py  inputs.py                           one at work on files, and which files these are
tiles.py                                        large images, tile by tile, as if they were seen whole
arguments.py  extra.py                          what networks refuse, and what to install
sampling.py                                     images drawn by a diffusion model, each by its seed
looking.py                                      one looked into, as it is shown a file
inside/                                         filters, feature maps, Grad-CAM and receptive fields of any network
data/                                           what they are trained on
setup.py                                        what a configuration stands for: data, network, task, optimizer
tasks.py                                        loss, figures and pictures of classification, segmentation, diffusion
balance.py                                      rare classes weigh more in the loss
figures.py                                      precision, recall, F1 and IoU of classes; confusion.csv
training.py  runs.py  state.py                  a run: its folder, what it goes on from, what is left of what fails
trainer.py  schedule.py  distributed.py         the one loop, on any number of processes
options.py  declared.py                         the options of training, for the shell and for Config; what an option is
logs.py                                         a run, logged for TensorBoard
beside_torch.py                                 the same training with torch.nn's layers, step by step
card.py                                         a run, told in its folder's README.md
pictures.py  colours.py                         curves, confusion, predictions, overlays, samples; colours of classes

The networks need torch alone, ResNet torchvision as well, other classifiers their library; data and training
need the extra `models`.
"""

from .backbones import classifier
from .checkpoints import Checkpoint, CheckpointError, build, load
from .diffusion import Diffusion
from .encoded import EncodedUNet
from .lenet import LeNet
from .resnet import resnet
from .unet import UNet
from .weights import load_backbone

__all__ = [
    "Checkpoint", "CheckpointError", "Diffusion", "EncodedUNet", "LeNet", "UNet", "build", "classifier", "load",
    "load_backbone", "resnet",
]  # fmt: skip

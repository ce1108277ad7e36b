"""What tests of runs share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from torchops.models import tasks


@pytest.fixture(scope="module")
def undrawn() -> Iterator[None]:
    """Runs end without pictures, which take longer than tiny runs do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torchops.models.pictures.curves", lambda *arguments: None)
        for task in (tasks.Classification, tasks.Denoising):
            patch.setattr(task, "finish", lambda *arguments: {})
        yield

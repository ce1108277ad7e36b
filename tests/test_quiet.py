"""A thread that is not warned, while the others are."""

from __future__ import annotations

import threading
import warnings

import pytest

from torchops.files.quiet import quiet


def test_only_this_thread_is_not_warned() -> None:
    inside, told = threading.Event(), threading.Event()
    raised: list[Warning] = []

    def other() -> None:
        inside.wait()
        try:
            warnings.warn("of another thread", UserWarning, stacklevel=1)
        except UserWarning as warning:
            raised.append(warning)
        told.set()

    thread = threading.Thread(target=other)
    thread.start()
    with quiet():
        inside.set()
        told.wait()
        warnings.warn("of this one", UserWarning, stacklevel=1)
    thread.join()
    assert [str(warning) for warning in raised] == ["of another thread"]


def test_warnings_are_heard_again_after_the_block() -> None:
    with quiet(), quiet():
        warnings.warn("in it", UserWarning, stacklevel=1)
    with pytest.warns(UserWarning, match="after it"):
        warnings.warn("after it", UserWarning, stacklevel=1)


def test_filters_that_were_set_since() -> None:
    with quiet():
        pass
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with quiet():
            warnings.warn("in it", UserWarning, stacklevel=1)
        with pytest.raises(UserWarning):
            warnings.warn("after it", UserWarning, stacklevel=1)

"""Tensors are cached on disk, and computed again without a working cache."""

import pytest
import torch
from full_disk import full_disk

from hfpipe.pipeline.hub_cache import cache_folder, kept_on_disk

TENSOR = torch.arange(10_000, dtype=torch.float32)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache."""
    monkeypatch.setenv("HFPIPE_CACHE", str(tmp_path / "cache"))


def test_tensors_are_computed_once_and_again_when_damaged():
    calls = []
    compute = lambda: calls.append(1) or {"a": TENSOR}  # noqa: E731
    for _ in range(2):
        assert torch.equal(kept_on_disk("folder/name", compute)["a"], TENSOR)
    assert len(calls) == 1
    [file] = (cache_folder() / "folder").iterdir()
    file.write_bytes(b"damaged")
    assert torch.equal(kept_on_disk("folder/name", compute)["a"], TENSOR)
    assert len(calls) == 2


def test_a_full_disk_is_done_without():
    with full_disk():
        assert torch.equal(kept_on_disk("folder/name", lambda: {"a": TENSOR})["a"], TENSOR)
    assert list((cache_folder() / "folder").iterdir()) == []


def test_a_folder_that_cannot_be_made_is_done_without():
    cache_folder().write_text("a file where the folder should be")
    assert torch.equal(kept_on_disk("folder/name", lambda: {"a": TENSOR})["a"], TENSOR)

"""What hfpipe relies on of other packages' insides, since they offer no public way: transformers 5.23 and torch 2.11.

Each function says what would do instead, and `tests/pipeline/test_internals.py` has a test for each.
"""

import inspect

import torch
from transformers import pipeline


def arguments_of_pipeline(pipeline_class: type) -> dict:
    """Return what `transformers.pipeline` was given and passes to no class: `revision`, `token`, `model_kwargs`.

    transformers loads the model with them and keeps them to itself, though the parts of a private repo need its token,
    and those of an old revision that revision; the model's configuration no longer holds the commit. The frame of the
    call is the only place that has them. A class argument of another name would be public instead, but then
    `pipeline("voice-qa", model=repo, token=…)` couldn't load a private repo.

    Returns:
        The arguments, with `revision` resolved to a commit, or {} if the class wasn't built by `pipeline`.
    """
    frame = inspect.currentframe()
    while frame is not None:
        given = frame.f_locals if frame.f_code is pipeline.__code__ else {}
        if given.get("pipeline_class") is pipeline_class:
            revision = given["hub_kwargs"]["revision"]
            resolved = getattr(revision, "resolved", revision)
            token, model_kwargs = given["hub_kwargs"]["token"], given["model_kwargs"]
            return {"revision": resolved, "token": token, "model_kwargs": model_kwargs}
        frame = frame.f_back
    return {}


def pack_bfloat16(weight: torch.Tensor) -> torch.Tensor:
    """Lay a weight (outputs, inputs) out as oneDNN multiplies fastest, in bfloat16.

    `torch.nn.functional.linear` lays it out anew at each call.
    """
    return torch.ops.mkldnn._reorder_linear_weight(weight.bfloat16().contiguous())


def multiply_bfloat16(inputs: torch.Tensor, packed: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """Multiply bfloat16 inputs (..., inputs) by what `pack_bfloat16` returned, and add a bias."""
    return torch.ops.mkldnn._linear_pointwise(inputs, packed, bias, "none", [], "")

"""What transformers' cloning models are trained on: the inputs and labels of a clip, by their own processors.

The forward pass of each of `TRAINABLE` returns a loss for them; Bark and VITS compute none.
"""

import numpy as np

from hfpipe.pipeline.tts_transformers import TransformersTTS
from hfpipe.pipeline.tts_transformers_clone import HIGGS_SETTING

TRAINABLE = ("csm", "dia", "higgs_audio_v2", "vibevoice")


def encode_clip(part: TransformersTTS, text: str, samples: np.ndarray):
    """Return the arguments of a model's forward pass, with labels, for a clip and what is said in it.

    Args:
        part: the voice to train, of one of `TRAINABLE`.
        text: what is said, as inference reads it (`speakable` first).
        samples: float32 of shape (samples,) at the part's `sampling_rate`.

    Raises:
        ValueError: the model isn't one of `TRAINABLE`.
    """
    processor, model = part.pipe.processor, part.pipe.model
    if part.model_type == "dia":
        inputs = processor(
            text=[f"[S1] {text}"],
            audio=[samples],
            generation=False,
            output_labels=True,
            padding=True,
            return_tensors="pt",
        )
    elif part.model_type in TRAINABLE:
        inputs = processor.apply_chat_template(
            _conversation(part.model_type, text, samples),
            tokenize=True,
            return_dict=True,
            processor_kwargs={"return_tensors": "pt", "sampling_rate": part.sampling_rate, "output_labels": True},
        )
    else:
        raise ValueError(f"{part.model_type} can't be trained here; valid are {', '.join(TRAINABLE)}.")
    return inputs.to(model.device, dtype=model.dtype)


def _conversation(model_type: str, text: str, samples: np.ndarray) -> list[dict]:
    """Return the clip as a conversation, in the layout of each model's chat template."""
    said, heard = {"type": "text", "text": text}, {"type": "audio", "audio": samples}
    if model_type == "higgs_audio_v2":
        return [
            *HIGGS_SETTING,
            {"role": "user", "content": [said]},
            {"role": "assistant", "content": [heard]},
        ]
    return [{"role": "0", "content": [said, heard]}]

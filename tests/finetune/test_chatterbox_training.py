"""LoRA on the language model of Chatterbox: the package's real classes, small and with random weights."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from hfpipe.pipeline import tts_chatterbox

sys.path.append(str(Path(__file__).parents[1] / "pipeline"))
import tiny_chatterbox  # noqa: E402

if importlib.util.find_spec("chatterbox") is None:
    pytest.skip(f"chatterbox-tts isn't installed: {tts_chatterbox.INSTALL}", allow_module_level=True)

from finetune.voice.chatterbox import ChatterboxModel, add_lora, collate, encode_clip, merge_into  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def voice(voice, tmp_path_factory):
    return tiny_chatterbox.cut_voice(voice, tmp_path_factory.mktemp("voice") / "voz.wav")


@pytest.fixture(scope="module")
def part(tmp_path_factory):
    folder, s3gen = tmp_path_factory.mktemp("vocabulary"), tiny_chatterbox.seeded(tiny_chatterbox.make_s3gen, True)
    with tiny_chatterbox.small_t3():
        model = tiny_chatterbox.seeded(tiny_chatterbox.make_model, folder, True, s3gen)
    return tts_chatterbox.ChatterboxTTS(model)


@pytest.fixture(scope="module")
def clips(part, voice):
    question = Path(__file__).parents[2] / "examples" / "pregunta.wav"
    return [
        encode_clip(part, question, "¿Cuál es la capital?", "es", voice),
        encode_clip(part, voice, "Esta es una voz.", "es", voice),
    ]


def test_the_loss_is_that_of_the_packages_logits(part, clips):
    """Of one clip, whose forward pass pads nothing, and with the targets one token on."""
    t3, clip = part.model.t3, clips[0]
    ours = ChatterboxModel(t3)(**collate([clip]))
    condition = part.condition(
        type("Voice", (), {"tensors": {"speaker_emb": clip["speakers"][None],
                                       "cond_prompt_speech_tokens": clip["prompts"][None]}}), 0.5
    )  # fmt: skip
    lengths = {name: torch.tensor([len(clip[name])]) for name in ("text", "codes")}
    theirs = t3(
        t3_cond=condition,
        text_tokens=clip["text"][None],
        text_token_lens=lengths["text"],
        speech_tokens=clip["codes"][None],
        speech_token_lens=lengths["codes"],
        training=True,
    )
    for name, logits, tokens in (
        ("text_loss", theirs.text_logits, clip["text"]),
        ("audio_loss", theirs.speech_logits, clip["codes"]),
    ):
        torch.testing.assert_close(ours[name], torch.nn.functional.cross_entropy(logits[0, :-1], tokens[1:]))


def test_a_batch_is_the_mean_of_its_rows(part, clips):
    model, lengths = ChatterboxModel(part.model.t3), [len(clip["codes"]) - 1 for clip in clips]
    alone = [model(**collate([clip]))["audio_loss"] for clip in clips]
    expected = sum(loss * length for loss, length in zip(alone, lengths, strict=True)) / sum(lengths)
    torch.testing.assert_close(model(**collate(clips))["audio_loss"], expected)


def test_lora_learns_and_merges(part, clips, tmp_path):
    batch, before = collate(clips), {name: each.clone() for name, each in part.model.t3.state_dict().items()}
    model = tiny_chatterbox.seeded(add_lora, part.model.t3, 4, 8, 0.0)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer, losses = torch.optim.AdamW(trained, lr=1e-3), []
    for _ in range(4):
        losses.append(model(**batch)["loss"])
        losses[-1].backward()
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < losses[0]
    with torch.no_grad():
        adapted = model(**batch)
    model.save_pretrained(tmp_path)
    t3 = model.unload().t3
    for name, each in t3.state_dict().items():
        torch.testing.assert_close(each, before[name], msg=name)  # the base weights stayed as they were
    merge_into(t3, tmp_path)
    with torch.no_grad():
        merged = ChatterboxModel(t3)(**batch)
    for name in adapted:
        torch.testing.assert_close(merged[name], adapted[name], atol=1e-4, rtol=0)
    with pytest.raises(ValueError, match="the targets are c_attn; valid are"):
        add_lora(t3, targets=("c_attn",))

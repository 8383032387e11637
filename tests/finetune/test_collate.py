"""What a training step hears and should write: the right tokens, windows that hold the speech, the same each time."""

import dataclasses

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_check_rows import RATE, speech
from transformers import WhisperForConditionalGeneration

from finetune.check import check_rows
from finetune.collate import IGNORED, Collator, Course, Draw, label
from finetune.data import Row
from finetune.features import Shards
from finetune.whisper import FULL_WINDOW, MARGIN, features_of, load_whisper, transcribe, window_for

SENTENCES = ["Hola", "¿Qué hora es?", "Mañana será otro día, dijo."]


@pytest.fixture(scope="module")
def loaded(tiny_whisper):
    return load_whisper(tiny_whisper)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    found = []
    for i, sentence in enumerate(SENTENCES):
        soundfile.write(folder / f"{i}.wav", speech(0.5 + i, i), RATE)
        found.append(Row(str(folder / f"{i}.wav"), sentence, i + 1))
    return check_rows(found, "rows", len).kept


def collated(loaded, rows, window=5.0, seed=1, **options):
    whisper, processor = loaded
    collate = Collator(processor, whisper.config, "es", **options)
    return collate([([row], Draw(i, window, seed + i)) for i, row in enumerate(rows)])


def test_labels_begin_with_the_language_and_the_start_token_is_not_doubled(loaded, rows):
    tokenizer, config = loaded[1].tokenizer, loaded[0].config
    batch = collated(loaded, rows)
    marks = tokenizer.convert_tokens_to_ids(["<|es|>", "<|transcribe|>", "<|notimestamps|>"])
    for sentence, labels, inputs in zip(SENTENCES, batch["labels"], batch["decoder_input_ids"], strict=True):
        real = labels[labels != IGNORED].tolist()
        assert real[:3] == marks and real[-1] == config.eos_token_id
        assert config.decoder_start_token_id not in real
        assert tokenizer.decode(real, skip_special_tokens=True) == " " + sentence
        assert inputs[0] == config.decoder_start_token_id and inputs[1 : len(real)].tolist() == real[:-1]
    # Whisper itself, given these labels, would put the same before its decoder.
    own = loaded[0](input_features=features_of(loaded[1], [np.zeros(100)] * 3, 5), labels=batch["labels"])
    given_inputs = loaded[0](
        input_features=features_of(loaded[1], [np.zeros(100)] * 3, 5), decoder_input_ids=batch["decoder_input_ids"]
    )
    torch.testing.assert_close(own.logits, given_inputs.logits)


@pytest.mark.slow
def test_a_share_of_rows_stands_between_timestamps(loaded, rows):
    tokenizer = loaded[1].tokenizer
    timed = collated(loaded, rows * 30, timestamps=0.5)["labels"]
    plain = tokenizer.convert_tokens_to_ids("<|notimestamps|>")
    assert 25 <= (timed == plain).any(1).sum() <= 65
    ids = label(loaded[1], [("Hola", 0, 1.5)], "es")
    assert tokenizer.convert_ids_to_tokens([ids[2], ids[-2]]) == ["<|0.00|>", "<|1.50|>"]
    assert plain not in ids and "<|30.00|>" in tokenizer.convert_ids_to_tokens(
        label(loaded[1], [("Hola", 0, 31)], "es")
    )


def test_rows_that_share_a_full_window_follow_each_other_in_time(loaded, rows):
    whisper, processor = loaded
    collate = Collator(processor, whisper.config, "es", timestamps=0.1)
    batch = collate([(rows, Draw(0, FULL_WINDOW, 1, (1, 2)))])
    tokens = processor.tokenizer.convert_ids_to_tokens(batch["labels"][0])
    times = [float(token.strip("<|>")) for token in tokens if token[2:3].isdigit()]
    assert times == sorted(times) and len(times) == 6
    spoken = [end - start for start, end in zip(times[::2], times[1::2], strict=True)]
    assert spoken == pytest.approx([row.seconds for row in rows], abs=0.03)
    assert all(0.15 < pause < 0.85 for pause in np.subtract(times[2::2], times[1:-1:2]))
    assert processor.tokenizer.decode(batch["labels"][0], skip_special_tokens=True) == "".join(
        f" {s}" for s in SENTENCES
    )
    untimed = Collator(processor, whisper.config, "es")([(rows, Draw(0, FULL_WINDOW, 1, (1, 2)))])
    assert "<|notimestamps|>" in processor.tokenizer.convert_ids_to_tokens(untimed["labels"][0])
    torch.testing.assert_close(untimed["input_features"], batch["input_features"])


def test_texts_up_to_448_tokens_are_kept(loaded, tmp_path):
    soundfile.write(tmp_path / "a.wav", speech(29), RATE)
    room = 448 - 1 - len(label(loaded[1], "", "es"))  # the tiny tokenizer has a token a letter, and a space first
    rows = [Row(str(tmp_path / "a.wav"), "a" * (room + extra), extra) for extra in (0, 1)]
    reports = [check_rows([row], "t", lambda text: 1 + len(label(loaded[1], text, "es"))) for row in rows]
    assert [len(report.kept) for report in reports] == [1, 0]
    assert reports[1].dropped == {"text too long": 1}
    assert collated(loaded, reports[0].kept, window=30)["labels"].shape[1] <= 448


@pytest.mark.slow
@settings(max_examples=50, deadline=None)
@given(
    seconds=st.lists(st.floats(0.1, 30), min_size=1, max_size=60),
    size=st.integers(1, 9),
    steps=st.integers(1, 40),
    seed=st.integers(0, 9),
    full=st.sampled_from([0.0, 0.2, 1.0]),
)
def test_a_course_is_fixed_and_its_windows_hold_the_speech(seconds, size, steps, seed, full):
    draws = list(Course(seconds, size, steps, seed, full))
    assert draws == list(Course(seconds, size, steps, seed, full)) and len(draws) == size * steps
    for start in range(0, len(draws), size):
        step = draws[start : start + size]
        assert len({draw.window for draw in step}) == 1
        longest = max(seconds[draw.index] for draw in step)
        assert step[0].window >= min(longest + MARGIN, FULL_WINDOW) or step[0].window == FULL_WINDOW
        assert full < 1 or step[0].window == FULL_WINDOW
        for draw in step:
            assert not draw.more or draw.window == FULL_WINDOW
            assert sum(seconds[i] for i in (draw.index, *draw.more)) <= FULL_WINDOW
    assert len({draw.seed for draw in draws}) == len(draws)


@given(rows=st.integers(8, 99), size=st.integers(1, 8), steps=st.integers(1, 40), seed=st.integers(0, 9))
def test_a_course_hears_all_rows_before_any_again(rows, size, steps, seed):
    draws = [draw.index for draw in Course([1.0 + i / 10 for i in range(rows)], size, steps, seed, 0.0)]
    counts = np.bincount(draws, minlength=rows)
    assert counts.max() - counts.min() <= 2  # what is left of a round begins the next
    whole = rows // size * size  # of the first round
    assert len(set(draws[:whole])) == len(draws[:whole])


def test_rows_of_a_step_have_about_the_same_length():
    windows = [draw.window for draw in Course([1.0 + i / 10 for i in range(64)], 8, 64 * 3, 0, 0.0)]
    assert np.mean(windows) < 1 + 32 / 10 + MARGIN + 1.0  # near the mean, not the longest


def test_a_window_is_what_the_library_hears_at_30_seconds(loaded, tiny_whisper):
    library = WhisperForConditionalGeneration.from_pretrained(tiny_whisper).eval()
    features = features_of(loaded[1], [speech(3)], FULL_WINDOW)
    with torch.inference_mode():
        expected = library.get_encoder()(features).last_hidden_state
        torch.testing.assert_close(loaded[0].get_encoder()(features).last_hidden_state, expected)
        short = loaded[0].get_encoder()(features_of(loaded[1], [speech(3)], 4.5)).last_hidden_state
    assert short.shape[1] == 225
    assert loaded[0].config.max_source_positions == 1500  # what is saved is an ordinary Whisper
    assert loaded[0].get_encoder().embed_positions.weight.shape[0] == 1500


@pytest.mark.parametrize("seconds, window", [(0.2, 1.5), (2.0, 3.0), (2.1, 3.5), (28.9, 30.0), (29.5, 30.0)])
def test_windows_leave_a_margin(seconds, window):
    assert window_for(seconds) == window


def test_shards_give_the_features_that_the_audio_gives(loaded, rows, tmp_path):
    shards = Shards(tmp_path / "features", rows, 2)
    shards.write(loaded[1])
    files = sorted(tmp_path.glob("features/*.safetensors"))
    assert len(files) == 2
    for window in (5.0, 30.0):
        made = collated(loaded, rows, window, features=shards)["input_features"]
        torch.testing.assert_close(made, collated(loaded, rows, window)["input_features"])
    times = [file.stat().st_mtime_ns for file in files]
    files[0].unlink()
    Shards(tmp_path / "features", rows, 2).write(loaded[1])
    again = sorted(tmp_path.glob("features/*.safetensors"))
    assert again == files and [file.stat().st_mtime_ns for file in again][1] == times[1]


@pytest.mark.slow
@pytest.mark.parametrize("option", ["noise", "speed"])
def test_augmentation_changes_some_rows_and_is_fixed_by_the_seed(loaded, rows, option):
    plain = collated(loaded, rows * 8)["input_features"]
    changed = collated(loaded, rows * 8, **{option: True})["input_features"]
    differ = (plain != changed).flatten(1).any(1)
    assert 4 <= differ.sum() <= 20
    torch.testing.assert_close(changed, collated(loaded, rows * 8, **{option: True})["input_features"])
    assert changed.isfinite().all()


@pytest.mark.slow
def test_every_audio_gets_a_transcript_however_long(loaded):
    audio = [speech(seconds, i) for i, seconds in enumerate((2.0, 0.5, 34.0, 1.0))]
    done = []
    assert all(transcribe(*loaded, audio, "es", batch_size=3, on_done=done.append))
    assert sum(done) == 4
    assert all(transcribe(*loaded, audio[:2], None, full_window=True))


def test_rows_carry_what_the_check_measured(rows):
    assert [row.seconds for row in rows] == [0.5, 1.5, 2.5]
    assert dataclasses.replace(rows[0], digest="").digest != rows[0].digest

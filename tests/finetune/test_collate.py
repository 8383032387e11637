"""Batches have the right labels and windows that hold the speech, and the schedule is deterministic."""

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
from finetune.collate import IGNORED, Collator, Sample, TrainingDataset, encode_labels, schedule_samples
from finetune.data import Row
from finetune.features import FeatureShards
from finetune.whisper import FULL_WINDOW, MARGIN, compute_features, load_whisper, transcribe, window_for

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
    return collate([([row], Sample(i, window, seed + i)) for i, row in enumerate(rows)])


def test_labels_begin_with_the_language_and_have_no_start_token(loaded, rows):
    tokenizer, config = loaded[1].tokenizer, loaded[0].config
    batch = collated(loaded, rows)
    marks = tokenizer.convert_tokens_to_ids(["<|es|>", "<|transcribe|>", "<|notimestamps|>"])
    for sentence, labels, inputs in zip(SENTENCES, batch["labels"], batch["decoder_input_ids"], strict=True):
        real = labels[labels != IGNORED].tolist()
        assert real[:3] == marks and real[-1] == config.eos_token_id
        assert config.decoder_start_token_id not in real
        assert tokenizer.decode(real, skip_special_tokens=True) == " " + sentence
        assert inputs[0] == config.decoder_start_token_id and inputs[1 : len(real)].tolist() == real[:-1]
    # Given these labels alone, Whisper would compute the same decoder inputs.
    features = compute_features(loaded[1], [np.zeros(100)] * 3, 5)
    own = loaded[0](input_features=features, labels=batch["labels"])
    given_inputs = loaded[0](input_features=features, decoder_input_ids=batch["decoder_input_ids"])
    torch.testing.assert_close(own.logits, given_inputs.logits)


@pytest.mark.slow
def test_a_share_of_the_rows_is_labeled_with_timestamps(loaded, rows):
    tokenizer = loaded[1].tokenizer
    timed = collated(loaded, rows * 30, timestamps=0.5)["labels"]
    plain = tokenizer.convert_tokens_to_ids("<|notimestamps|>")
    assert 25 <= (timed == plain).any(1).sum() <= 65
    ids = encode_labels(loaded[1], [("Hola", 0, 1.5)], "es")
    assert tokenizer.convert_ids_to_tokens([ids[2], ids[-2]]) == ["<|0.00|>", "<|1.50|>"]
    assert plain not in ids and "<|30.00|>" in tokenizer.convert_ids_to_tokens(
        encode_labels(loaded[1], [("Hola", 0, 31)], "es")
    )


def test_rows_that_share_a_full_window_follow_each_other_in_time(loaded, rows):
    whisper, processor = loaded
    collate = Collator(processor, whisper.config, "es", timestamps=0.1)
    batch = collate([(rows, Sample(0, FULL_WINDOW, 1, (1, 2)))])
    tokens = processor.tokenizer.convert_ids_to_tokens(batch["labels"][0])
    times = [float(token.strip("<|>")) for token in tokens if token[2:3].isdigit()]
    assert times == sorted(times) and len(times) == 6
    spoken = [end - start for start, end in zip(times[::2], times[1::2], strict=True)]
    assert spoken == pytest.approx([row.seconds for row in rows], abs=0.03)
    assert all(0.15 < pause < 0.85 for pause in np.subtract(times[2::2], times[1:-1:2]))
    assert processor.tokenizer.decode(batch["labels"][0], skip_special_tokens=True) == "".join(
        f" {s}" for s in SENTENCES
    )
    untimed = Collator(processor, whisper.config, "es")([(rows, Sample(0, FULL_WINDOW, 1, (1, 2)))])
    assert "<|notimestamps|>" in processor.tokenizer.convert_ids_to_tokens(untimed["labels"][0])
    torch.testing.assert_close(untimed["input_features"], batch["input_features"])


def test_texts_up_to_448_tokens_are_kept(loaded, tmp_path):
    soundfile.write(tmp_path / "a.wav", speech(29), RATE)
    room = 448 - 1 - len(encode_labels(loaded[1], "", "es"))  # the tiny tokenizer has one token per letter
    rows = [Row(str(tmp_path / "a.wav"), "a" * (room + extra), extra) for extra in (0, 1)]
    reports = [check_rows([row], "t", lambda text: 1 + len(encode_labels(loaded[1], text, "es"))) for row in rows]
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
def test_a_schedule_is_deterministic_and_its_windows_hold_the_speech(seconds, size, steps, seed, full):
    samples = list(schedule_samples(seconds, size, steps, seed, full))
    assert samples == list(schedule_samples(seconds, size, steps, seed, full)) and len(samples) == size * steps
    for start in range(0, len(samples), size):
        step = samples[start : start + size]
        assert len({sample.window for sample in step}) == 1
        longest = max(seconds[sample.index] for sample in step)
        assert step[0].window >= min(longest + MARGIN, FULL_WINDOW) or step[0].window == FULL_WINDOW
        assert full < 1 or step[0].window == FULL_WINDOW
        for sample in step:
            assert not sample.followers or sample.window == FULL_WINDOW
            assert sum(seconds[i] for i in (sample.index, *sample.followers)) <= FULL_WINDOW
    assert len({sample.seed for sample in samples}) == len(samples)


@given(rows=st.integers(8, 99), size=st.integers(1, 8), steps=st.integers(1, 40), seed=st.integers(0, 9))
def test_a_schedule_uses_every_row_before_repeating_any(rows, size, steps, seed):
    seconds = [1.0 + i / 10 for i in range(rows)]
    indices = [sample.index for sample in schedule_samples(seconds, size, steps, seed, 0.0)]
    counts = np.bincount(indices, minlength=rows)
    assert counts.max() - counts.min() <= 2  # the rest of an epoch begins the next
    whole = rows // size * size  # of the first epoch
    assert len(set(indices[:whole])) == len(indices[:whole])


def test_the_rows_of_a_step_have_similar_lengths():
    windows = [sample.window for sample in schedule_samples([1.0 + i / 10 for i in range(64)], 8, 64 * 3, 0, 0.0)]
    assert np.mean(windows) < 1 + 32 / 10 + MARGIN + 1.0  # near the mean, not the longest


def test_the_full_window_is_encoded_as_in_transformers(loaded, tiny_whisper):
    library = WhisperForConditionalGeneration.from_pretrained(tiny_whisper).eval()
    features = compute_features(loaded[1], [speech(3)], FULL_WINDOW)
    with torch.inference_mode():
        expected = library.get_encoder()(features).last_hidden_state
        torch.testing.assert_close(loaded[0].get_encoder()(features).last_hidden_state, expected)
        short = loaded[0].get_encoder()(compute_features(loaded[1], [speech(3)], 4.5)).last_hidden_state
    assert short.shape[1] == 225
    assert loaded[0].config.max_source_positions == 1500  # so that an ordinary Whisper is saved
    assert loaded[0].get_encoder().embed_positions.weight.shape[0] == 1500


@pytest.mark.parametrize("seconds, window", [(0.2, 1.5), (2.0, 3.0), (2.1, 3.5), (28.9, 30.0), (29.5, 30.0)])
def test_windows_leave_a_margin(seconds, window):
    assert window_for(seconds) == window


def test_shards_hold_the_features_of_the_audio(loaded, rows, tmp_path):
    shards = FeatureShards(tmp_path / "features", rows, 2)
    shards.write(loaded[1])
    files = sorted(tmp_path.glob("features/*.safetensors"))
    assert len(files) == 2
    for window in (5.0, 30.0):
        made = collated(loaded, rows, window, features=shards)["input_features"]
        torch.testing.assert_close(made, collated(loaded, rows, window)["input_features"])
    times = [file.stat().st_mtime_ns for file in files]
    files[0].unlink()
    FeatureShards(tmp_path / "features", rows, 2).write(loaded[1])
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
def test_audio_of_any_length_is_transcribed(loaded):
    audio = [speech(seconds, i) for i, seconds in enumerate((2.0, 0.5, 34.0, 1.0))]
    done = []
    assert all(transcribe(*loaded, audio, "es", batch_size=3, on_done=done.append))
    assert sum(done) == 4
    assert all(transcribe(*loaded, audio[:2], None, full_window=True))


def test_checked_rows_have_a_duration_and_a_digest(rows):
    assert [row.seconds for row in rows] == [0.5, 1.5, 2.5]
    assert dataclasses.replace(rows[0], digest="").digest != rows[0].digest


def test_the_training_dataset_is_the_schedule(rows):
    samples = [Sample(2, 5.0, 7), Sample(0, FULL_WINDOW, 8, (1, 2))]
    dataset = TrainingDataset(rows, iter(samples))
    assert len(dataset) == 2
    assert dataset[0] == ([rows[2]], samples[0]) and dataset[1] == ([rows[0], rows[1], rows[2]], samples[1])

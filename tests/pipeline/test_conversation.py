"""A conversation remembers what was asked and heard, and no more than the model can read."""

import json

import numpy as np
import pytest
from conftest import EXAMPLES
from own_parts import ANSWER, PHRASES, QUESTION, Talker

from hfpipe.pipeline.llm_local import FORGOTTEN_TURNS, LLM


class Parrot(Talker):
    """It keeps the histories that it was given."""

    def __init__(self, **options):
        super().__init__(**options)
        self.histories, self.prompts = [], []

    def __call__(self, question, language, on_text=None, history=None, system_prompt=None):
        self.histories.append(history)
        self.prompts.append(system_prompt)
        return super().__call__(question, language, on_text)


@pytest.mark.slow
def test_turns_are_remembered_in_chat_format(make):
    parrot = Parrot()
    chat = make(parrot).conversation(system_prompt="Sé breve.")
    first, *_, done = chat(QUESTION), *chat.stream(QUESTION)
    asked = {"role": "user", "content": first["question"]}
    turn = [asked, {"role": "assistant", "content": ANSWER}]
    assert done.result["answer"] == ANSWER and chat.history == turn * 2
    assert parrot.histories == [[], turn] and parrot.prompts == ["Sé breve."] * 2
    again = make(parrot).conversation(history=chat.to_json())
    again(QUESTION, system_prompt="Otra.")
    assert parrot.histories[-1] == turn * 2 and json.loads(again.to_json()) == turn * 3
    assert parrot.prompts[-1] == "Otra." and len(chat.history) == 4


def test_of_an_interrupted_answer_what_was_heard_is_remembered(make):
    chat = make().conversation()
    stream = chat.stream(QUESTION)
    next(event for event in stream if event.type == "audio")
    assert chat.history == []
    stream.cancel()
    assert [turn["content"] for turn in chat.history][1:] == [PHRASES[0] + "…"]
    stream = chat.stream(QUESTION)
    next(stream)
    stream.cancel()
    assert [turn["content"] for turn in chat.history][3:] == ["…"]
    assert [turn["role"] for turn in chat.history] == ["user", "assistant"] * 2


def test_a_turn_that_fails_is_not_remembered(make):
    chat = make(Talker(fails_at=4)).conversation()
    for ask in (chat, lambda audio: list(chat.stream(audio))):
        with pytest.raises(RuntimeError, match="tongue"):
            ask(QUESTION)
    with pytest.raises(ValueError, match="no speech"):
        chat({"array": np.zeros(16_000, np.float32), "sampling_rate": 16_000})
    assert chat.history == []


def test_what_the_model_cannot_read_is_left_out_by_whole_turns(tiny_chat, monkeypatch):
    llm = LLM.from_pretrained(tiny_chat)
    read, limit = [], 700
    monkeypatch.setattr(llm.model.config, "max_position_embeddings", limit)
    prompt = llm._prompt

    def watched(question, system_prompt, history, language, begin_answer=True):
        if question == "¿Y?" and begin_answer:
            read.append(history)
        return prompt(question, system_prompt, history, language, begin_answer)

    monkeypatch.setattr(llm, "_prompt", watched)
    roles = ("user", "assistant")
    history = [{"role": roles[i % 2], "content": f"turno {i}"} for i in range(60)]
    for length in range(0, 61, 2):
        read.clear()
        llm("¿Y?", system_prompt="Sé breve.", history=history[:length], max_new_tokens=4)
        kept = read[-1]
        assert kept == history[:length][len(history[:length]) - len(kept) :]
        assert (length - len(kept)) % FORGOTTEN_TURNS == 0 and (not kept or kept[0]["role"] == "user")
        assert len(read) == 1 or len(read[-2]) - len(kept) == FORGOTTEN_TURNS  # no more than had to
    assert 0 < len(kept) < 60
    with pytest.raises(ValueError, match="the model takes 700 in all. Shorten the question"):
        llm("palabra " * 200, max_new_tokens=4)


def test_the_voice_and_the_files_of_a_conversation(voice_qa):
    chat = voice_qa.conversation(max_new_tokens=4)
    result = chat(EXAMPLES / "pregunta.wav")
    assert len(result["audio"]) and len(chat.history) == 2

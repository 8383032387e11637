"""Chat completions, with the official client."""

import base64

import openai
import pytest
from own_parts import ANSWER, QUESTION, Talker, Whistle

from hfpipe.pipeline.audio import load_audio

SPOKEN = base64.b64encode(open(QUESTION, "rb").read()).decode()
ASKED = [{"role": "user", "content": "¿Cuál es la capital de Francia?"}]
ASKED_ALOUD = [
    {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": SPOKEN, "format": "wav"}}]}
]
ALOUD = {"modalities": ["text", "audio"], "audio": {"format": "wav", "voice": "alloy"}}


class Listener(Talker):
    """A talker that notes what it is asked."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def __call__(self, question, language, on_text=None, history=None):
        self.asked.append((question, history))
        return super().__call__(question, language, on_text)


def test_text_to_text(client):
    answer = client.chat.completions.create(model="gpt-5", messages=ASKED, max_tokens=12)
    [choice] = answer.choices
    assert choice.message.content and choice.message.audio is None
    assert choice.finish_reason == "length", "the tiny model writes until it has no tokens left"
    assert answer.model == "tiny" and answer.usage.completion_tokens > 0
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_text_is_streamed(make, client):
    make()
    chunks = list(
        client.chat.completions.create(
            model="", messages=ASKED, stream=True, stream_options={"include_usage": True}, temperature=0.5
        )
    )
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(each.choices[0].delta.content or "" for each in chunks if each.choices) == ANSWER
    assert chunks[-2].choices[0].finish_reason == "stop" and chunks[-1].usage.completion_tokens > 0


def test_a_stream_says_that_it_reached_the_limit(client):
    [*_, last] = client.chat.completions.create(model="", messages=ASKED, stream=True, max_tokens=5)
    assert last.choices[0].finish_reason == "length"


def test_audio_in_and_out(client, voice_qa):
    answer = client.chat.completions.create(model="", messages=ASKED_ALOUD, max_tokens=12, **ALOUD)
    spoken = answer.choices[0].message.audio
    samples, rate = load_audio(base64.b64decode(spoken.data))
    assert len(samples) > 1000 and rate == 24_000
    expected = voice_qa(QUESTION, max_new_tokens=12)
    assert spoken.transcript == expected["answer"]


def test_audio_is_streamed(make, client):
    make(tts=Whistle())
    audio = {"format": "pcm16", "voice": "default"}
    chunks = client.chat.completions.create(
        model="", messages=ASKED_ALOUD, stream=True, modalities=["text", "audio"], audio=audio
    )
    pieces = [each.choices[0].delta.audio for each in chunks if each.choices and each.choices[0].delta.audio]
    assert pieces[0].id and pieces[-1].expires_at and pieces[-1].id is None
    assert "".join(each.transcript or "" for each in pieces) == ANSWER
    sound = b"".join(base64.b64decode(each.data) for each in pieces if each.data)
    pauses = 0.1 + 0.2 * 2  # after a clause, and after two sentences
    assert len(sound) / 2 / 24_000 == pytest.approx((len(ANSWER) - 3) / 100 + pauses, abs=0.2)
    # The words come before all of the sound is there.
    first_sound = next(i for i, each in enumerate(pieces) if each.data)
    assert any(each.transcript for each in pieces[first_sound:])


def test_an_earlier_spoken_answer_is_known_by_its_id(make, client):
    llm = Listener()
    make(llm=llm)
    first = client.chat.completions.create(model="", messages=ASKED, **ALOUD)
    said = {"role": "assistant", "audio": {"id": first.choices[0].message.audio.id}}
    client.chat.completions.create(model="", messages=[*ASKED, said, {"role": "user", "content": "¿Y de España?"}])
    question, history = llm.asked[-1]
    assert question == "¿Y de España?"
    assert [turn["content"] for turn in history] == [ASKED[0]["content"], ANSWER]
    with pytest.raises(openai.BadRequestError, match="no spoken answer"):
        client.chat.completions.create(model="", messages=[{"role": "assistant", "audio": {"id": "audio_0"}}, *ASKED])


def test_a_system_turn_and_parts_of_text(make, client):
    llm = Listener()
    make(llm=llm)
    parts = [{"type": "text", "text": "uno"}, {"type": "text", "text": "dos"}]
    client.chat.completions.create(
        model="", messages=[{"role": "system", "content": "breve"}, {"role": "user", "content": parts}]
    )
    question, history = llm.asked[-1]
    assert question == "uno\ndos" and history == [{"role": "system", "content": "breve"}]


@pytest.mark.parametrize(
    "messages, options, words",
    [
        ([{"role": "assistant", "content": "hola"}], {}, "the last message is of role 'assistant'"),
        ([{"role": "user", "content": ""}], {}, "ask something"),
        (
            [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x/y.png"}}]}],
            {},
            "no text",
        ),
        ([{"role": "tool", "content": "x"}, *ASKED], {}, "history has the turn"),
        (ASKED, {"n": 2}, "n"),
        (ASKED, {"stop": ["."]}, "stop"),
        (ASKED, {"tools": [{"type": "function", "function": {"name": "f"}}]}, "calls no tools"),
        (ASKED, {"response_format": {"type": "json_object"}}, "response_format"),
        (ASKED, {"modalities": ["audio"]}, "audio"),
        (ASKED, {"extra_body": {"language": "tlh"}}, "language"),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_reason(client, messages, options, words):
    with pytest.raises(openai.BadRequestError, match=words) as refused:
        client.chat.completions.create(model="", messages=messages, **options)
    assert set(refused.value.body) == {"message", "type", "param", "code"}
    assert refused.value.type == "invalid_request_error"


def test_an_error_amid_a_stream_is_an_error_of_the_client(make, client):
    make(llm=Talker(fails_at=3))
    with pytest.raises(openai.APIError, match="RuntimeError in the server"):
        list(client.chat.completions.create(model="", messages=ASKED, stream=True))


@pytest.mark.parametrize("error, status", [(ConnectionError, 502), (TimeoutError, 504)])
def test_a_remote_llm_that_is_away_is_no_fault_of_this_server(make, client, error, status):
    """The client learns nothing of where it is, and may try again."""

    class Away(Talker):
        def __call__(self, question, language, on_text=None, history=None):
            raise error("the LLM at http://10.0.0.7:8000/v1 can't be reached")

    make(llm=Away())
    with pytest.raises(openai.InternalServerError) as refused:
        client.chat.completions.create(model="", messages=ASKED)
    assert refused.value.status_code == status and "10.0.0.7" not in str(refused.value)
    assert refused.value.type == "server_error"

"""Many clients at once: each gets what it gets alone, those who talk go before bulk work, and nothing is left over."""

import asyncio
import io
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import openai
import pytest
import soundfile
import torch
from conftest import BYTES, all_but_letters
from hypothesis import given, settings
from hypothesis import strategies as st
from own_parts import QUESTION, Whistle, wait_until
from transformers import (
    AutoTokenizer,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GenerationConfig,
    MambaConfig,
    MambaForCausalLM,
)

import hfpipe
from hfpipe.pipeline.engine_cancel import Cancelled, CancelToken, cancel_scope
from hfpipe.pipeline.llm_local import LLM
from hfpipe.server import work as work_module
from hfpipe.server.llm_batcher import MAX_TOKENS, batched, is_batched
from hfpipe.server.stages import Stage
from hfpipe.server.work import WorkQueue

from .serving import running

pytestmark = pytest.mark.slow

WINDOW = 8  # tokens that some of the tiny Gemma's layers attend to
ROWS = 6


@pytest.fixture(scope="module")
def gemma(tiny_chat) -> LLM:
    """A tiny Gemma 3, whose layers attend to a window and to all tokens in turn, in float32."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_chat)
    torch.manual_seed(0)
    kinds = ["sliding_attention", "full_attention"]
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "num_key_value_heads": 1}
    config = Gemma3TextConfig(
        vocab_size=len(tokenizer), num_hidden_layers=2, layer_types=kinds, sliding_window=WINDOW, head_dim=8, **sizes
    )
    model = Gemma3ForCausalLM(config)
    model.generation_config = GenerationConfig.from_pretrained(tiny_chat)
    return writing_words(LLM(model, tokenizer))


@pytest.fixture(scope="module")
def llama(tiny_chat) -> LLM:
    """A tiny Llama in float32."""
    return writing_words(LLM.from_pretrained(tiny_chat, precision="float32"))


def writing_words(llm: LLM) -> LLM:
    """Let a tiny model write spaces and periods as well, so that its answer is passed on before its end."""
    spared = {BYTES.index("Ġ"), BYTES.index(".")}
    llm.model.generation_config.suppress_tokens = all_but_letters(llm.model.config.vocab_size, spared)
    return llm


@pytest.fixture(scope="module", params=["gemma", "llama"])
def alone_and_together(request) -> tuple[LLM, LLM]:
    """A language model, and one on the same weights whose calls share their passes."""
    alone = request.getfixturevalue(request.param)
    together = batched(alone)
    assert is_batched(together) and not is_batched(alone)
    return alone, together


def ask(llm, words: str, tokens: int, seconds: float = 0.0, leaves_after: int | None = None, **options):
    """Answer after some seconds, and return the text, or None if it was cancelled after some pieces of it."""
    token, pieces = CancelToken(), []

    def read(text: str) -> None:
        pieces.append(text)
        if len(pieces) == leaves_after:
            token.cancel()

    time.sleep(seconds)
    try:
        with cancel_scope(token):
            answer = llm(words, max_new_tokens=tokens, on_text=read, **options)
    except Cancelled:
        return None
    assert "".join(pieces) == answer
    return answer


CALLS = st.lists(
    st.tuples(
        st.text("abc dé¿?", min_size=1, max_size=40).filter(str.strip),
        st.integers(1, 24),
        st.sampled_from([0.0, 0.0, 0.002, 0.02]),
        st.sampled_from([None, None, None, 1]),
    ),
    min_size=2,
    max_size=ROWS,
)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(calls=CALLS)
def test_answers_together_are_those_alone(alone_and_together, calls):
    """Whatever their lengths, when they come, and which of them leave."""
    alone, together = alone_and_together
    with ThreadPoolExecutor(len(calls)) as pool:
        found = list(pool.map(lambda call: ask(together, *call), calls))
    for (words, tokens, _, leaves_after), answer in zip(calls, found, strict=True):
        assert answer == ask(alone, words, tokens, leaves_after=leaves_after)


def test_answers_do_share_passes_and_keep_their_own_histories(alone_and_together):
    alone, together = alone_and_together
    histories = [
        [{"role": "user", "content": f"pregunta {i}" * (i + 1)}, {"role": "assistant", "content": "sí"}]
        for i in range(ROWS)
    ]
    expected = [ask(alone, "¿y?", 30, history=history) for history in histories]
    passes = []
    hook = together.model.lm_head.register_forward_pre_hook(lambda module, inputs: passes.append(inputs[0].shape[1]))
    with ThreadPoolExecutor(ROWS) as pool:
        found = list(pool.map(lambda history: ask(together, "¿y?", 30, history=history), histories))
    hook.remove()
    assert found == expected and max(passes) == ROWS
    assert len(passes) < 30 * ROWS / 2


def test_a_long_prompt_is_read_in_pieces_and_drawn_answers_differ(alone_and_together):
    alone, together = alone_and_together
    words = "muy largo " * (MAX_TOKENS // 8)
    assert ask(together, words, 12) == ask(alone, words, 12)
    drawn = {ask(together, "hola", 24, do_sample=True, temperature=2.0) for _ in range(4)}
    assert len(drawn) > 1


def test_who_leaves_does_not_hold_up_the_others(llama):
    together, token = batched(llama), CancelToken()
    reached, held = threading.Event(), threading.Event()

    def stay(text: str) -> None:
        reached.set()
        held.wait(10)  # as somebody who speaks, or doesn't read

    def leave() -> None:
        with cancel_scope(token):
            together("hola", max_new_tokens=2000, system_prompt="")

    with ThreadPoolExecutor(3) as pool:
        staying = pool.submit(together, "uno", max_new_tokens=24, on_text=stay)
        leaving = pool.submit(leave)
        assert reached.wait(10)
        start = time.monotonic()
        assert pool.submit(ask, together, "dos", 24).result(10) == ask(llama, "dos", 24)
        assert time.monotonic() - start < 5
        token.cancel()
        start = time.monotonic()
        with pytest.raises(Cancelled):
            leaving.result(10)
        assert time.monotonic() - start < 1
        held.set()
        assert staying.result(10) == llama("uno", max_new_tokens=24)


def test_a_pass_that_fails_fails_those_in_it_and_no_later_one(llama, monkeypatch):
    together = batched(llama)
    expected = llama("hola", max_new_tokens=8)
    with monkeypatch.context() as patch:
        patch.setattr(together.model.forward, "_pass_for", lambda rows: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            together("hola", max_new_tokens=8)
    assert together("hola", max_new_tokens=8) == expected


def test_what_cannot_be_batched_is_left_as_it_is(tiny_text2text, tiny_chat):
    text2text = LLM.from_pretrained(tiny_text2text)
    assert batched(text2text) is text2text
    own = object()
    assert batched(own) is own
    tokenizer = AutoTokenizer.from_pretrained(tiny_chat)
    sizes = {"hidden_size": 16, "state_size": 4, "num_hidden_layers": 1, "vocab_size": len(tokenizer)}
    mamba = LLM(MambaForCausalLM(MambaConfig(**sizes)), tokenizer)
    assert batched(mamba) is mamba


def test_a_stage_computes_for_one_at_a_time_in_order_and_not_for_who_left():
    stage, held, done = Stage("test"), threading.Event(), []
    token = CancelToken()

    def leave() -> None:
        with cancel_scope(token):
            stage.run(done.append, "left")

    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(stage.run, held.wait, 10)
        time.sleep(0.05)
        left = pool.submit(leave)
        time.sleep(0.05)
        last = pool.submit(stage.run, done.append, "last")
        token.cancel()
        with pytest.raises(Cancelled):
            left.result(5)
        assert not done
        held.set()
        assert first.result(5) and last.result(5) is None
    assert done == ["last"]


def test_bulk_work_gives_way_between_its_pieces():
    async def record() -> list[str]:
        work, done = WorkQueue(1, 10, 5), []
        talks, first_piece = threading.Event(), threading.Event()

        def produce(emit) -> None:
            for piece in range(3):
                done.append(f"piece {piece}")
                first_piece.set()
                emit(piece)

        async def transcribe() -> None:
            async for _ in work.stream("bulk", produce, is_bulk=True):
                pass

        def talk() -> None:
            talks.wait(10)
            done.append("answer")

        talking = asyncio.create_task(work.run("somebody", talk))
        await asyncio.sleep(0.1)
        bulk = [asyncio.create_task(transcribe()) for _ in range(2)]
        await asyncio.sleep(0.3)
        assert not first_piece.is_set() and (work.running, work.waiting) == (2, 1)
        talks.set()
        await asyncio.gather(talking, *bulk)
        assert (work.running, work.waiting) == (0, 0)
        work.close()
        return done

    assert asyncio.run(record()) == ["answer", *(2 * [f"piece {i}" for i in range(3)])]


def test_bulk_work_ends_even_where_somebody_always_talks(monkeypatch):
    monkeypatch.setattr(work_module, "MAX_WAY_SECONDS", 0.1)

    async def record() -> str:
        work, held = WorkQueue(1, 10, 5), threading.Event()
        talking = asyncio.create_task(work.run("somebody", held.wait))
        await asyncio.sleep(0.05)
        result = await asyncio.wait_for(work.run("bulk", lambda: "done", is_bulk=True), 5)
        held.set()
        await talking
        work.close()
        return result

    assert asyncio.run(record()) == "done"


def test_bulk_work_that_fills_its_queue_keeps_nobody_else_out():
    async def fill() -> str:
        work, held = WorkQueue(1, 1, 5), threading.Event()
        bulk = [asyncio.create_task(work.run("bulk", held.wait, is_bulk=True)) for _ in range(3)]
        await asyncio.sleep(0.05)
        assert not work.is_full
        served = await work.run("somebody", lambda: "served")
        held.set()
        results = await asyncio.gather(*bulk, return_exceptions=True)
        assert [type(each).__name__ for each in results] == ["bool", "bool", "ApiError"]
        work.close()
        return served

    assert asyncio.run(fill()) == "served"


def test_many_at_once_each_get_their_own_answer(tiny_whisper, tiny_chat, tmp_path):
    """What is heard, thought and said is what each gets alone: turns, chats and transcriptions, in float32."""
    pipe = hfpipe.load(str(tiny_whisper), llm=str(tiny_chat), tts=Whistle(), precision="float32")  # VITS draws lengths
    samples, rate = soundfile.read(QUESTION, dtype="float32")
    with running(pipe, tmp_path) as server, ThreadPoolExecutor(24) as pool:
        client = server.client()

        def call(number: int) -> tuple:
            kind, number = number % 3, number // 3
            buffer = io.BytesIO()
            soundfile.write(buffer, samples[number * 1500 :] * (1 - 0.05 * number), rate, format="WAV")
            if kind == 0:
                answer = httpx.post(f"{server.url}/", files={"audio": buffer.getvalue()}, timeout=60).json()
                return answer["input"], answer["text"], len(answer["audio"])
            if kind == 1:
                asked = [{"role": "user", "content": f"pregunta {number}"}]
                return client.chat.completions.create(model="", messages=asked).choices[0].message.content
            return client.audio.transcriptions.create(model="", file=buffer.getvalue(), language="es").text

        alone = [call(number) for number in range(24)]
        assert len(set(alone)) == 3  # one of each kind: what tiny models write hardly depends on what they are asked
        found = list(pool.map(call, range(24)))
        assert wait_until(lambda: not server.service.work.running)
        metrics = httpx.get(f"{server.url}/metrics").text
    assert found == alone
    assert re.search(r"hfpipe_requests_waiting 0.0", metrics)


def test_too_long_a_conversation_is_refused(client):
    with pytest.raises(openai.BadRequestError, match="60000 characters"):
        client.chat.completions.create(model="", messages=[{"role": "user", "content": "a" * 60_000}])


def test_what_is_said_at_length_is_heard_while_somebody_asks(server):
    """A long recording's silence isn't searched with the model that everybody waits for."""
    long = io.BytesIO()
    soundfile.write(long, np.tile(soundfile.read(QUESTION, dtype="float32")[0], 20), 16_000, format="FLAC")
    with ThreadPoolExecutor(1) as pool:
        transcribing = pool.submit(server.client().audio.transcriptions.create, model="", file=long.getvalue())
        answer = httpx.post(f"{server.url}/", files={"audio": open(QUESTION, "rb").read()}, timeout=60)
        assert answer.status_code == 200
        assert transcribing.result(60).text

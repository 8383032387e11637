"""One pipeline serves many threads and tasks: what each gets is what it gets alone, and nothing is left behind."""

import asyncio
import contextlib
import copy
import gc
import multiprocessing
import os
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psutil
import pytest
import soxr
from conftest import EXAMPLES
from own_parts import QUESTION, wait_until

import hfpipe
from hfpipe.pipeline.audio_vad import find_speech, new_detector
from hfpipe.pipeline.cpu_threads import refuse_forked_process
from hfpipe.pipeline.engine_cancel import Cancelled, CancelToken, cancel_scope
from hfpipe.pipeline.memo import Memo

pytestmark = pytest.mark.usefixtures("no_thread_is_left")
VOICE = str(EXAMPLES / "voz.wav")


def same(one: dict, other: dict) -> bool:
    texts = all(one[name] == other[name] for name in ("question", "answer", "language", "sampling_rate", "cloned"))
    return texts and np.array_equal(one["audio"], other["audio"])


def fasters(audio: np.ndarray, rate: int) -> list[dict]:
    """A few questions of one: a little faster or slower, louder or softer."""
    speeds = (1.0, 0.96, 1.05)
    return [{"array": soxr.resample(audio, rate, rate * speed), "sampling_rate": rate} for speed in speeds]


def call_from_threads(pipe, questions: list, options: list[dict], threads: int, calls: int) -> None:
    """Check that calls from threads, and from asyncio's, return what they return alone."""
    alone = [pipe(question, **given) for question, given in zip(questions, options, strict=True)]
    work = [i % len(questions) for i in range(threads * calls)]
    random.Random(0).shuffle(work)

    def check(i: int) -> None:
        assert same(pipe(questions[i], **options[i]), alone[i])

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(check, work))

    async def ask_all() -> None:
        await asyncio.gather(*(asyncio.to_thread(check, i) for i in work[: len(work) // 4]))

    asyncio.run(ask_all())


def stream_from_threads(pipe, questions: list, options: list[dict], threads: int, streams: int) -> None:
    """Check that streams which run to their end give what they give alone, whatever others cancel."""
    alone = [
        list(pipe.stream(question, **given))[-1].result for question, given in zip(questions, options, strict=True)
    ]

    def check(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(streams):
            i = chance.randrange(len(questions))
            stream, events = pipe.stream(questions[i], **options[i]), chance.choice((0, 1, 3, 8, None, None))
            for count, _event in enumerate(stream):
                if count == events:
                    stream.cancel()
            assert events is not None or same(stream.result, alone[i])

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(check, range(threads)))

    async def ask(i: int) -> None:
        async for event in pipe.stream(questions[i], **options[i]):
            last = event
        assert same(last.result, alone[i])

    async def ask_all() -> None:
        await asyncio.gather(*map(ask, range(len(questions))))

    asyncio.run(ask_all())


@pytest.fixture(scope="module")
def xtts_pipe(tiny_whisper, tiny_chat, tiny_xtts):
    greedy = {"do_sample": False, "max_new_tokens": 12}
    pipe = hfpipe.load(str(tiny_whisper), llm=str(tiny_chat), tts=str(tiny_xtts), precision="float32")
    return pipe, {"max_new_tokens": 8, "tts_kwargs": greedy}


@pytest.mark.slow
def test_calls_and_streams_of_many_threads_are_those_of_one(xtts_pipe, spoken):
    pipe, given = xtts_pipe
    questions = fasters(*spoken)
    options = [given, {**given, "speaker_wav": VOICE}, {**given, "speaker": "Luis", "language": None}]
    call_from_threads(pipe, questions, options, threads=4, calls=3)
    options[2] = {**given, "speaker": "Luis"}
    stream_from_threads(pipe, questions, options, threads=3, streams=3)


@pytest.mark.offline
@pytest.mark.slow
def test_the_offline_repo_serves_many_threads(offline_pipe, spoken):
    """As it is loaded by default, in whichever precision is fastest here."""
    pipe = offline_pipe
    questions = fasters(*spoken)
    options = [{}, {"speaker_wav": VOICE}, {"speaker": pipe.tts.speakers[1], "language": None}]
    call_from_threads(pipe, questions, options, threads=4, calls=1)
    stream_from_threads(pipe, questions, [*options[:2], {"speaker": pipe.tts.speakers[1]}], threads=4, streams=1)


@pytest.mark.slow
def test_the_speech_detector_is_used_by_one_at_a_time(spoken):
    """silero-vad keeps state in its model: unguarded, four threads in it end the process."""
    samples = soxr.resample(*spoken, 16_000)
    alone = find_speech(samples)
    with ThreadPoolExecutor(8) as pool:
        assert all(found == alone for found in pool.map(lambda _: find_speech(samples), range(40)))
        detectors = list(pool.map(lambda _: new_detector(), range(8)))
    assert len(set(map(id, detectors))) == 8


@pytest.mark.slow
def test_one_cancelled_stream_leaves_the_others_alone(xtts_pipe):
    pipe, given = xtts_pipe
    streams = [pipe.stream(QUESTION, **given) for _ in range(3)]
    for stream in streams:
        next(stream)
    streams[1].cancel()
    for stream in (streams[0], streams[2]):
        assert [*stream][-1].type == "done"
    assert list(streams[1]) == []


def test_a_cancelled_task_stops_its_stream(make):
    from own_parts import Talker

    talker = Talker()
    talker.leave = threading.Semaphore(2)
    stream = make(talker).stream(QUESTION)

    async def interrupted() -> None:
        async def read() -> None:
            async for _ in stream:
                pass

        task = asyncio.create_task(read())
        await asyncio.sleep(0.5)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(interrupted())
    assert list(stream) == []


@pytest.mark.slow
def test_a_voice_is_resolved_once_for_a_request(voice_qa, tiny_xtts, monkeypatch, voice):
    tts, resolved = hfpipe.load_tts(str(tiny_xtts)), []
    monkeypatch.setattr(voice_qa, "tts", tts)
    resolve = type(tts).resolve_voice
    monkeypatch.setattr(
        type(tts), "resolve_voice", lambda self, *given: resolved.append(given) or resolve(self, *given)
    )
    monkeypatch.setattr(voice_qa, "llm", lambda question, **options: "Uno, dos y tres. Cuatro y cinco. Seis y siete.")
    options = {"speaker_wav": voice, "tts_kwargs": {"max_new_tokens": 4}}
    voice_qa([QUESTION, QUESTION], batch_size=2, **options)
    list(voice_qa.stream(QUESTION, **options))
    assert len(resolved) == 2


@pytest.mark.slow
def test_a_voice_may_be_named_among_the_voices_own_options(voice_qa, tiny_xtts, monkeypatch):
    monkeypatch.setattr(voice_qa, "tts", hfpipe.load_tts(str(tiny_xtts), precision="float32"))
    given = {"do_sample": False, "max_new_tokens": 6}
    named = voice_qa(QUESTION, max_new_tokens=3, speaker="Luis", tts_kwargs=given)
    among = voice_qa(QUESTION, max_new_tokens=3, tts_kwargs={**given, "speaker": "Luis"})
    assert np.array_equal(named["audio"], among["audio"])
    assert not np.array_equal(named["audio"], voice_qa(QUESTION, max_new_tokens=3, tts_kwargs=given)["audio"])


def test_saving_leaves_the_pipeline_as_it_is(voice_qa, tmp_path):
    parts = (voice_qa.model, voice_qa.llm.model, voice_qa.tts.pipe.model)
    tokenizers = (voice_qa.tokenizer, voice_qa.llm.tokenizer, voice_qa.tts.pipe.tokenizer)

    def state():
        configs = [copy.deepcopy(part.config.to_dict()) for part in parts]
        generation = [copy.deepcopy(part.generation_config.to_dict()) for part in parts[:2]]
        settings = [copy.deepcopy(tokenizer.init_kwargs) for tokenizer in tokenizers]
        padding = [getattr(getattr(each, "backend_tokenizer", None), "padding", None) for each in tokenizers]
        return configs, generation, settings, padding

    voice_qa([QUESTION, QUESTION], batch_size=2, max_new_tokens=3)
    before = state()
    voice_qa.save_pretrained(tmp_path)
    assert state() == before


def _compute_in_child(queue) -> None:
    try:
        refuse_forked_process()
        queue.put("computed")
    except RuntimeError as error:
        queue.put(str(error))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_is_refused_and_says_what_to_do(voice_qa):
    voice_qa(QUESTION, max_new_tokens=2)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_compute_in_child, args=(queue,))
    child.start()
    answer = queue.get(timeout=20)
    child.join()
    assert "was forked after hfpipe had computed" in answer and "spawn" in answer


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_pipeline_is_refused_and_does_not_hang(voice_qa):
    voice_qa(QUESTION, max_new_tokens=2)
    child = os.fork()
    if child == 0:  # whatever happens, this process must not go on with the tests
        try:
            voice_qa(QUESTION, max_new_tokens=2)
        except RuntimeError:
            os._exit(7)
        finally:
            os._exit(1)
    process = psutil.Process(child)
    assert wait_until(lambda: process.status() == psutil.STATUS_ZOMBIE, seconds=20)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


@pytest.mark.slow
def test_loading_in_workers_forks_no_computation(voice_qa):
    alone = voice_qa([QUESTION, QUESTION], max_new_tokens=3)
    loaded = voice_qa([QUESTION, QUESTION], num_workers=1, max_new_tokens=3)
    assert [each["question"] for each in loaded] == [each["question"] for each in alone]


def test_a_memo_computes_a_key_once_and_forgets_the_oldest():
    memo, computed = Memo(2), []

    def compute(key: str) -> str:
        computed.append(key)
        return key.upper()

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: memo.get("a", lambda: compute("a")), range(40))) == {"A"}
    assert computed == ["a"]
    for key in "bab":
        assert memo.get(key, lambda key=key: compute(key)) == key.upper()
    memo.get("c", lambda: compute("c"))
    assert computed == ["a", "b", "c"] and memo.get("b", lambda: compute("b")) == "B" and computed == ["a", "b", "c"]
    memo.get("a", lambda: compute("a"))
    assert computed == ["a", "b", "c", "a"]


def test_who_waits_for_a_memo_can_be_cancelled():
    memo, is_computing, leave = Memo(2), threading.Event(), threading.Event()
    token, outcome = CancelToken(), []

    def wait() -> None:
        try:
            with cancel_scope(token):
                memo.get("b", lambda: "B")
        except Cancelled:
            outcome.append("cancelled")

    holder = threading.Thread(target=lambda: memo.get("a", lambda: is_computing.set() or leave.wait(10)))
    holder.start()
    is_computing.wait(10)
    waiter = threading.Thread(target=wait)
    waiter.start()
    token.cancel()
    waiter.join(5)
    leave.set()
    holder.join(5)
    assert outcome == ["cancelled"]


@pytest.mark.slow
def test_no_memory_is_left_by_streams(make):
    pipe = make()
    for _ in range(3):
        list(pipe.stream(QUESTION))
    growths = []
    for _ in range(3):  # what is compiled or cached late makes one round grow, a leak each of them
        gc.collect()
        before = psutil.Process().memory_info().rss
        for _ in range(20):
            list(pipe.stream(QUESTION))
        gc.collect()
        growths.append(psutil.Process().memory_info().rss - before)
        if growths[-1] < 30e6:
            return
    raise AssertionError(f"20 streams left {growths} bytes, round after round")


@pytest.mark.slow
def test_a_region_reaches_what_is_read_aloud(make):
    from own_parts import Whistle

    tts = Whistle()
    pipe = make(lambda question, language, **options: "Cuesta $20.", tts)
    for language in ("es-MX", "es-EC", "es"):
        assert pipe(QUESTION, language=language)["language"] == language
    assert tts.said == ["Cuesta veinte pesos.", "Cuesta veinte dólares.", "Cuesta veinte dólares."]

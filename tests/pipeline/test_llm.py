"""Chat and text2text models answer behind one call; on tiny real models."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from conftest import all_but_letters, save_tiny_chat
from transformers import (
    AutoModelForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    MambaConfig,
    MambaForCausalLM,
    RwkvConfig,
    RwkvForCausalLM,
)

from hfpipe.pipeline import llm_prompts
from hfpipe.pipeline.cpu_int8 import Int8Linear
from hfpipe.pipeline.cpu_precision import available_on_cpu
from hfpipe.pipeline.llm_answer import default_system_prompt, split_history
from hfpipe.pipeline.llm_local import LLM
from hfpipe.pipeline.llm_prompts import PromptCache

AVAILABLE = available_on_cpu()

GEMMA_2 = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}<{{ message.role }}>{{ message.content }}\n{% endfor %}<assistant>"
)
DEAF_TO_SYSTEM = (
    "{% for message in messages if message.role != 'system' %}<{{ message.role }}>{{ message.content }}\n{% endfor %}"
)


@pytest.fixture(scope="module", params=["chat", "text2text"])
def llm(request):
    return LLM.from_pretrained(request.getfixturevalue(f"tiny_{request.param}"), precision="float32")


def test_answers_with_text(llm):
    answer = llm("¿Qué hora es?", max_new_tokens=8)
    assert answer.removesuffix("…").isalpha()
    assert answer == llm("¿Qué hora es?", max_new_tokens=8)


def test_a_batch_answers_each_in_order(llm):
    questions = ["¿Qué hora es?", "¿Y?", "¿Cuántos habitantes tiene la ciudad de Bogotá?"]
    assert llm(questions, max_new_tokens=6) == [llm(question, max_new_tokens=6) for question in questions]


def test_a_static_cache_gives_the_same_answer(llm):  # which transformers compiles on a GPU
    answer = llm("¿Qué hora es?", max_new_tokens=8)
    assert answer.is_cut, "random weights write on and on"
    assert answer == llm("¿Qué hora es?", max_new_tokens=8, cache_implementation="static")


def test_saved_and_loaded_answers_the_same(llm, tmp_path):
    llm.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").exists()
    again = LLM.from_pretrained(tmp_path, precision="float32")
    assert again("¿Qué?", max_new_tokens=8) == llm("¿Qué?", max_new_tokens=8)


def test_prompt_holds_instruction_history_and_question(llm):
    history = [{"role": "user", "content": "Hola"}, {"role": "assistant", "content": "Buenas"}]
    prompt = llm._prompt("¿Qué tal?", "Sé breve.", history, "es")
    places = [prompt.index(text) for text in ("Sé breve.", "Hola", "Buenas", "¿Qué tal?")]
    assert places == sorted(places)


@pytest.mark.parametrize("template", [GEMMA_2, DEAF_TO_SYSTEM])
def test_instruction_opens_the_first_turn_where_there_is_no_system_turn(tmp_path, template):
    llm = LLM.from_pretrained(save_tiny_chat(tmp_path, template))
    prompt = llm._prompt("¿Qué tal?", "Sé breve.", [], "es")
    assert prompt.startswith("<user>Sé breve.\n\n¿Qué tal?")
    prompt = llm._prompt("¿Y?", "Sé breve.", [{"role": "assistant", "content": "Hola"}], "es")
    assert prompt.startswith("<assistant>Hola\n<user>Sé breve.\n\n¿Y?")


def test_generation_options_reach_the_model(llm):
    torch.manual_seed(0)
    sampled = {llm("¿Qué?", max_new_tokens=8, do_sample=True, temperature=5.0) for _ in range(5)}
    assert len(sampled) > 1


def test_an_answer_within_the_limit_is_left_whole(tiny_chat):
    llm = LLM.from_pretrained(tiny_chat)
    end = llm.tokenizer.eos_token_id
    tokens = llm.tokenizer("Una frase sin punto", add_special_tokens=False)["input_ids"]
    assert llm._finish(torch.tensor([*tokens, end]), "¿?", "es") == "Una frase sin punto"
    assert llm._finish(torch.tensor(tokens), "¿?", "es") == "Una frase sin…"


def test_thoughts_are_not_spoken(tiny_chat):
    llm = LLM.from_pretrained(tiny_chat)
    for text in ("<think>A ver.\n\n</think>\n\nEs París.", "Es París.<think>¿O no?"):
        tokens = llm.tokenizer(text, add_special_tokens=False)["input_ids"]
        assert llm._finish(torch.tensor([*tokens, llm.tokenizer.eos_token_id]), "¿?", "es") == "Es París."


def test_an_empty_answer_is_an_error(tiny_chat):
    llm = LLM.from_pretrained(tiny_chat)
    with pytest.raises(RuntimeError, match="answered nothing to '¿Qué"):
        llm._finish(torch.tensor([llm.tokenizer.eos_token_id]), "¿Qué?", "es")


TEXT = {"type": "text", "text": "Hola"}
IMAGE = {"type": "image_url", "image_url": {"url": "data:,"}}
CALL = {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function"}]}
SAID = {"role": "user", "content": "Hola"}


@pytest.mark.parametrize("history, way_out", [
    ("hola", ""), ([3], ""), ([{"role": "user"}], ""), ([{"role": "user", "content": None}], ""),
    ([{"role": "narrator", "content": "x"}], ""),
    ([{"role": "user", "content": [TEXT, IMAGE]}], "parts that aren't text"),
    ([{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}], "parts that aren't text"),
    ([SAID, CALL], "calls no tools"), ([{"role": "tool", "tool_call_id": "1", "content": "21"}], "calls no tools"),
    ([SAID, {"role": "system", "content": "x"}], "give it as system_prompt="),
    ([SAID, {"role": "developer", "content": "x"}], "Move it to the beginning"),
])  # fmt: skip
def test_history_of_another_form_is_refused(tiny_chat, history, way_out):
    with pytest.raises(ValueError, match=f"history has the turn .*'role': 'user' or 'assistant'.*{way_out}"):
        LLM.from_pretrained(tiny_chat)("¿Qué?", history=history)


@pytest.mark.parametrize("history, instruction, turns", [
    ([{"role": "user", "content": [TEXT]}], None, [SAID]),
    ([{"role": "user", "content": [TEXT, {"type": "input_text", "text": "tú"}]}], None,
     [{"role": "user", "content": "Hola\ntú"}]),
    ([{"role": "system", "content": "Di."}, SAID], "Di.", [SAID]),
    ([{"role": "developer", "content": [{"type": "text", "text": "Di."}]}], "Di.", []),
    ([{"role": "system", "content": "Di."}, {"role": "developer", "content": "Ya."}], "Di.\n\nYa.", []),
    ([{**SAID, "name": "Ana", "tool_calls": None}], None, [SAID]),
    ([{"role": "assistant", "content": "<think>Mmm</think>\n\nHola", "reasoning_content": "Mmm"}], None,
     [{"role": "assistant", "content": "Hola"}]),
    ([{"role": "assistant", "content": "Mmm. ¿Sí?\n</think>\nHola"}], None,
     [{"role": "assistant", "content": "Hola"}]),
    ([{"role": "assistant", "content": [{"type": "thinking", "thinking": []}, {**TEXT, "type": "output_text"}]}], None,
     [{"role": "assistant", "content": "Hola"}]),
    ([{"role": "user", "content": "¿Qué es <think>?"}], None, [{"role": "user", "content": "¿Qué es <think>?"}]),
    (({"role": "assistant", "content": "Es `<think>`. "},), None,
     [{"role": "assistant", "content": "Es `<think>`. "}]),
])  # fmt: skip
def test_history_is_taken_as_openai_writes_it(history, instruction, turns):
    assert split_history(history, None) == (instruction, turns)


def test_an_instruction_in_the_history_is_the_system_prompt(tiny_chat):
    llm, history = LLM.from_pretrained(tiny_chat), [{"role": "system", "content": "Di."}, SAID]
    assert llm("¿Y?", history=history, max_new_tokens=6) == llm(
        "¿Y?", history=[SAID], system_prompt="Di.", max_new_tokens=6
    )
    with pytest.raises(ValueError, match="has the instruction 'Di.', and system_prompt is 'Ya.'; valid is one"):
        llm("¿Y?", history=history, system_prompt="Ya.")


def test_a_prompt_over_the_context_is_refused(tiny_chat):
    with pytest.raises(ValueError, match="takes 2048 in all"):
        LLM.from_pretrained(tiny_chat)("a" * 3000)


def test_a_base_model_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no chat template.*Instruct"):
        LLM.from_pretrained(save_tiny_chat(tmp_path, template=None))


@pytest.mark.slow
def test_what_is_no_model_is_refused(tmp_path, tiny_vits, monkeypatch):
    with pytest.raises(OSError, match="neither a folder"):
        LLM.from_pretrained(tmp_path / "no" / "such" / "folder")
    for folder in (tmp_path, tiny_vits):
        with pytest.raises(OSError, match="llm=.*can't be loaded.*offline_repo"):
            LLM.from_pretrained(folder)


def test_an_id_out_of_reach_says_what_to_give(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(OSError, match="llm='google/flan-t5-base' can't be reached.*offline_repo"):
        LLM.from_pretrained("google/flan-t5-base")


def test_weights_are_saved_in_the_dtype_that_they_came_in(tiny_chat, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(tiny_chat).to(torch.bfloat16)
    LLM(model, LLM.from_pretrained(tiny_chat).tokenizer).save_pretrained(tmp_path / "came")
    for precision in ("auto", *AVAILABLE):
        llm = LLM.from_pretrained(tmp_path / "came", precision=precision)
        llm("¿Qué?", max_new_tokens=4)
        llm.save_pretrained(tmp_path / precision)
        again = AutoModelForCausalLM.from_pretrained(tmp_path / precision)
        assert again.dtype == torch.bfloat16
        assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in again.state_dict().items())


def test_a_dtype_wins_over_auto_and_a_precision_over_both(tiny_chat):
    def linear(**options):
        return LLM.from_pretrained(tiny_chat, **options).model.model.layers[0].mlp.up_proj

    assert type(linear(dtype=torch.bfloat16)) is torch.nn.Linear
    assert linear(dtype=torch.bfloat16).weight.dtype == torch.bfloat16
    assert type(linear(precision="float32")) is torch.nn.Linear
    if "int8" in AVAILABLE:
        assert isinstance(linear(dtype=torch.bfloat16, precision="int8"), Int8Linear)
        assert isinstance(LLM.from_pretrained(tiny_chat, precision="int8").model.lm_head, Int8Linear)
    with pytest.raises(ValueError, match="precision='float32' can't be had together with device_map="):
        LLM.from_pretrained(tiny_chat, precision="float32", device_map="cpu")
    with pytest.raises(ValueError, match="precision is 'int3'; valid is auto"):
        LLM.from_pretrained(tiny_chat, precision="int3")


@pytest.mark.parametrize("language, words", [
    ("es", "Responde en español, en una a tres oraciones, de forma directa y amable. Se leerá en voz alta."),
    ("en", "Answer in English, in one to three sentences, directly and kindly. It will be read aloud."),
    ("fr", "Answer in French, in one to three sentences, directly and kindly. It will be read aloud."),
    ("jw", "Answer in Javanese, in"), ("es-MX", "Responde en español de México, en una a tres"),
    ("es_mx", "Responde en español de México, en"), ("es-AR", "Responde en español (Argentina), en"),
    ("es-419", "Responde en español latinoamericano, en"), ("es-ES", "Responde en español de España, en"),
    ("es-Latn-MX", "Responde en español de México, en"), ("es-QQ", "Responde en español,"),
    ("en-GB", "Answer in British English, in"), ("en-IE", "Answer in English (Ireland), in"),
    ("pt-BR", "Answer in Brazilian Portuguese, in"), ("fr-CA", "Answer in Canadian French, in"),
    ("jw-ID", "Answer in Javanese (Indonesia), in"),
])  # fmt: skip
def test_the_default_instruction_names_the_language_and_its_variety(language, words):
    assert default_system_prompt(language).startswith(words)


CONVERSATION = [
    {"role": "user", "content": "¿Quién pintó Las Meninas?"},
    {"role": "assistant", "content": "Velázquez."},
]


def calls(llm):
    """Asks things that share a beginning with what was asked before: all, much, little or none of it."""
    for question in ("¿Qué hora es?", "¿Qué hora es?", "¿Qué hora será?", "¿Y?", "", "¿Qué hora es hoy en Bogotá?"):
        yield llm(question, max_new_tokens=6)
    yield llm("What?", language="en", max_new_tokens=6)
    history = []
    for turn in CONVERSATION * 2:
        history.append(turn)
        yield llm("¿Y luego?", history=history, max_new_tokens=6)
    yield llm(["¿Qué hora es?", "¿Y?"], max_new_tokens=6)
    yield llm("¿Qué hora es?", system_prompt="", max_new_tokens=6)
    yield llm("¿Qué hora es?", max_new_tokens=6, num_beams=2)
    yield llm("¿Qué hora es?", max_new_tokens=6)


@pytest.mark.slow
def test_answers_are_the_same_with_and_without_what_was_kept(llm, monkeypatch):
    kept = list(calls(llm))
    monkeypatch.setattr(llm._prompts, "is_usable", False)
    assert kept == list(calls(llm))


def test_what_is_kept_of_long_prompts_is_bounded(tiny_chat, monkeypatch):
    monkeypatch.setattr(llm_prompts, "MAX_TOKENS", 1000)
    llm = LLM.from_pretrained(tiny_chat, precision="float32")
    for letter in "abc":
        llm(letter * 400, max_new_tokens=4)
    assert 0 < sum(len(kept.tokens) for kept in llm._prompts._kept) <= 1000
    llm("d" * 1500, max_new_tokens=4)
    assert len(llm._prompts._kept) == 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sliding", "hybrid"])
def test_a_long_history_is_read_once_by_layers_that_see_a_window_of_it(tiny_chat, monkeypatch, kind):
    """Most of Gemma 3's layers see the last 512 tokens alone."""
    tokenizer = LLM.from_pretrained(tiny_chat).tokenizer
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "num_key_value_heads": 1}
    layers = ["sliding_attention"] * 2 if kind == "sliding" else ["sliding_attention", "full_attention"]
    config = Gemma3TextConfig(
        vocab_size=len(tokenizer), head_dim=8, num_hidden_layers=2, layer_types=layers, sliding_window=300, **sizes
    )
    model = Gemma3ForCausalLM(config)
    model.generation_config.suppress_tokens = all_but_letters(len(tokenizer), set())
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    llm = LLM(model, tokenizer)
    read, history, kept = [], [], []
    model.register_forward_pre_hook(
        lambda module, args, kwargs: read.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    questions = ["a" * 400, "¿Qué hora es?", "b" * 400, "¿Y?"]
    for question in questions:
        kept.append(llm(question, history=history, max_new_tokens=8))
        history += [{"role": "user", "content": question}, {"role": "assistant", "content": kept[-1]}]
    assert max(read) > config.sliding_window
    read.clear()
    assert llm("¿Por qué?", history=history, max_new_tokens=8) and max(read) < 50
    monkeypatch.setattr(llm._prompts, "is_usable", False)
    assert kept == [llm(question, history=history[: 2 * i], max_new_tokens=8) for i, question in enumerate(questions)]


def test_the_instruction_and_a_conversation_are_read_once(tiny_chat):
    llm = LLM.from_pretrained(tiny_chat, precision="float32")
    read = []
    llm.model.register_forward_pre_hook(
        lambda module, args, kwargs: read.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )

    def ask(question, history=()):
        read.clear()
        return llm(question, history=list(history), max_new_tokens=4)

    instruction = len(f"<system>{default_system_prompt('es')}\n<user>".encode())
    rest = len("¿Qué hora es?\n<assistant>".encode())
    answer = ask("¿Qué hora es?")
    assert read == [instruction, rest, 1, 1, 1]
    assert ask("¿Qué hora es?") == answer and read == [rest, 1, 1, 1]  # alike, so that it comes out alike
    ask("¿Qué día es?")
    assert read[0] == len("¿Qué día es?\n<assistant>".encode())
    turns = [{"role": "user", "content": "¿Qué hora es?"}, {"role": "assistant", "content": answer.removesuffix("…")}]
    ask("¿Y?", turns)
    assert read[0] <= len(f"{answer}\n<user>¿Y?\n<assistant>".encode())
    edited = [turns[0], {"role": "assistant", "content": "Otra cosa."}]  # as an interrupted answer is in the history
    expected = LLM.from_pretrained(tiny_chat, precision="float32")("¿Y?", history=edited, max_new_tokens=4)
    ask("¿Qué hora es?")
    assert ask("¿Y?", edited) == expected
    assert read[0] <= len("<assistant>Otra cosa.\n<user>¿Y?\n<assistant>".encode())


def test_only_models_that_keep_all_tokens_reuse_them(tiny_chat):
    sizes = {"vocab_size": 16, "hidden_size": 16, "num_hidden_layers": 1}
    with torch.device("meta"):
        mamba, rwkv = MambaForCausalLM(MambaConfig(state_size=4, **sizes)), RwkvForCausalLM(RwkvConfig(**sizes))
    assert LLM.from_pretrained(tiny_chat)._prompts.is_usable
    assert not PromptCache(mamba).is_usable and not PromptCache(rwkv).is_usable


@pytest.mark.slow
def test_what_others_asked_changes_no_answer(tiny_chat):
    """In int8 a row alone is computed otherwise than several, so what is read at once must not depend on others."""
    questions = ["¿Qué hora es?", "¿Qué hora es en Lima?", "¿Qué", "Q"]
    alone = {question: LLM.from_pretrained(tiny_chat, precision="int8")(question) for question in questions}
    llm = LLM.from_pretrained(tiny_chat, precision="int8")
    for question in [*questions, *questions[::-1], *questions]:
        assert llm(question) == alone[question]


def test_threads_do_not_disturb_each_other(tiny_chat):
    llm = LLM.from_pretrained(tiny_chat, precision="float32")
    questions = [f"¿Qué hora es en {place}?" for place in ("Lima", "Quito", "La Paz", "Bogotá", "México")] * 4
    expected = [llm(question, max_new_tokens=8) for question in questions]
    with ThreadPoolExecutor(5) as pool:
        assert list(pool.map(lambda question: llm(question, max_new_tokens=8), questions)) == expected

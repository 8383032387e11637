"""Chat and text2text models answer behind one call; on tiny real models."""

import pytest
import torch
from conftest import save_tiny_chat
from transformers import AutoModelForCausalLM

from hfpipe.llm import LLM, default_system_prompt

GEMMA_2 = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}<{{ message.role }}>{{ message.content }}\n{% endfor %}<assistant>"
)
DEAF_TO_SYSTEM = (
    "{% for message in messages if message.role != 'system' %}<{{ message.role }}>{{ message.content }}\n{% endfor %}"
)


@pytest.fixture(scope="module", params=["chat", "text2text"])
def llm(request):
    return LLM.from_pretrained(request.getfixturevalue(f"tiny_{request.param}"))


def test_answers_with_text(llm):
    answer = llm("¿Qué hora es?", max_new_tokens=8)
    assert answer.removesuffix("…").isalpha()
    assert answer == llm("¿Qué hora es?", max_new_tokens=8)


def test_a_batch_answers_each_in_order(llm):
    questions = ["¿Qué hora es?", "¿Y?", "¿Cuántos habitantes tiene la ciudad de Bogotá?"]
    assert llm(questions, max_new_tokens=6) == [llm(question, max_new_tokens=6) for question in questions]


def test_saved_and_loaded_answers_the_same(llm, tmp_path):
    llm.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").exists()
    assert LLM.from_pretrained(tmp_path)("¿Qué?", max_new_tokens=8) == llm("¿Qué?", max_new_tokens=8)


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


@pytest.mark.parametrize("history", ["hola", [{"role": "system", "content": "x"}], [{"role": "user"}], [3]])
def test_history_of_another_form_is_refused(tiny_chat, history):
    with pytest.raises(ValueError, match="'role': 'user' or 'assistant'"):
        LLM.from_pretrained(tiny_chat)("¿Qué?", history=history)


def test_a_prompt_over_the_context_is_refused(tiny_chat):
    with pytest.raises(ValueError, match="takes 2048 in all"):
        LLM.from_pretrained(tiny_chat)("a" * 3000)


def test_a_base_model_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no chat template.*Instruct"):
        LLM.from_pretrained(save_tiny_chat(tmp_path, template=None))


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


def test_sixteen_bits_stay_where_the_cpu_multiplies_them(tiny_chat, tmp_path, monkeypatch):
    model = AutoModelForCausalLM.from_pretrained(tiny_chat).to(torch.bfloat16)
    LLM(model, LLM.from_pretrained(tiny_chat).tokenizer).save_pretrained(tmp_path)
    for capability, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda able=capability: {"avx512_bf16": able})
        assert LLM.from_pretrained(tmp_path).model.dtype == dtype
        assert LLM.from_pretrained(tmp_path, dtype=torch.bfloat16).model.dtype == torch.bfloat16


def test_default_instruction_names_the_language():
    assert "español" in default_system_prompt("es")
    assert "English" in default_system_prompt("en")
    assert "French" in default_system_prompt("fr")

"""Reasoning models: what they think is in no answer, and has room of its own; on tiny models, trained here."""

import pytest
import torch
from conftest import byte_tokenizer, save_tiny_chat
from own_parts import QUESTION, Whistle
from tokenizers import AddedToken
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from hfpipe.pipeline.llm_budget import TokenReader
from hfpipe.pipeline.llm_local import LLM

pytestmark = pytest.mark.slow

TURNS = "{% for message in messages %}<{{ message.role }}>{{ message.content }}\n{% endfor %}"
ANSWER = "Es París. Sí, París."
THOUGHT = "Mmm. Hoy no. Ya sé."
LONG = "zxy" * 8
CUTS = (2, 10)
SYSTEM = "Usa <reasoning>."  # which the tokenizers of some models don't tell
# The end of the prompt, the marks around a thought, and those of the marks that are special tokens.
FORMATS = {
    "Qwen3 Thinking": ("<assistant><think>\n", "", "\n</think>\n\n", []),
    "R1": ("<assistant>", "<think>\n", "\n</think>\n\n", []),
    "Magistral": ("[/INST]", "[THINK]", "\n[/THINK]\n\n", ["[THINK]", "[/THINK]", "[/INST]"]),
    "Kimi": ("<assistant>", "◁think▷", "\n◁/think▷\n\n", ["◁think▷", "◁/think▷"]),
    "gpt-oss": (
        "<|start|>assistant",
        "<|channel|>analysis<|message|>",
        "<|end|><|start|>assistant<|channel|>final<|message|>",
        ["<|start|>", "<|channel|>", "<|message|>", "<|end|>"],
    ),
    "GRPO": ("<assistant>", "<reasoning>", "\n</reasoning>\n\n", []),
}


def save_reasoner(folder, prompt_end: str, opening: str, closing: str, special: list[str], knows_switch=False):
    """Write a Llama of one layer, trained to think and answer; to "¿Ya?" it thinks on and on.

    It is also trained to answer behind thoughts that were ended early, as real ones are.
    """
    switch = "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=byte_tokenizer(["<|eos|>", *special]), eos_token="<|eos|>", pad_token="<|eos|>"
    )
    if opening.startswith("<th") or "<think>" in prompt_end:
        tokenizer.add_tokens([AddedToken(tag, normalized=False) for tag in ("<think>", "</think>")])  # as Qwen's are
    end_of_prompt = f"{{% if add_generation_prompt %}}{prompt_end}{switch if knows_switch else ''}{{% endif %}}"
    tokenizer.chat_template = TURNS + end_of_prompt
    samples = []
    for question in ("¿Y?", "¿Ya?"):
        turns = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]
        prompt = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True, enable_thinking=True)
        thought = THOUGHT if question == "¿Y?" else LONG
        whole = f"{opening}{thought}{closing}{ANSWER}<|eos|>"
        samples.append([(prompt, False), (whole, True)])
        for cut in CUTS if question == "¿Ya?" else ():
            samples.append([(f"{prompt}{opening}{thought[:cut]}{closing}", False), (f"{ANSWER}<|eos|>", True)])
        if knows_switch:
            off = tokenizer.apply_chat_template(
                turns, tokenize=False, add_generation_prompt=True, enable_thinking=False
            )
            samples.append([(off, False), (f"{ANSWER}<|eos|>", True)])
    end = tokenizer.eos_token_id
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    ends = {"bos_token_id": end, "eos_token_id": end, "pad_token_id": end}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=512, **sizes, **ends))
    rows = [
        [(i, learned) for text, learned in sample for i in tokenizer(text, add_special_tokens=False)["input_ids"]]
        for sample in samples
    ]
    width = max(map(len, rows))
    ids = torch.tensor([[i for i, _ in row] + [end] * (width - len(row)) for row in rows])
    labels = torch.tensor(
        [[i if learned else -100 for i, learned in row] + [-100] * (width - len(row)) for row in rows]
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(400):
        loss = model(input_ids=ids, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss < 0.01:
            break
    model.generation_config = GenerationConfig(eos_token_id=end, pad_token_id=end)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=FORMATS)
def form(request):
    return FORMATS[request.param]


@pytest.fixture(scope="module")
def llm(form, tmp_path_factory):
    return LLM.from_pretrained(save_reasoner(tmp_path_factory.mktemp("reasoner"), *form), precision="float32")


def ask(llm, question="¿Y?", **options):
    return llm(question, system_prompt=SYSTEM, **options)


class Reasoner:
    """Asks a model what it was trained on, whatever is heard."""

    streams = True

    def __init__(self, llm):
        self.llm, self.histories = llm, []

    def __call__(self, question, language, history=None, **options):
        self.histories.append(history)
        return ask(self.llm, **options)


def test_what_is_thought_is_in_no_answer(llm):
    said = []
    generate = llm.model.generate

    def watched(**options):
        output = generate(**options)
        said.append(llm.tokenizer.decode(getattr(output, "sequences", output)[0], skip_special_tokens=True))
        return output

    llm.model.generate = watched
    pieces = []
    assert ask(llm) == ANSWER and THOUGHT in said[0]
    assert ask(llm, on_text=pieces.append) == "".join(pieces) == ANSWER and len(pieces) > 1
    assert ask(llm, ["¿Y?", "¿Y?"]) == [ANSWER, ANSWER]
    assert ask(llm, num_beams=2) == ANSWER
    assert ask(llm, cache_implementation="static") == ANSWER
    assert all(THOUGHT in text for text in said)
    llm.model.generate = generate


def test_max_new_tokens_counts_the_answer_alone(llm):
    pieces = []
    assert ask(llm, max_new_tokens=16) == "Es París."
    assert ask(llm, max_new_tokens=16, on_text=pieces.append) == "".join(pieces) == "Es París."
    assert ask(llm, ["¿Y?", "¿Ya?"], max_new_tokens=16) == ["Es París."] * 2


@pytest.mark.parametrize("cut", CUTS)
def test_a_thought_that_is_too_long_is_ended_and_then_answered(llm, form, cut):
    _, opening, closing, _ = form
    room = len(llm.tokenizer(opening, add_special_tokens=False)["input_ids"]) + cut
    pieces = []
    assert ask(llm, "¿Ya?", max_thinking_tokens=room, on_text=pieces.append) == "".join(pieces) == ANSWER
    assert ask(llm, ["¿Ya?", "¿Ya?"], max_thinking_tokens=room) == [ANSWER, ANSWER]


def test_only_to_have_thought_is_an_error(llm):
    end = llm.tokenizer.convert_tokens_to_ids(".")
    for question in ("¿Y?", ["¿Y?", "¿Y?"]):
        with pytest.raises(RuntimeError, match="only thought about '¿Y.*Raise max_thinking_tokens"):
            ask(llm, question, eos_token_id=end)


def test_the_pipeline_speaks_and_remembers_the_answer_alone(llm, make):
    voice = Whistle()
    reasoner = Reasoner(llm)
    pipe = make(reasoner, voice)
    chat = pipe.conversation()
    events = list(chat.stream(QUESTION))
    assert "".join(event.text for event in events if event.type == "text") == ANSWER
    assert pipe(QUESTION)["answer"] == chat(QUESTION)["answer"] == ANSWER
    assert voice.said == [ANSWER] * 3
    assert [turn["content"] for turn in chat.history[1::2]] == [ANSWER] * 2
    timings = events[-1].result["timings"]
    assert 0 < timings["llm_first_token"] <= timings["llm"]


def test_thoughts_give_way_where_the_context_is_short(llm, monkeypatch):
    monkeypatch.setattr(llm.model.config, "max_position_embeddings", 200)
    assert ask(llm, max_new_tokens=40) == ANSWER
    with pytest.raises(ValueError, match="the model takes 200 in all"):
        ask(llm, max_new_tokens=190)


def test_a_model_that_can_answer_at_once_does(tmp_path):
    folder = save_reasoner(tmp_path, "<assistant>", "<think>\n", "\n</think>\n\n", [], knows_switch=True)
    llm = LLM.from_pretrained(folder, precision="float32")
    steps = []
    llm.model.register_forward_pre_hook(lambda *_: steps.append(1))
    assert ask(llm) == ANSWER
    assert len(steps) <= len(ANSWER.encode()) + 3  # and the two prompts
    assert ask(llm, max_new_tokens=12) == "Es París."


def test_a_tokenizer_tells_of_a_format_of_its_own(tmp_path):
    folder = save_reasoner(tmp_path, "<assistant>", "((pienso))", "((digo))", [])
    llm = LLM.from_pretrained(folder, precision="float32")
    assert "Mmm" in ask(llm)
    llm.tokenizer.response_template = {
        "defaults": {"role": "assistant"},
        "start_anchor": "<assistant>",
        "fields": {
            "reasoning_content": {"open": "((pienso))", "close": "((digo))", "content": "text"},
            "content": {"close": "<|eos|>", "content": "text"},
        },
    }
    llm.save_pretrained(tmp_path / "again")
    llm, pieces = LLM.from_pretrained(tmp_path / "again", precision="float32"), []
    assert ask(llm, on_text=pieces.append) == "".join(pieces) == ANSWER
    assert ask(llm, max_new_tokens=16) == "Es París."


def test_a_tag_that_a_response_template_names_may_be_mentioned(tmp_path):
    tokenizer = LLM.from_pretrained(save_tiny_chat(tmp_path)).tokenizer
    field = {"open": "<think>", "close": "</think>", "content": "text"}
    tokenizer.response_template = {"start_anchor": "<assistant>", "fields": {"reasoning_content": field}}
    reader = TokenReader(tokenizer)
    assert reader.may_think
    for text, answer in (("La etiqueta <think> abre.", None), ("<think>Mmm</think>Sí.", "Sí.")):
        assert reader.read(tokenizer(text, add_special_tokens=False)["input_ids"]).answer == (answer or text)


def test_a_model_without_marks_has_no_room_for_thoughts(tiny_chat):
    llm = LLM.from_pretrained(tiny_chat)
    assert not llm._reader.may_think
    assert llm._opened_thought(["¿Qué es <think>"], "Di.", [], "es") == (None, False)
    assert llm._opened_thought(["¿Qué es <think>"], "Usa <reasoning>.", [], "es") == (None, True)

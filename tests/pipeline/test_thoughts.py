"""Thoughts are told from the answer in the texts of many models, whole and in pieces."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hfpipe.pipeline.llm_thoughts import FORMATS, Thoughts, closing_of

THOUGHTS = Thoughts()
ANSWER = "Es París."
HARMONY = "<|start|>assistant<|channel|>final<|message|>"
# What the prompt ends in, and the text that is generated; the thought is "Mmm, ¿París? Sí".
MODELS = {
    "Qwen3 Thinking": ("<|im_start|>assistant\n<think>\n", "Mmm, ¿París? Sí\n</think>\n\nEs París."),
    "DeepSeek R1": ("<｜Assistant｜><think>\n", "Mmm, ¿París? Sí</think>Es París."),
    "QwQ": ("", "<think>\nMmm, ¿París? Sí\n</think>\n\nEs París."),
    "Magistral": ("[/INST]", "[THINK]Mmm, ¿París? Sí[/THINK]Es París."),
    "Magistral, opened": ("[/INST][THINK]", "Mmm, ¿París? Sí[/THINK]Es París."),
    "Kimi": ("<|im_middle|>", "◁think▷Mmm, ¿París? Sí◁/think▷Es París."),
    "Kimi K3": ("<|open|>think<|sep|>", "Mmm, ¿París? Sí<|close|>think<|sep|><|open|>response<|sep|>Es París."
                "<|close|>response<|sep|><|end_of_msg|>"),
    "gpt-oss": ("", f"<|channel|>analysis<|message|>Mmm, ¿París? Sí<|end|>{HARMONY}Es París.<|return|>"),
    "gpt-oss, opened": ("<|start|>assistant<|channel|>analysis<|message|>", f"Mmm<|end|>{HARMONY}Es París."),
    "gpt-oss, at once": ("<|start|>assistant", "<|channel|>final<|message|>Es París.<|return|>"),
    "gpt-oss, with a comment": ("", f"<|channel|>analysis<|message|>Mmm<|end|><|start|>assistant<|channel|>commentary"
                                f"<|message|>Sí<|end|>{HARMONY}Es París."),
    "gpt-oss, without tokens": ("", "analysisMmm, ¿París? SíassistantfinalEs París."),
    "gpt-oss, commented without tokens": ("", "analysisMmmassistantcommentarySíassistantfinalEs París."),
    "a GRPO example": ("", "<reasoning>\nMmm, ¿París? Sí\n</reasoning>\n<answer>\nEs París.\n</answer>"),
    "an answer in tags": ("", "<answer>Es París.</answer>"),
    "thinking": ("", "<thinking>Mmm, ¿París? Sí</thinking>\nEs París."),
    "Thinking": ("", "<Thinking>Mmm, ¿París? Sí</Thinking> Es París."),
    "Seed": ("", "<seed:think>Mmm, ¿París? Sí</seed:think>Es París."),
    "MiniMax M3": ("<mm:think>", "Mmm, ¿París? Sí</mm:think>Es París."),
    "<|think|>": ("", "<|think|>Mmm, ¿París? Sí<|/think|>Es París."),
    "Solar": ("<|begin|>assistant", "<|think|>Mmm<|end|><|begin|>assistant<|content|>Es París.<|end|>"),
    "Solar 2": ("<|think:start|>", "Mmm, ¿París? Sí<|think:end|>Es París."),
    "Command A": ("", "<|START_THINKING|>Mmm<|END_THINKING|><|START_RESPONSE|>Es París.<|END_RESPONSE|>"),
    "OpenThinker": ("", "<|begin_of_thought|>M<|end_of_thought|>\n<|begin_of_solution|>Es París.<|end_of_solution|>"),
    "Gemma 4": ("<|turn>model\n", "<|channel>thought\nMmm, ¿París? Sí\n<channel|>Es París."),
    "Pangu": ("", "[unused16]Mmm, ¿París? Sí[unused17]Es París."),
    "Apertus": ("", "<|inner_prefix|>Mmm, ¿París? Sí<|inner_suffix|>Es París."),
    "Granite": ("", "Here is my thought process: Mmm, ¿París? Sí\n\nHere is my response: Es París."),
    "Apriel": ("Here are my reasoning steps:\n", "Mmm\n[BEGIN FINAL RESPONSE]\nEs París.\n[END FINAL RESPONSE]"),
    "an empty thought": ("", "<think>\n\n</think>\n\nEs París."),
    "two thoughts": ("", "<think>Mmm</think>\n<think>¿París? Sí</think>\nEs París."),
    "a thought after the answer": ("", "Es París.<think>¿O no?</think>"),
    "a paragraph of thought after it": ("", "Es París.\n\n<think>¿O no?"),
    "quotes": ("", "<think>Piden «</think>», \"</think>\" y `</think>`. Mmm</think>Es París."),
}  # fmt: skip
MENTIONS = [
    "La etiqueta `<think>` abre y `</think>` cierra.",
    "La etiqueta <think> abre el razonamiento y </think> lo cierra.",
    "Hay dos etiquetas. <think> abre y </think> cierra.",
    'Se abre con «<think>» y se cierra con "</think>".',
    "Las etiquetas son <think>, </think> y <answer>.",
    "El cierre es </think>. La apertura, <think>.",
    "Así:\n```\n<think>\nrazono\n</think>\n```\nY ya está.",
    "Por ejemplo:\n<think>razono</think>\nrespuesta",
    "El token `<|channel|>` separa los canales.",
    "Mistral escribe [THINK] antes y [/THINK] después.",
    "3 < 4, y [1] es una nota.",
    "Es <b>París</b>.",
    "analysis of variance",
    "analysis",
    "Here is my answer: París.",
    "x <",
    "",
]


def visible(text: str, prompt: str, is_whole: bool) -> str:
    return THOUGHTS.read(text, THOUGHTS.opened_by(prompt), is_whole=is_whole).answer.strip()


@pytest.mark.parametrize("prompt, text", MODELS.values(), ids=MODELS)
def test_the_answer_alone_is_seen(prompt, text):
    assert visible(text, prompt, is_whole=True) == ANSWER
    assert all(ANSWER.startswith(visible(text[:end], prompt, is_whole=False)) for end in range(len(text) + 1))


@pytest.mark.parametrize("text", MENTIONS)
def test_an_answer_may_mention_a_tag(text):
    assert THOUGHTS.read(text).answer == text
    assert all(text.startswith(THOUGHTS.read(text[:end], is_whole=False).answer) for end in range(len(text) + 1))


@pytest.mark.parametrize("name", [name for name in MODELS if "after" not in name and name != "Apriel"])
def test_an_unknown_prompt_may_have_opened_the_thought(name):
    """But a thought after the answer can't be told from one that the prompt opened."""
    _, text = MODELS[name]
    assert THOUGHTS.read(text, may_be_open=True).answer.strip() == ANSWER
    for end in range(len(text)):
        assert ANSWER.startswith(THOUGHTS.read(text[:end], may_be_open=True, is_whole=False).answer.strip())


@pytest.mark.parametrize("text", [ANSWER, *(text for text in MENTIONS if "ejemplo" not in text)])
def test_an_answer_behind_an_unknown_prompt_is_seen_when_it_is_whole(text):
    assert THOUGHTS.read(text, may_be_open=True).answer == text
    assert THOUGHTS.read(ANSWER, may_be_open=True, is_whole=False).answer == ""


def test_a_thought_that_nobody_saw_begin_is_found_late():
    reading = THOUGHTS.read("Mmm, ¿París?</think> Es París.")
    assert reading.answer.strip() == ANSWER and reading.is_late


@pytest.mark.parametrize(
    "text, prompt", [("<think>Mmm, ¿París?", ""), ("Mmm, ¿París?", "<think>\n"), ("analysisMmm", "")]
)
def test_a_thought_alone_is_no_answer(text, prompt):
    reading = THOUGHTS.read(text, THOUGHTS.opened_by(prompt))
    assert reading.answer == "" and reading.has_thought and reading.thinks


@given(st.sampled_from(sorted(MODELS)), st.lists(st.integers(0, 200)))
def test_any_split_into_pieces_shows_what_the_whole_shows(name, cuts):
    prompt, text = MODELS[name]
    shown = ""
    for cut in [*sorted(cut for cut in cuts if cut < len(text)), len(text)]:
        seen = visible(text[:cut], prompt, is_whole=False)
        assert seen.startswith(shown)
        shown = seen
    assert visible(text, prompt, is_whole=True).startswith(shown)


TAGS = [
    "<think>",
    "</think>",
    "`<think>`",
    "<|end|>",
    "[/THINK]",
    "<",
    "</th",
    "\n",
    " ",
    ".",
    ":",
    "Así",
    "es",
    "`",
    "```",
]
WORDS = st.lists(st.sampled_from(TAGS), max_size=12).map("".join)


@given(WORDS)
def test_what_was_shown_of_any_text_is_never_taken_back(text):
    """Unless a thought ends that nobody saw begin, which a reading says."""
    whole, shown = THOUGHTS.read(text), ""
    for end in range(len(text) + 1):
        reading = THOUGHTS.read(text[:end], is_whole=False)
        assert reading.is_late or reading.answer.lstrip().startswith(shown)
        shown = reading.answer.strip()
    assert whole.is_late or whole.answer.lstrip().startswith(shown)


@given(WORDS.filter(lambda text: "</think>" not in text))
def test_nothing_of_an_open_thought_is_shown(text):
    opened = THOUGHTS.opened_by("<think>\n")
    for end in range(len(text) + 1):
        assert THOUGHTS.read(text[:end], opened, is_whole=False).answer == ""
    assert THOUGHTS.read(f"{text}.</think>Sí.", opened).answer == "Sí."


@pytest.mark.parametrize("opening, closing", [
    ("<think>", "</think>"), ("<seed:think>", "</seed:think>"), ("[THINK]", "[/THINK]"), ("◁think▷", "◁/think▷"),
    ("<|think|>", "<|/think|>"), ("<|START_THINKING|>", "<|END_THINKING|>"), ("<|think:start|>", "<|think:end|>"),
])  # fmt: skip
def test_a_thought_is_closed_as_its_format_closes_it(opening, closing):
    assert closing_of(THOUGHTS.opened_by(opening)).strip() == closing
    assert THOUGHTS.read(f"Mmm{closing}Sí.", THOUGHTS.opened_by(opening)).answer == "Sí."


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.opening[:20])
def test_a_closing_that_a_format_names_closes_it(form):
    if form.close:
        assert THOUGHTS.read(f"Mmm{form.close}Sí.", (form, "")).answer.strip() == "Sí."

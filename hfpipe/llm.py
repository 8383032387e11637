"""Answer a question in text, with a local chat model or a text2text model behind one call."""

import json
import os
import re
from pathlib import Path

import psutil
import torch
from jinja2 import TemplateError
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer
from transformers.models.whisper.tokenization_whisper import LANGUAGES

from .hub import WITHOUT_HUB, check_reachable
from .parts import is_out_of_memory, refuse_missing
from .sentences import cut_at_sentence

MAX_NEW_TOKENS = 128  # about three spoken sentences
SYSTEM_PROMPTS = {  # a small model obeys best in the language that it is to answer in
    "es": "Responde en español, en una a tres oraciones, de forma directa y amable. Se leerá en voz alta.",
    "en": "Answer in English, in one to three sentences, directly and kindly. It will be read aloud.",
}
OTHER_SYSTEM_PROMPT = "Answer in {}, in one to three sentences, directly and kindly. It will be read aloud."
QUESTION_AND_ANSWER = {"es": ("Pregunta", "Respuesta")}
THINKING = re.compile(r"<think>.*?(</think>|\Z)", re.DOTALL)


class LLM:
    """Turns questions into short answers with a transformers model.

    Args:
        model: a causal model with a chat template in its tokenizer, or an encoder-decoder (FLAN-T5).
        tokenizer: the model's tokenizer.
        stored_dtype: that in which `save_pretrained` writes the weights; None is the model's.
    """

    def __init__(self, model, tokenizer, stored_dtype=None):
        if not model.config.is_encoder_decoder and tokenizer.chat_template is None:
            raise ValueError(
                f"{model.config.name_or_path!r} has no chat template, so it is no chat model. Give llm= a chat "
                "model, such as 'Qwen/Qwen2.5-1.5B-Instruct', or a text2text one, such as 'google/flan-t5-base'."
            )
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.stored_dtype = stored_dtype or model.dtype
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        tokenizer.padding_side = "right" if model.config.is_encoder_decoder else "left"

    @classmethod
    def from_pretrained(cls, name_or_path, revision=None, token=None, device=None, dtype=None, **model_kwargs):
        """Loads the model and tokenizer of a folder or a Hub id; code in them is never run.

        Args:
            name_or_path: a folder, or a Hub id, of a causal chat model or an encoder-decoder.
            revision: branch, tag or commit of a Hub id.
            token: for a private or gated Hub id.
            device: where the model goes; None is the CPU.
            dtype: None is the dtype that the weights were saved in, or float32 on a CPU where that is faster.
            **model_kwargs: for the model's own `from_pretrained`: `quantization_config`, `device_map` (then `device`
                is left unused), `attn_implementation` ...

        Raises:
            OSError: nothing loadable there, or damaged; the message says what to give instead.
        """
        name = os.fspath(name_or_path)
        device = torch.device(device or "cpu")
        check_reachable(name, revision, "llm")
        source = {"revision": revision, "token": token, "trust_remote_code": False}
        if "quantization_config" in model_kwargs:  # quantised weights can't be moved later
            model_kwargs = {"device_map": {"": device}, **model_kwargs}
        try:
            config = AutoConfig.from_pretrained(name, **source)
            kind = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
            tokenizer = AutoTokenizer.from_pretrained(name, **source)
            reporting = {"output_loading_info": True, "ignore_mismatched_sizes": True}
            model, report = kind.from_pretrained(name, dtype=dtype or "auto", **reporting, **source, **model_kwargs)
        except Exception as error:  # a config that was tampered with makes transformers raise anything
            if is_out_of_memory(error):
                raise
            reason = (str(error).strip() or repr(error)).splitlines()[
                0
            ]  # transformers goes on to list every class that it has
            raise OSError(
                f"llm={name!r} can't be loaded: {reason} Give llm= a chat model, such as "
                "'Qwen/Qwen2.5-1.5B-Instruct', a text2text model, such as 'google/flan-t5-base', or a folder that "
                f"holds one. {WITHOUT_HUB}"
            ) from error
        refuse_missing(name, {*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])})
        stored_dtype = model.dtype
        if dtype is None and device.type == "cpu" and not model_kwargs:
            model = _widen_for_cpu(model)
        return cls(model, tokenizer, stored_dtype).to(device)

    def save_pretrained(self, folder) -> None:
        """Writes the model, as safetensors, and its tokenizer to a folder that `from_pretrained` reads."""
        if self.stored_dtype == self.model.dtype:
            self.model.save_pretrained(folder)
        else:  # it was widened to compute, and is written as it came
            narrow = {}  # by storage, so that tied weights stay tied
            for tensor in self.model.state_dict().values():
                narrow.setdefault(tensor.data_ptr(), tensor.to(self.stored_dtype))
            state = {name: narrow[tensor.data_ptr()] for name, tensor in self.model.state_dict().items()}
            self.model.save_pretrained(folder, state_dict=state)
            config = json.loads(Path(folder, "config.json").read_text(encoding="utf-8"))
            config["dtype"] = str(self.stored_dtype).removeprefix("torch.")
            Path(folder, "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")
        if self.tokenizer.is_fast:  # or the file would depend on whether a question was asked before
            self.tokenizer.backend_tokenizer.no_padding()
        self.tokenizer.save_pretrained(folder)

    def to(self, device) -> "LLM":
        """Moves the model to a device, and returns itself; a model that `device_map` placed stays where it is."""
        if not hasattr(self.model, "hf_device_map"):
            self.model.to(device)
        return self

    def __call__(
        self,
        question,
        language="es",
        system_prompt=None,
        history=None,
        max_new_tokens=MAX_NEW_TOKENS,
        **generate_kwargs,
    ):
        """Answers a question, or each of a list of them in one batch.

        Args:
            question: text, or a list of texts; a list gives a list of answers, in order.
            language: ISO 639-1 code of the language to answer in.
            system_prompt: replaces the default instruction (1 to 3 sentences, direct and kind, in `language`).
            history: earlier turns, oldest first: `[{"role": "user" | "assistant", "content": text}, ...]`.
            max_new_tokens: the longest answer, in tokens; a longer one is cut at its last sentence end.
            **generate_kwargs: passed to `generate`; greedy decoding unless `do_sample=True`.

        Raises:
            ValueError: the history isn't in that form, or the prompt doesn't fit the model.
            RuntimeError: the model answered nothing.
        """
        questions = [question] if isinstance(question, str) else list(question)
        system_prompt = default_system_prompt(language) if system_prompt is None else system_prompt
        history = _check_history(history or [])
        prompts = [self._prompt(text, system_prompt, history, language) for text in questions]
        inputs = self.tokenizer(
            prompts, return_tensors="pt", padding=True, add_special_tokens=self.model.config.is_encoder_decoder
        ).to(self.model.device)
        self._check_length(inputs["input_ids"].shape[1], max_new_tokens)
        options = {"max_new_tokens": max_new_tokens, "do_sample": False, **generate_kwargs}
        with torch.inference_mode():
            output = self.model.generate(**inputs, pad_token_id=self.tokenizer.pad_token_id, **options)
        if not self.model.config.is_encoder_decoder:
            output = output[:, inputs["input_ids"].shape[1] :]
        answers = [self._finish(tokens, text, language) for tokens, text in zip(output, questions, strict=True)]
        return answers[0] if isinstance(question, str) else answers

    def _prompt(self, question: str, system_prompt: str, history: list, language: str) -> str:
        if self.model.config.is_encoder_decoder:
            ask, answer = QUESTION_AND_ANSWER.get(language, ("Question", "Answer"))
            labels = {"user": ask, "assistant": answer}
            turns = [f"{labels[turn['role']]}: {turn['content']}" for turn in history]
            return "\n".join([system_prompt, *turns, f"{ask}: {question}"])
        messages = [*history, {"role": "user", "content": question}]
        try:
            prompt = self._render([{"role": "system", "content": system_prompt}, *messages])
        except TemplateError:
            prompt = ""
        if system_prompt.strip() in prompt:
            return prompt
        # The template knows no system turn (Gemma 2, Mistral): the instruction opens the user's first one.
        first = {"role": "user", "content": f"{system_prompt}\n\n{messages[0]['content']}"}
        return self._render([first, *messages[1:]])

    def _render(self, messages: list[dict]) -> str:
        return self.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, enable_thinking=False
        )

    def _finish(self, tokens: torch.Tensor, question: str, language: str) -> str:
        """Decodes one row of new tokens; cut at a sentence end where the model ran into the limit."""
        text = THINKING.sub("", self.tokenizer.decode(tokens, skip_special_tokens=True))
        text = " ".join(text.split())
        if not text:
            raise RuntimeError(
                f"the LLM answered nothing to {question!r}. Try another llm=, system_prompt or max_new_tokens."
            )
        ends = self.model.generation_config.eos_token_id
        ends = set(ends if isinstance(ends, list) else [ends]) | {self.tokenizer.eos_token_id}
        finished = bool(set(tokens.tolist()) & ends)
        return text if finished else cut_at_sentence(text, language)

    def _check_length(self, prompt_tokens: int, max_new_tokens: int) -> None:
        limit = getattr(self.model.config, "max_position_embeddings", None)
        if limit is not None and prompt_tokens + max_new_tokens > limit:
            raise ValueError(
                f"the question with its history takes {prompt_tokens} tokens and the answer up to {max_new_tokens}; "
                f"the model takes {limit} in all. Shorten the history or the question, or lower max_new_tokens."
            )


def default_system_prompt(language: str) -> str:
    """Gives the default instruction for an answer in a language: 1 to 3 sentences, direct and kind."""
    name = LANGUAGES.get(language, language).title()
    return SYSTEM_PROMPTS.get(language, OTHER_SYSTEM_PROMPT.format(name))


def _widen_for_cpu(model):
    """Makes 16-bit weights float32 where the CPU can't multiply them as they are, if memory allows.

    Without AVX-512 or AMX, torch 2.11 took 7 times as long for a prompt in bfloat16 as in float32 (AMD EPYC, AVX2).
    """
    can = torch.cpu.get_capabilities()
    multiplies = {
        torch.bfloat16: can.get("avx512_bf16") or can.get("amx_bf16") or can.get("bf16"),
        torch.float16: can.get("avx512_fp16") or can.get("amx_fp16") or can.get("fp16"),
    }
    room = psutil.virtual_memory().available / 2
    return model if multiplies.get(model.dtype, True) or model.num_parameters() * 4 > room else model.float()


def _check_history(history) -> list[dict]:
    for turn in history:
        valid = isinstance(turn, dict) and turn.get("role") in ("user", "assistant")
        if not valid or not isinstance(turn.get("content"), str):
            raise ValueError(
                f"history has the turn {turn!r}; valid is a list of turns, oldest first, each "
                "{'role': 'user' or 'assistant', 'content': text}."
            )
    return list(history)

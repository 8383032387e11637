"""Answer a question in text, with a local chat model or a text2text model behind one call."""

import copy
import json
import math
import os
from collections.abc import Callable
from pathlib import Path

import psutil
import torch
from jinja2 import TemplateError
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer, DynamicCache
from transformers.generation.streamers import BaseStreamer

from .cpu_precision import choose_precision, convert_linears, widen_rest
from .cpu_threads import refuse_forked_process
from .engine_cancel import add_cancel_hooks
from .errors import is_out_of_memory
from .hub_access import WITHOUT_HUB, check_reachable
from .hub_weights import refuse_missing, save_model
from .llm_answer import (
    MAX_NEW_TOKENS,
    MAX_THINKING_TOKENS,
    Answer,
    Writer,
    default_system_prompt,
    fold_instruction,
    split_history,
    tidy,
)
from .llm_budget import CLOSING_ROOM, ThinkingBudget, TokenReader
from .llm_prompts import PromptCache, Sequence, common_prefix
from .llm_thoughts import Format, Reading
from .text_locale import base_language
from .text_sentences import cut_at_sentence

FORGOTTEN_TURNS = 8  # left out together, questions and answers, where a history is too long
QUESTION_AND_ANSWER = {"es": ("Pregunta", "Respuesta")}
PROBES = "a", "¿Y"  # questions that begin unlike: what their prompts share is the instruction
CACHEABLE = {  # the options of `generate` with which kept keys and values serve
    *("max_new_tokens", "min_new_tokens", "pad_token_id", "eos_token_id", "suppress_tokens", "repetition_penalty"),
    *("do_sample", "temperature", "top_k", "top_p", "min_p", "typical_p"),
    *("streamer", "stopping_criteria", "logits_processor"),
}
STEPLESS = {"assistant_model", "prompt_lookup_num_tokens", "custom_generate"}  # several tokens at once
THINKING_OFF = {"enable_thinking": False, "thinking": False}  # by template; one that knows neither ignores them
PLACING = {"quantization_config", "device_map"}  # of the arguments for the model, those that leave it where it is put


class LLM:
    """Answer questions, shortly, with a transformers model.

    What a reasoning model thinks before it answers is left out. A model whose template can switch thinking off
    (Qwen3, GLM, Gemma 4, DeepSeek V3, Kimi K2.5 …) doesn't think: whoever asks aloud waits for every token of it.

    Attributes:
        streams: True: a call takes `on_text=`.
        batches: True: a call takes a list of questions.
        regions: True: a call takes a language with its region, such as "es-MX".

    Args:
        model: a causal model with a chat template in its tokenizer, or an encoder-decoder (FLAN-T5).
        tokenizer: the model's tokenizer.
        stored_dtype: that in which `save_pretrained` writes the weights; None is the model's.
    """

    streams = batches = regions = True

    def __init__(self, model, tokenizer, stored_dtype=None):
        if not model.config.is_encoder_decoder and tokenizer.chat_template is None:
            raise ValueError(
                f"{model.config.name_or_path!r} has no chat template, so it is no chat model. Give llm= a chat "
                "model, such as 'Qwen/Qwen2.5-1.5B-Instruct', or a text2text one, such as 'google/flan-t5-base'."
            )
        self.model = model.eval()
        self._hooks = add_cancel_hooks(model)
        self.tokenizer = tokenizer
        self.stored_dtype = stored_dtype or model.dtype
        self._prompts = PromptCache(model)
        self._reader = TokenReader(tokenizer)
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        tokenizer.padding_side = "right" if model.config.is_encoder_decoder else "left"

    @classmethod
    def from_pretrained(
        cls, name_or_path, revision=None, token=None, device=None, dtype=None, precision="auto", **model_kwargs
    ):
        """Load the model and tokenizer of a folder or a Hub id; code in them is never run.

        Args:
            name_or_path: a folder, or a Hub id, of a causal chat model or an encoder-decoder.
            revision: branch, tag or commit of a Hub id.
            token: for a private or gated Hub id.
            device: where the model goes; None is the CPU.
            dtype: of the weights; None is the one that they were saved in.
            precision: in which the linear layers compute, see `choose_precision`; quantized or placed weights stay as
                they are.
            **model_kwargs: for the model's own `from_pretrained`: `quantization_config`, `device_map` (then `device`
                is left unused), `attn_implementation` ...

        Raises:
            OSError: nothing loadable there, or damaged; the message says what to give instead.
            ValueError: no such precision, or not on this device or with these weights.
        """
        name = os.fspath(name_or_path)
        device = torch.device(device or "cpu")
        placed = sorted(PLACING & model_kwargs.keys())
        if placed and precision != "auto":
            raise ValueError(
                f"precision={precision!r} can't be had together with {placed[0]}=; leave one of them out."
            )
        chosen = choose_precision(precision, dtype, device)
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
            # transformers goes on to list every class that it has
            reason = (str(error).strip() or repr(error)).splitlines()[0]
            raise OSError(
                f"llm={name!r} can't be loaded: {reason} Give llm= a chat model, such as "
                "'Qwen/Qwen2.5-1.5B-Instruct', a text2text model, such as 'google/flan-t5-base', or a folder that "
                f"holds one. {WITHOUT_HUB}"
            ) from error
        refuse_missing(name, {*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])})
        stored_dtype = model.dtype
        if not placed and chosen is not None:
            model = _compute_in(model, chosen, device, is_asked=precision != "auto")
        return cls(model, tokenizer, stored_dtype).to(device)

    def save_pretrained(self, folder) -> None:
        """Write the model, as safetensors, and its tokenizer to a folder that `from_pretrained` reads."""
        state = self.model.state_dict()
        if all(tensor.dtype == self.stored_dtype for tensor in state.values() if tensor.is_floating_point()):
            save_model(self.model, folder)
        else:  # it was widened to compute, and is written as it came
            narrow = {}  # by storage, so that tied weights stay tied
            for tensor in state.values():
                kept = tensor.to(self.stored_dtype) if tensor.is_floating_point() else tensor
                narrow.setdefault(tensor.data_ptr(), kept)
            state = {name: narrow[tensor.data_ptr()] for name, tensor in state.items()}
            save_model(self.model, folder, state_dict=state)
            config = json.loads(Path(folder, "config.json").read_text(encoding="utf-8"))
            config["dtype"] = str(self.stored_dtype).removeprefix("torch.")
            Path(folder, "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")
        copy.deepcopy(self.tokenizer).save_pretrained(folder)

    def to(self, device) -> "LLM":
        """Move the model to a device, and return itself; a model that `device_map` placed stays where it is."""
        if not hasattr(self.model, "hf_device_map"):
            for hook in self._hooks:
                hook.remove()
            self.model.to(device)
            self._hooks = add_cancel_hooks(self.model)
            self._prompts.clear()
        return self

    def __call__(
        self,
        question,
        language="es",
        system_prompt=None,
        history=None,
        max_new_tokens=MAX_NEW_TOKENS,
        on_text=None,
        max_thinking_tokens=MAX_THINKING_TOKENS,
        **generate_kwargs,
    ):
        """Answer a question, or each of a list of them in one batch.

        Args:
            question: text, or a list of texts; a list gives a list of answers, in order.
            language: of the answer: ISO 639-1 code, or BCP 47 tag with a region ("es-MX" asks for Mexican Spanish).
            system_prompt: replaces the default instruction (1 to 3 sentences, direct and kind, in `language`).
            history: earlier turns, oldest first: `[{"role": "user" | "assistant", "content": text}, ...]`. A system or
                developer turn before them is the `system_prompt`, and content may be a list of parts of type "text".
                Where it is too long for the model, whole turns are left out from the oldest on, the instruction never.
            max_new_tokens: the longest answer, in tokens; a longer one is cut at its last sentence end.
            on_text: is called with the answer to one question as it is written, some words at a time; joined as they
                are they are the answer. What the limit may yet cut off is held back.
            max_thinking_tokens: how long a reasoning model may think before it answers, in tokens. At the limit its
                thought is ended as its format ends one, and it goes on to answer. It is lowered where the model's
                context has no room for it. With beams, thoughts and answer share both limits.
            **generate_kwargs: passed to `generate`; greedy decoding unless `do_sample=True`.

        Raises:
            ValueError: the history isn't in that form, or the question alone doesn't fit the model.
            RuntimeError: the model answered nothing, or only thought.
        """
        refuse_forked_process()
        questions = [question] if isinstance(question, str) else list(question)
        system_prompt, history = split_history(history or [], system_prompt)
        system_prompt = default_system_prompt(language) if system_prompt is None else system_prompt
        opened, may_think = self._opened_thought(questions[:1], system_prompt, history, language)
        thinking = max_thinking_tokens + CLOSING_ROOM if may_think else 0
        inputs = self._read(questions, system_prompt, history, language)
        # So many turns at once, so that the next prompts begin alike, and what was computed of them serves again.
        while history and self._space(inputs) < max_new_tokens + thinking:
            history = history[FORGOTTEN_TURNS:]
            inputs = self._read(questions, system_prompt, history, language)
        space = self._space(inputs)
        if space < max_new_tokens:
            raise ValueError(
                f"the question takes {inputs['input_ids'].shape[1]} tokens and the answer up to {max_new_tokens}; the "
                f"model takes {self.model.config.max_position_embeddings} in all. Shorten the question, or lower "
                "max_new_tokens."
            )
        thinking = int(min(thinking, space - max_new_tokens))
        options = {"max_new_tokens": max_new_tokens + thinking, "do_sample": False, **generate_kwargs}
        has_beams = options.get("num_beams", self.model.generation_config.num_beams or 1) > 1
        rows, length = inputs["input_ids"].shape
        lengths: list[int | None] = [None] * rows  # of what was generated for each, without the padding
        if may_think and not has_beams and not options.keys() & STEPLESS:
            limits = max(0, thinking - CLOSING_ROOM), max_new_tokens
            budget = ThinkingBudget(self._reader, opened, length, rows, *limits)
            options["logits_processor"] = [*options.get("logits_processor", ()), budget.force]
            options["stopping_criteria"] = [*options.get("stopping_criteria", ()), budget.is_spent]
            lengths = budget.lengths
        # Also where nobody reads along: what was written decides in rare cases, and both ways give the same answer.
        writer = Writer(language, on_text) if isinstance(question, str) else None
        if writer and not has_beams:
            options["streamer"] = _Tokens(writer, lambda tokens: self._reader.read(tokens, opened, is_whole=False))
        with torch.inference_mode():
            if self._can_use_cache(inputs, options):
                output = self._generate_from_cache(inputs, options, questions[0], system_prompt, history, language)
            else:
                output = self.model.generate(**inputs, pad_token_id=self.tokenizer.pad_token_id, **options)
        if not self.model.config.is_encoder_decoder:
            output = output[:, length:]
        answers = [
            self._finish(tokens[:made], text, language, opened)
            for tokens, made, text in zip(output, lengths, questions, strict=True)
        ]
        return writer.finish(answers[0]) if writer else answers

    def _opened_thought(self, questions: list[str], system_prompt: str, history: list, language: str) -> tuple:
        """Return the thought that the prompt opens, as `Thoughts.opened_by` does, and whether the model may think.

        A prompt whose end holds a whole thought, as of a template with thinking switched off, has it answer at once.
        """
        thoughts = self._reader.thoughts
        may_think = self._reader.may_think or thoughts.are_marked_in(system_prompt)
        if not may_think or self.model.config.is_encoder_decoder or not questions:
            return None, False
        prompt, question = self._prompt(questions[0], system_prompt, history, language), questions[0].strip()
        end = prompt.rpartition(question)[2] if question else prompt
        opened = thoughts.opened_by(end)
        return opened, opened is not None or not thoughts.end_in(end)

    def _can_use_cache(self, inputs, options: dict) -> bool:
        beams = self.model.generation_config.num_beams or 1
        is_plain = beams == 1 and not options.keys() - CACHEABLE
        return self._prompts.is_usable and len(inputs["input_ids"]) == 1 and is_plain

    def _generate_from_cache(
        self, inputs, options: dict, question: str, system_prompt: str, history: list, language: str
    ) -> torch.Tensor:
        """Generate tokens for one prompt, after what was kept of its beginning; keep prompt and answer."""
        prompt = inputs["input_ids"][0]
        unanswered = self._read([question], system_prompt, history, language, begin_answer=False)["input_ids"][0]
        cache = self._prompts.find(prompt)
        if cache is None:
            cache = self._read_instruction(prompt, system_prompt, language)
        output = self.model.generate(
            **inputs,
            pad_token_id=self.tokenizer.pad_token_id,
            past_key_values=cache,
            return_dict_in_generate=True,
            **options,
        )
        cache, stem = output.past_key_values, len(common_prefix(prompt, unanswered))
        read = output.sequences[0, : cache.get_seq_length()]
        self._prompts.keep(Sequence(read, cache, stem, len(prompt)))
        return output.sequences

    def _read_instruction(self, prompt: torch.Tensor, system_prompt: str, language: str) -> DynamicCache:
        """Return a cache, to append to, of the instruction that a prompt (tokens,) begins with; empty if it doesn't.

        The instruction is read alone, and kept: a first answer then comes out like a later one, bit for bit.
        """
        probes = [self._read([probe], system_prompt, [], language)["input_ids"][0] for probe in PROBES]
        instruction = common_prefix(*probes)
        length = len(instruction)
        cache = DynamicCache()
        if 0 < length < len(prompt) and torch.equal(prompt[:length], instruction):
            self.model(input_ids=instruction[None], past_key_values=cache, use_cache=True, logits_to_keep=1)
            self._prompts.keep(Sequence(instruction, cache, length, length))
            cache = self._prompts.find(prompt) or DynamicCache()
        return cache

    def _read(self, questions: list[str], system_prompt: str, history: list, language: str, begin_answer: bool = True):
        """Return the tokens of a prompt for each question, padded to one length.

        They are padded here and not by the fast tokenizer, which would keep that as a setting while others use it.
        """
        prompts = [self._prompt(text, system_prompt, history, language, begin_answer) for text in questions]
        tokens = self.tokenizer(prompts, add_special_tokens=self.model.config.is_encoder_decoder)
        return self.tokenizer.pad(tokens, return_tensors="pt").to(self.model.device)

    def _space(self, inputs) -> float:
        """Return how many tokens fit behind a prompt."""
        limit = getattr(self.model.config, "max_position_embeddings", None)
        return math.inf if limit is None else limit - inputs["input_ids"].shape[1]

    def _prompt(
        self, question: str, system_prompt: str, history: list, language: str, begin_answer: bool = True
    ) -> str:
        """Return the text of a prompt, by default with the marks that begin an answer."""
        if self.model.config.is_encoder_decoder:
            ask, answer = QUESTION_AND_ANSWER.get(base_language(language), ("Question", "Answer"))
            labels = {"user": ask, "assistant": answer}
            turns = [f"{labels[turn['role']]}: {turn['content']}" for turn in history]
            return "\n".join([system_prompt, *turns, f"{ask}: {question}"])
        messages = [*history, {"role": "user", "content": question}]
        try:
            prompt = self._render([{"role": "system", "content": system_prompt}, *messages], begin_answer)
        except TemplateError:
            prompt = ""
        if system_prompt.strip() in prompt:
            return prompt
        # The template knows no system turn (Gemma 2, Mistral): the instruction opens the user's first one.
        return self._render(fold_instruction(system_prompt, messages), begin_answer)

    def _render(self, messages: list[dict], begin_answer: bool) -> str:
        return self.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=begin_answer, **THINKING_OFF
        )

    def _finish(
        self, tokens: torch.Tensor, question: str, language: str, opened: tuple[Format, str] | None = None
    ) -> Answer:
        """Return the answer in one row of new tokens; cut at a sentence end where the model ran into the limit."""
        reading = self._reader.read(tokens.tolist(), opened)
        text = tidy(reading.answer)
        if not text and reading.has_thought:
            raise RuntimeError(
                f"the LLM only thought about {question!r}, and answered nothing in {len(tokens)} tokens. Raise "
                "max_thinking_tokens (through the pipeline, generate_kwargs={'max_thinking_tokens': ...}) or "
                "max_new_tokens, or try another llm= or system_prompt."
            )
        if not text:
            raise RuntimeError(
                f"the LLM answered nothing to {question!r}. Try another llm=, system_prompt or max_new_tokens."
            )
        ends = self.model.generation_config.eos_token_id
        ends = set(ends if isinstance(ends, list) else [ends]) | {self.tokenizer.eos_token_id}
        finished = bool(set(tokens.tolist()) & ends)
        return Answer(text) if finished else Answer(cut_at_sentence(text, language), is_cut=True)


class _Tokens(BaseStreamer):
    """A streamer that writes the text of tokens as they are sampled."""

    def __init__(self, writer: Writer, read: Callable[[list[int]], Reading]):
        self._writer, self._read = writer, read
        self._tokens: list[int] | None = None  # before the prompt, which comes first

    def put(self, value: torch.Tensor) -> None:
        if self._tokens is None:
            self._tokens = []
        else:
            self._tokens += value.flatten().tolist()
            self._writer.write(self._read(self._tokens))

    def end(self) -> None:
        """Do nothing: the writer is told what the answer is."""


def _compute_in(model, precision: str, device: torch.device, is_asked: bool):
    """Convert a model's layers to a precision, and on a CPU what lies between them to float32.

    Without AVX-512 or AMX, torch 2.11 took 7 times as long for a prompt in bfloat16 as in float32 (AMD EPYC, AVX2).
    """
    if device.type != "cpu":
        return model.to(getattr(torch, precision))
    if precision == "float32":
        has_room = model.num_parameters() * 4 <= psutil.virtual_memory().available / 2
        return model.float() if is_asked or has_room else model
    return widen_rest(convert_linears(model, precision))

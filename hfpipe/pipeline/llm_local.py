"""Answer a question in text, with a local chat model or a text2text model behind one call."""

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path

import psutil
import torch
from jinja2 import TemplateError
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer, DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer
from transformers.generation.streamers import BaseStreamer

from .cpu_precision import convert_linears, resolve_precision, widen_rest
from .engine_cancel import watch
from .hub_access import WITHOUT_HUB, check_reachable
from .hub_parts import is_out_of_memory, refuse_missing
from .llm_answer import Writer, check_history, default_system_prompt, tidy
from .text_sentences import cut_at_sentence

MAX_NEW_TOKENS = 128  # about three spoken sentences
FORGOTTEN_TURNS = 8  # left out together, questions and answers, where a history is too long
QUESTION_AND_ANSWER = {"es": ("Pregunta", "Respuesta")}
REUSING = {  # the options of `generate` with which the last prompt's keys and values serve
    *("max_new_tokens", "min_new_tokens", "pad_token_id", "eos_token_id", "suppress_tokens", "repetition_penalty"),
    *("do_sample", "temperature", "top_k", "top_p", "min_p", "typical_p", "streamer", "stopping_criteria"),
}
PLACING = {"quantization_config", "device_map"}  # of the arguments for the model, those that leave it where it is put


class LLM:
    """Turns questions into short answers with a transformers model.

    Attributes:
        streams: True: a call takes `on_text=`.

    Args:
        model: a causal model with a chat template in its tokenizer, or an encoder-decoder (FLAN-T5).
        tokenizer: the model's tokenizer.
        stored_dtype: that in which `save_pretrained` writes the weights; None is the model's.
    """

    streams = True

    def __init__(self, model, tokenizer, stored_dtype=None):
        if not model.config.is_encoder_decoder and tokenizer.chat_template is None:
            raise ValueError(
                f"{model.config.name_or_path!r} has no chat template, so it is no chat model. Give llm= a chat "
                "model, such as 'Qwen/Qwen2.5-1.5B-Instruct', or a text2text one, such as 'google/flan-t5-base'."
            )
        self.model = watch(model.eval())
        self.tokenizer = tokenizer
        self.stored_dtype = stored_dtype or model.dtype
        self._keeps = _keeps_all(model)
        self._kept = None  # tokens of the last prompt and answer, and their keys and values
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        tokenizer.padding_side = "right" if model.config.is_encoder_decoder else "left"

    @classmethod
    def from_pretrained(
        cls, name_or_path, revision=None, token=None, device=None, dtype=None, precision="auto", **model_kwargs
    ):
        """Loads the model and tokenizer of a folder or a Hub id; code in them is never run.

        Args:
            name_or_path: a folder, or a Hub id, of a causal chat model or an encoder-decoder.
            revision: branch, tag or commit of a Hub id.
            token: for a private or gated Hub id.
            device: where the model goes; None is the CPU.
            dtype: of the weights; None is the one that they were saved in.
            precision: in which the linear layers compute, one of `precision.PRECISIONS`. "auto" is what is fastest on
                this CPU; on a GPU, with a `dtype` or with quantised or placed weights it is what they are in.
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
        resolved = resolve_precision(precision, device)
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
        if not placed and (precision != "auto" or (dtype is None and device.type == "cpu")):
            model = _compute_in(model, resolved, device, is_asked=precision != "auto")
        return cls(model, tokenizer, stored_dtype).to(device)

    def save_pretrained(self, folder) -> None:
        """Writes the model, as safetensors, and its tokenizer to a folder that `from_pretrained` reads."""
        state = self.model.state_dict()
        if all(tensor.dtype == self.stored_dtype for tensor in state.values() if tensor.is_floating_point()):
            self.model.save_pretrained(folder)
        else:  # it was widened to compute, and is written as it came
            narrow = {}  # by storage, so that tied weights stay tied
            for tensor in state.values():
                kept = tensor.to(self.stored_dtype) if tensor.is_floating_point() else tensor
                narrow.setdefault(tensor.data_ptr(), kept)
            state = {name: narrow[tensor.data_ptr()] for name, tensor in state.items()}
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
        on_text=None,
        **generate_kwargs,
    ):
        """Answers a question, or each of a list of them in one batch.

        Args:
            question: text, or a list of texts; a list gives a list of answers, in order.
            language: ISO 639-1 code of the language to answer in.
            system_prompt: replaces the default instruction (1 to 3 sentences, direct and kind, in `language`).
            history: earlier turns, oldest first: `[{"role": "user" | "assistant", "content": text}, ...]`. Where it is
                too long for the model, whole turns are left out from the oldest on, the instruction never.
            max_new_tokens: the longest answer, in tokens; a longer one is cut at its last sentence end.
            on_text: is called with the answer to one question as it is written, some words at a time; joined as they
                are they are the answer. What the limit may yet cut off is held back.
            **generate_kwargs: passed to `generate`; greedy decoding unless `do_sample=True`.

        Raises:
            ValueError: the history isn't in that form, or the question alone doesn't fit the model.
            RuntimeError: the model answered nothing.
        """
        questions = [question] if isinstance(question, str) else list(question)
        system_prompt = default_system_prompt(language) if system_prompt is None else system_prompt
        history = check_history(history or [])
        inputs = self._read(questions, system_prompt, history, language)
        # So many turns at once, that the next prompts begin alike and what was computed of them serves again.
        while history and not self._fits(inputs, max_new_tokens):
            history = history[FORGOTTEN_TURNS:]
            inputs = self._read(questions, system_prompt, history, language)
        if not self._fits(inputs, max_new_tokens):
            raise ValueError(
                f"the question takes {inputs['input_ids'].shape[1]} tokens and the answer up to {max_new_tokens}; the "
                f"model takes {self.model.config.max_position_embeddings} in all. Shorten the question, or lower "
                "max_new_tokens."
            )
        options = {"max_new_tokens": max_new_tokens, "do_sample": False, **generate_kwargs}
        # Also where nobody reads along: what was written decides in rare cases, and both ways give the same answer.
        writer = Writer(language, on_text) if isinstance(question, str) else None
        if writer and options.get("num_beams", self.model.generation_config.num_beams or 1) == 1:
            options["streamer"] = _Tokens(writer, self._decode)
        with torch.inference_mode():
            output = self._generate(inputs, options)
        if not self.model.config.is_encoder_decoder:
            output = output[:, inputs["input_ids"].shape[1] :]
        answers = [self._finish(tokens, text, language) for tokens, text in zip(output, questions, strict=True)]
        return writer.finish(answers[0]) if writer else answers

    def _generate(self, inputs, options: dict) -> torch.Tensor:
        """Generates tokens; a prompt that begins like the last one takes the keys and values of that over.

        Those of one prompt and its answer are kept, so that the instruction and a history that grows are read once.
        Kept tensors are never changed: a call takes a crop of them, and appending to that makes new ones. So threads
        need no lock, and at worst one of them keeps nothing.
        """
        options = {"pad_token_id": self.tokenizer.pad_token_id, **options}
        prompt = inputs["input_ids"]
        beams = self.model.generation_config.num_beams or 1
        if not self._keeps or len(prompt) > 1 or beams > 1 or options.keys() - REUSING:
            return self.model.generate(**inputs, **options)
        # Layers that see a window of tokens are kept whole too: transformers hides from them what lies before it, and
        # what has left a window could not be had back.
        cache = _crop(*self._kept, prompt[0]) if self._kept is not None else DynamicCache()
        output = self.model.generate(**inputs, **options, past_key_values=cache, return_dict_in_generate=True)
        cache = output.past_key_values
        self._kept = output.sequences[0, : cache.get_seq_length()], cache
        return output.sequences

    def _read(self, questions: list[str], system_prompt: str, history: list, language: str):
        """Gives the tokens of a prompt for each question."""
        prompts = [self._prompt(text, system_prompt, history, language) for text in questions]
        add_special = self.model.config.is_encoder_decoder
        inputs = self.tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=add_special)
        return inputs.to(self.model.device)

    def _fits(self, inputs, max_new_tokens: int) -> bool:
        limit = getattr(self.model.config, "max_position_embeddings", None)
        return limit is None or inputs["input_ids"].shape[1] + max_new_tokens <= limit

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
        text = self._decode(tokens)
        if not text:
            raise RuntimeError(
                f"the LLM answered nothing to {question!r}. Try another llm=, system_prompt or max_new_tokens."
            )
        ends = self.model.generation_config.eos_token_id
        ends = set(ends if isinstance(ends, list) else [ends]) | {self.tokenizer.eos_token_id}
        finished = bool(set(tokens.tolist()) & ends)
        return text if finished else cut_at_sentence(text, language)

    def _decode(self, tokens) -> str:
        """Gives the text of new tokens, without what was only thought."""
        return tidy(self.tokenizer.decode(tokens, skip_special_tokens=True))


class _Tokens(BaseStreamer):
    """Takes tokens as they are drawn, and writes their text."""

    def __init__(self, writer: Writer, decode: Callable[[list[int]], str]):
        self._writer, self._decode = writer, decode
        self._tokens: list[int] | None = None  # before the prompt, which comes first

    def put(self, value: torch.Tensor) -> None:
        if self._tokens is None:
            self._tokens = []
        else:
            self._tokens += value.flatten().tolist()
            self._writer.write(self._decode(self._tokens))

    def end(self) -> None:
        """Does nothing: the writer is told what the answer is."""


def _compute_in(model, precision: str, device: torch.device, is_asked: bool):
    """Puts a model's layers into a precision, and what lies between them on a CPU into float32.

    Without AVX-512 or AMX, torch 2.11 took 7 times as long for a prompt in bfloat16 as in float32 (AMD EPYC, AVX2).
    """
    if device.type != "cpu":
        return model.to(getattr(torch, precision))
    if precision == "float32":
        has_room = model.num_parameters() * 4 <= psutil.virtual_memory().available / 2
        return model.float() if is_asked or has_room else model
    return widen_rest(convert_linears(model, precision))


def _keeps_all(model) -> bool:
    """Tells whether a model's cache can hold the keys and values of all tokens, so that any end can be cut off."""
    if model.config.is_encoder_decoder or not model._supports_default_dynamic_cache():
        return False
    layers = DynamicCache(config=model.config).layers
    return all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers)


def _crop(tokens: torch.Tensor, cache: DynamicCache, prompt: torch.Tensor) -> DynamicCache:
    """Gives the keys and values of the tokens that a prompt shares with the kept ones.

    The prompt's last token is left to be read: what follows it is asked for.
    """
    length = min(len(tokens), len(prompt) - 1)
    differ = (tokens[:length] != prompt[:length]).nonzero()
    shared = int(differ[0]) if len(differ) else length
    if shared == 0:
        return DynamicCache()
    cache = copy.copy(cache)
    cache.layers = [copy.copy(layer) for layer in cache.layers]
    cache.crop(shared - len(tokens))
    return cache

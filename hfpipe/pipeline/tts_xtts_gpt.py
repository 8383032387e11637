"""Decode XTTS's language model: from a text and a voice to the latents that its vocoder turns into sound."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from .cpu_int8 import Int8Linear
from .cpu_precision import LAYERS, Conv1D
from .engine_cancel import raise_if_cancelled
from .tts_xtts_steps import Steps, normalise

PREFIX_TOKEN = 1  # coqui has it in the place of the prompt, so it counts as said (coqui-tts 0.28, compute_embeddings)
GRAPH_LENGTHS = 256  # a CUDA graph looks at a multiple of so many positions
MAX_IDLE = 8  # kinds of batches whose graphs are kept


@dataclass(frozen=True)
class Sampling:
    """How audio tokens are drawn; the defaults are XTTS v2's own.

    Attributes:
        temperature: divides the logits.
        top_k: so many of the likeliest tokens are left. 0 leaves all.
        top_p: of these, the likeliest whose probabilities add up to this much.
        repetition_penalty: divides the positive and multiplies the negative logits of tokens already said.
        do_sample: False takes the likeliest token.
    """

    temperature: float = 0.75
    top_k: int = 50
    top_p: float = 0.85
    repetition_penalty: float = 10.0
    do_sample: bool = True


class Decoder:
    """XTTS's GPT-2, with its own decoding loop: a static cache of keys and values, and one pass.

    The latents are the states from which the tokens were drawn; coqui-tts computes them a second time. A batch may
    hold different texts and voices: prompts are padded on the left, and what was not written is masked. On a CUDA
    GPU a step, the drawing included, is one CUDA graph.

    Args:
        gpt: coqui's `GPT` module, on the CPU; its parameters are read, never changed.
        precision: "float32", "int8", "mixed", "bfloat16" or "float16".
        device: where to compute.
    """

    def __init__(self, gpt, precision: str = "float32", device="cpu"):
        self.device, self.precision = torch.device(device), precision
        on_cpu = self.device.type == "cpu"
        self.dtype = torch.float32 if on_cpu else getattr(torch, precision)
        kind = precision if on_cpu else "float32"
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:  # rounding and packing take a core each
            self.blocks = list(pool.map(lambda block: _Block(block, kind, self.device, self.dtype), gpt.gpt.h))
        self.norm_blocks = _Norm(gpt.gpt.ln_f, self.device, self.dtype)
        self.final_norm = _Norm(gpt.final_norm, self.device, self.dtype)
        self.head = _linear(gpt.mel_head, kind, self.device, self.dtype)
        self.has_int8 = isinstance(self.head, Int8Linear)
        tables = (gpt.text_embedding, gpt.text_pos_embedding.emb, gpt.mel_embedding, gpt.mel_pos_embedding.emb)
        self.text, self.text_positions, self.audio, self.audio_positions = (
            table.weight.detach().to(self.device, self.dtype) for table in tables
        )
        self.start_text, self.stop_text = gpt.start_text_token, gpt.stop_text_token
        self.start_audio, self.stop_audio = gpt.start_audio_token, gpt.stop_audio_token
        self.heads, self.limit = gpt.heads, gpt.max_gen_mel_tokens
        self.channels = self.audio.shape[1]
        self.has_graphs = self.device.type == "cuda"
        self._idle: dict[tuple, list[_Batch]] = {}  # with their graphs, by rows, length and sampling

    @torch.inference_mode()
    def read_voice(self, latents: torch.Tensor) -> torch.Tensor:
        """Computes the keys and values of a voice's latents, (1, positions, channels), once for all its sentences.

        Returns:
            (layers, 2, heads, positions, channels / heads).
        """
        states = latents.to(self.device, self.dtype)
        cache = self.new_cache(1, states.shape[1])
        self.forward(states, cache, 0)
        return cache[:, :, 0]

    @torch.inference_mode()
    def generate(
        self,
        texts: list[torch.Tensor],
        voices: list[torch.Tensor],
        sampling: Sampling,
        max_new_tokens: int | None = None,
        min_new_tokens: int = 0,
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor, bool]]:
        """Draws audio tokens for each text, step by step, until every row has said stop.

        Args:
            texts: token ids of each row, int of shape (tokens,).
            voices: what `read_voice` gave for each row.
            sampling: how tokens are drawn.
            max_new_tokens: the most steps; coqui's own limit by default.
            min_new_tokens: stop can't be drawn before so many steps.

        Yields:
            At each step the latents (rows, channels), float32, the tokens (rows,) that were drawn from them, and
            whether it is the last step; a row that had stopped before draws stop again.
        """
        steps = min(max_new_tokens or self.limit, self.limit)
        prompts = [self._embed_text(text) for text in texts]
        width = max(voice.shape[3] + len(prompt) for voice, prompt in zip(voices, prompts, strict=True))
        length = width + steps
        if self.has_graphs:  # few lengths, so that graphs serve again
            length = -(-length // GRAPH_LENGTHS) * GRAPH_LENGTHS
        key = len(texts), length, sampling
        try:
            batch = self._idle[key].pop()
        except (KeyError, IndexError):
            batch = _Batch(self, *key)
        batch.begin(prompts, voices, min_new_tokens)
        for step in range(steps):
            raise_if_cancelled()
            is_last = step + 1 == steps or bool(batch.done.all())
            yield batch.latents.clone(), batch.tokens.clone(), is_last
            if is_last:
                break
            batch.advance()
        if self.has_graphs:
            if len(self._idle) >= MAX_IDLE:
                self._idle.clear()
            self._idle.setdefault(key, []).append(batch)

    def _embed_text(self, text: torch.Tensor) -> torch.Tensor:
        """Embeds one row's prompt after the voice: start, text, stop, and the first audio token."""
        ends = [torch.tensor([token]) for token in (self.start_text, self.stop_text)]
        tokens = torch.cat([ends[0], text.long().cpu(), ends[1]]).to(self.device)
        words = self.text[tokens] + self.text_positions[: len(tokens)]
        return torch.cat([words, (self.audio[self.start_audio] + self.audio_positions[0])[None]])

    def forward(self, states: torch.Tensor, cache: torch.Tensor, start: int, bias=None) -> torch.Tensor:
        """Runs the blocks on a prompt (rows, length, channels), and caches its keys and values from `start` on."""
        length, end = states.shape[1], start + states.shape[1]
        positions = torch.arange(start, end, device=self.device)
        ahead = torch.ones(length, end, dtype=torch.bool, device=self.device).triu(start + 1)
        causal = torch.zeros(length, end, dtype=self.dtype, device=self.device).masked_fill(ahead, -torch.inf)
        return self.run_blocks(states, cache[..., :end, :], positions, causal if bias is None else bias + causal)

    def run_blocks(self, states, cache: torch.Tensor, positions: torch.Tensor, bias) -> torch.Tensor:
        """Runs the blocks, which write `cache` at `positions` and look at all of it but for what `bias` rules out."""
        for block, (keys, values) in zip(self.blocks, cache, strict=True):
            raise_if_cancelled()
            states = block(states, keys, values, positions, bias, self.heads)
        return self.norm_blocks(states)

    def new_cache(self, rows: int, length: int) -> torch.Tensor:
        """Gives an unwritten cache, (layers, 2, rows, heads, length, channels / heads)."""
        shape = (len(self.blocks), 2, rows, self.heads, length, self.channels // self.heads)
        return torch.empty(shape, dtype=self.dtype, device=self.device)


class _Batch:
    """What changes while a batch is decoded, at fixed addresses, so that a GPU can replay a step of it as a graph.

    Attributes:
        tokens: the last that were drawn, (rows,).
        latents: what they were drawn from, float32 (rows, channels).
        done: which rows have said stop.
    """

    def __init__(self, decoder: Decoder, rows: int, length: int, sampling: Sampling):
        self.decoder, self.sampling, self.length = decoder, sampling, length
        device = decoder.device
        self.cache = decoder.new_cache(rows, length)
        self.mask = torch.empty(rows, 1, 1, length, dtype=decoder.dtype, device=device)
        self.position, self.count, self.shortest = torch.zeros(3, 1, dtype=torch.long, device=device)
        self.said = torch.zeros(rows, decoder.audio.shape[0], dtype=torch.bool, device=device)
        self.done = torch.zeros(rows, dtype=torch.bool, device=device)
        self.tokens = torch.zeros(rows, dtype=torch.long, device=device)
        self.latents = torch.zeros(rows, decoder.channels, device=device)
        self.graphs: dict[int, torch.cuda.CUDAGraph] = {}
        self.steps = Steps(decoder.blocks, self.cache) if decoder.has_int8 else None

    def begin(self, prompts: list[torch.Tensor], voices: list[torch.Tensor], min_new_tokens: int) -> None:
        """Fills the cache with voices and prompts, and draws each row's first token."""
        widths = [voice.shape[3] + len(prompt) for voice, prompt in zip(voices, prompts, strict=True)]
        self.written = max(widths)
        self.is_padded = min(widths) < self.written
        self.first = self.written - np.array(widths)
        self.mask.fill_(-torch.inf)
        last = []
        for row, (prompt, voice, width) in enumerate(zip(prompts, voices, widths, strict=True)):
            padding, cache = self.written - width, self.cache[:, :, row : row + 1]
            start = padding + voice.shape[3]
            cache[..., :padding, :] = 0  # masked, but 0 times what memory happens to hold may be NaN
            cache[:, :, 0, :, padding:start] = voice
            self.mask[row, ..., padding : self.written] = 0
            bias = self.mask[row : row + 1, ..., : self.written] if padding else None
            last.append(self.decoder.forward(prompt[None], cache, start, bias)[:, -1])
        if self.decoder.has_graphs:
            self.cache[..., self.written :, :] = 0  # a graph looks at all of it
        self.position.fill_(self.written)
        self.count.zero_()
        self.shortest.fill_(min_new_tokens)
        self.done.fill_(False)
        self.said.fill_(False)
        self.said[:, [PREFIX_TOKEN, self.decoder.start_audio]] = True
        self._draw(torch.cat(last))

    def advance(self) -> None:
        """Draws each row's next token."""
        self.written += 1
        if not self.decoder.has_graphs:
            return self._step(self.written)
        end = min(-(-self.written // GRAPH_LENGTHS) * GRAPH_LENGTHS, self.length)
        if end in self.graphs:
            self.graphs[end].replay()
        else:
            self.graphs[end] = self._capture(end)

    def _step(self, end: int) -> None:
        """Draws the next tokens, looking at the first `end` positions of the cache."""
        decoder = self.decoder
        inputs = decoder.audio[self.tokens] + decoder.audio_positions[self.count + 1]
        if self.steps is not None:
            states = decoder.norm_blocks(self.steps(inputs, self.first, end - 1))
        else:
            self.mask.index_fill_(3, self.position, 0)
            bias = self.mask[..., :end] if self.is_padded or decoder.has_graphs else None
            states = decoder.run_blocks(inputs[:, None], self.cache[..., :end, :], self.position, bias)[:, -1]
        self.position += 1
        self.count += 1
        self._draw(states)

    def _draw(self, states: torch.Tensor) -> None:
        latents = self.decoder.final_norm(states)
        logits = self.decoder.head(latents).float()
        stop = self.decoder.stop_audio
        logits[:, stop] = torch.where(self.count < self.shortest, -torch.inf, logits[:, stop])
        self.latents.copy_(latents)
        self.tokens.copy_(torch.where(self.done, stop, draw(logits, self.said, self.sampling)))
        self.said.scatter_(1, self.tokens[:, None], True)
        self.done |= self.tokens == stop

    def _capture(self, end: int) -> "torch.cuda.CUDAGraph":
        """Takes a step on a stream aside, which sets the libraries up, and records the next ones' graph."""
        aside, here = torch.cuda.Stream(), torch.cuda.current_stream()
        aside.wait_stream(here)
        with torch.cuda.stream(aside):
            self._step(end)
        here.wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._step(end)
        return graph


class _Norm:
    """A layer norm elsewhere and in another precision than the one that it is made from."""

    def __init__(self, norm: nn.LayerNorm, device, dtype):
        self.weight, self.bias = norm.weight.detach().to(device, dtype), norm.bias.detach().to(device, dtype)
        self.epsilon = norm.eps

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        return F.layer_norm(states, self.weight.shape, self.weight, self.bias, self.epsilon)

    def write(self, rows: np.ndarray, outputs: np.ndarray) -> None:
        """Writes what rows (rows, channels) become into an array of their shape."""
        normalise(rows, self.weight.numpy(), self.bias.numpy(), self.epsilon, outputs)


class _Block:
    """One of GPT-2's blocks over a static cache."""

    def __init__(self, block, precision: str, device, dtype):
        self.norm_1, self.norm_2 = (_Norm(norm, device, dtype) for norm in (block.ln_1, block.ln_2))
        layers = (block.attn.c_attn, block.attn.c_proj, block.mlp.c_fc, block.mlp.c_proj)
        self.attend, self.project, self.widen, self.narrow = (
            _linear(layer, precision, device, dtype) for layer in layers
        )

    def __call__(self, states, keys, values, positions: torch.Tensor, bias, heads: int) -> torch.Tensor:
        rows, length, channels = states.shape
        joined = self.attend(self.norm_1(states)).view(rows, length, 3, heads, channels // heads)
        query, key, value = joined.permute(2, 0, 3, 1, 4)
        keys.index_copy_(2, positions, key)
        values.index_copy_(2, positions, value)
        mixed = F.scaled_dot_product_attention(query, keys, values, bias)
        states = states + self.project(mixed.transpose(1, 2).reshape(rows, length, channels))
        return states + self.narrow(F.gelu(self.widen(self.norm_2(states)), approximate="tanh"))


def draw(logits: torch.Tensor, said: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Draws a token from each row of logits, as transformers' processors in their order would, on the device.

    Args:
        logits: float32 (rows, tokens). said: bool of that shape, which tokens were said already.

    Returns:
        int64 (rows,).
    """
    penalty = sampling.repetition_penalty
    logits = torch.where(said, torch.where(logits < 0, logits * penalty, logits / penalty), logits)
    if not sampling.do_sample:
        return logits.argmax(dim=-1)
    count = min(sampling.top_k or logits.shape[-1], logits.shape[-1])
    values, tokens = (logits / sampling.temperature).topk(count, dim=-1)
    probabilities = values.softmax(dim=-1)
    before = probabilities.cumsum(dim=-1) - probabilities
    probabilities = probabilities.masked_fill(before >= sampling.top_p, 0.0)
    # The largest of p / noise is a draw from p, where noise is exponential: no synchronising multinomial.
    chosen = (probabilities / torch.empty_like(probabilities).exponential_()).argmax(dim=-1, keepdim=True)
    return tokens.gather(-1, chosen)[:, 0]


def _linear(layer: nn.Linear | Conv1D, precision: str, device, dtype):
    """Gives a linear layer in a precision, without changing the one that it is made from."""
    if precision in LAYERS:
        return LAYERS[precision](layer)
    weight = layer.weight.detach().to(device, dtype)
    bias = None if layer.bias is None else layer.bias.detach().to(device, dtype)
    if isinstance(layer, Conv1D):
        return lambda states: torch.addmm(bias, states.flatten(0, -2), weight).unflatten(0, states.shape[:-1])
    return lambda states: F.linear(states, weight, bias)

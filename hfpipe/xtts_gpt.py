"""Decode XTTS's language model: from a text and a voice to the latents that its vocoder turns into sound."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from .precision import BFloat16Linear, Conv1D, Int8Linear

PREFIX_TOKEN = (
    1  # what coqui puts in the place of the prompt, and so counts as said (coqui-tts 0.28, GPT.compute_embeddings)
)


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
    hold different texts and voices: prompts are padded on the left, and what was not written is masked.

    Args:
        gpt: coqui's `GPT` module, on the CPU; its parameters are read, never changed.
        precision: "float32", "int8", "bfloat16" or "float16".
        device: where to compute.
    """

    def __init__(self, gpt, precision: str = "float32", device="cpu"):
        self.device = torch.device(device)
        on_cpu = self.device.type == "cpu"
        self.dtype = torch.float32 if on_cpu else getattr(torch, precision)
        kind = precision if on_cpu else "float32"
        self.blocks = [_Block(block, kind, self.device, self.dtype) for block in gpt.gpt.h]
        self.norm_blocks = _moved(gpt.gpt.ln_f, self.device, self.dtype)
        self.final_norm = _moved(gpt.final_norm, self.device, self.dtype)
        self.head = _linear(gpt.mel_head, kind, self.device, self.dtype)
        tables = (gpt.text_embedding, gpt.text_pos_embedding.emb, gpt.mel_embedding, gpt.mel_pos_embedding.emb)
        self.text, self.text_positions, self.audio, self.audio_positions = (
            table.weight.detach().to(self.device, self.dtype) for table in tables
        )
        self.start_text, self.stop_text = gpt.start_text_token, gpt.stop_text_token
        self.start_audio, self.stop_audio = gpt.start_audio_token, gpt.stop_audio_token
        self.heads, self.limit = gpt.heads, gpt.max_gen_mel_tokens
        self.channels = self.audio.shape[1]

    @torch.inference_mode()
    def read_voice(self, latents: torch.Tensor) -> torch.Tensor:
        """Computes the keys and values of a voice's latents, (1, positions, channels), once for all its sentences.

        Returns:
            (layers, 2, heads, positions, channels / heads).
        """
        states = latents.to(self.device, self.dtype)
        cache = self._new_cache(1, states.shape[1])
        self._forward(states, cache, 0, states.shape[1], None)
        return cache[:, :, 0]

    @torch.inference_mode()
    def generate(
        self,
        texts: list[torch.Tensor],
        voices: list[torch.Tensor],
        sampling: Sampling,
        max_new_tokens: int | None = None,
        min_new_tokens: int = 0,
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Draws audio tokens for each text, step by step, until every row has said stop.

        Args:
            texts: token ids of each row, int of shape (tokens,).
            voices: what `read_voice` gave for each row.
            sampling: how tokens are drawn.
            max_new_tokens: the most steps; coqui's own limit by default.
            min_new_tokens: stop can't be drawn before so many steps.

        Yields:
            At each step the latents (rows, channels), float32, and the tokens (rows,) that were drawn from them; a row
            that had stopped before draws stop again.
        """
        steps = min(max_new_tokens or self.limit, self.limit)
        prompts = [self._embed_text(text) for text in texts]
        widths = [voice.shape[3] + len(prompt) for voice, prompt in zip(voices, prompts, strict=True)]
        width = max(widths)
        cache = self._new_cache(len(texts), width + steps)
        padding = [width - each for each in widths]
        mask = self._mask(padding, width + steps) if any(padding) or self.device.type != "cpu" else None
        states = self._prefill(prompts, voices, padding, cache, mask, width)
        rows = torch.arange(len(texts), device=self.device)
        said = torch.zeros(len(texts), self.audio.shape[0], dtype=torch.bool, device=self.device)
        said[:, [PREFIX_TOKEN, self.start_audio]] = True
        done = torch.zeros(len(texts), dtype=torch.bool, device=self.device)
        for step in range(steps):
            latents = self.final_norm(states)
            logits = self.head(latents).float()
            if step < min_new_tokens:
                logits[:, self.stop_audio] = -torch.inf
            tokens = torch.where(done, self.stop_audio, draw(logits, said, sampling))
            yield latents.float(), tokens
            said[rows, tokens] = True
            done = done | (tokens == self.stop_audio)
            if step + 1 == steps or done.all():
                return
            inputs = self.audio[tokens] + self.audio_positions[step + 1]
            states = self._forward(inputs[:, None], cache, width + step, width + step + 1, mask)[:, -1]

    def _embed_text(self, text: torch.Tensor) -> torch.Tensor:
        """Embeds one row's prompt after the voice: start, text, stop, and the first audio token."""
        ends = [torch.tensor([token]) for token in (self.start_text, self.stop_text)]
        tokens = torch.cat([ends[0], text.long().cpu(), ends[1]]).to(self.device)
        words = self.text[tokens] + self.text_positions[: len(tokens)]
        return torch.cat([words, (self.audio[self.start_audio] + self.audio_positions[0])[None]])

    def _prefill(self, prompts, voices, padding, cache, mask, width: int) -> torch.Tensor:
        """Fills the cache with voices and prompts, and gives the states of each prompt's last position."""
        last = []
        for row, (prompt, voice) in enumerate(zip(prompts, voices, strict=True)):
            start = padding[row] + voice.shape[3]
            cache[:, :, row, :, : padding[row]] = 0  # masked, but 0 times what memory happens to hold may be NaN
            cache[:, :, row, :, padding[row] : start] = voice
            own = None if mask is None else mask[row : row + 1]
            states = self._forward(prompt[None], cache[:, :, row : row + 1], start, width, own)
            last.append(states[:, -1])
        return torch.cat(last)

    def _forward(self, states: torch.Tensor, cache: torch.Tensor, start: int, end: int, mask) -> torch.Tensor:
        """Runs the blocks on (rows, end - start, channels), whose keys and values go to cache[..., start:end, :]."""
        length = end - start
        bias = None if mask is None else mask[..., :end]
        if length > 1:
            ahead = torch.ones(length, end, dtype=torch.bool, device=self.device).triu(start + 1)
            causal = torch.zeros(length, end, dtype=self.dtype, device=self.device).masked_fill(ahead, -torch.inf)
            bias = causal if bias is None else bias + causal
        for block, (keys, values) in zip(self.blocks, cache, strict=True):
            states = block(states, keys, values, start, end, bias, self.heads)
        return self.norm_blocks(states)

    def _new_cache(self, rows: int, length: int) -> torch.Tensor:
        shape = (len(self.blocks), 2, rows, self.heads, length, self.channels // self.heads)
        return torch.empty(shape, dtype=self.dtype, device=self.device)

    def _mask(self, padding: list[int], length: int) -> torch.Tensor:
        """Adds minus infinity to the padding on the left of each row: (rows, 1, 1, length)."""
        positions = torch.arange(length, device=self.device)
        padded = positions[None] < torch.tensor(padding, device=self.device)[:, None]
        return torch.zeros(padded.shape, dtype=self.dtype, device=self.device).masked_fill(padded, -torch.inf)[
            :, None, None
        ]


class _Block:
    """One of GPT-2's blocks over a static cache."""

    def __init__(self, block, precision: str, device, dtype):
        self.norm_1, self.norm_2 = (_moved(norm, device, dtype) for norm in (block.ln_1, block.ln_2))
        layers = (block.attn.c_attn, block.attn.c_proj, block.mlp.c_fc, block.mlp.c_proj)
        self.attend, self.project, self.widen, self.narrow = (
            _linear(layer, precision, device, dtype) for layer in layers
        )

    def __call__(self, states, keys, values, start: int, end: int, bias, heads: int) -> torch.Tensor:
        rows, length, channels = states.shape
        joined = self.attend(self.norm_1(states)).view(rows, length, 3, heads, channels // heads)
        query, key, value = joined.permute(2, 0, 3, 1, 4)
        keys[:, :, start:end], values[:, :, start:end] = key, value
        scores = torch.matmul(query, keys[:, :, :end].transpose(-1, -2)) * (channels // heads) ** -0.5
        scores = scores if bias is None else scores + bias
        mixed = torch.matmul(scores.softmax(dim=-1), values[:, :, :end])
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
    if precision == "int8":
        return Int8Linear(layer, digits=2)
    if precision == "bfloat16":
        return BFloat16Linear(layer)
    weight = layer.weight.detach().to(device, dtype)
    bias = None if layer.bias is None else layer.bias.detach().to(device, dtype)
    if isinstance(layer, Conv1D):
        return lambda states: torch.addmm(bias, states.flatten(0, -2), weight).unflatten(0, states.shape[:-1])
    return lambda states: F.linear(states, weight, bias)


def _moved(norm: nn.LayerNorm, device, dtype):
    weight, bias = norm.weight.detach().to(device, dtype), norm.bias.detach().to(device, dtype)
    return lambda states: F.layer_norm(states, weight.shape, weight, bias, norm.eps)

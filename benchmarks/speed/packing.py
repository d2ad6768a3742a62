"""What packing saves: the gradient of one GRPO step over responses of long-tailed lengths, padded and in packed rows.

    python -m benchmarks.speed.packing

The passes alternate in one process; their gradients must be equal. Memory is what XLA plans beside inputs and outputs.
"""

from __future__ import annotations

import dataclasses
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from benchmarks.lab.measure import BenchmarkError
from maxent_rl.networks.transformer import TransformerConfig
from maxent_rl.tokens import LanguageModel, Prompted, TokenBatch, TokenOutputs, objectives, packing

ROW = "| {} | {} | {:.0%} | {:.2f} s | {:.2f} s | {:,.0f} MB |"


@dataclasses.dataclass(frozen=True)
class Setting:
    """Sizes of the step and of the model."""

    responses: int = 48
    """N; groups of 4 to one prompt."""
    prompt_median: float = 24.0
    """Median tokens of a prompt, lognormal."""
    response_median: float = 64.0
    """Median tokens of a response, lognormal."""
    spread: float = 1.0
    """Standard deviation of the logarithm of lengths."""
    longest: int = 512
    """Tokens of prompt and response together, beyond which responses are cut."""
    hidden_size: int = 128
    """Width of the transformer."""
    layers: int = 2
    """Its blocks."""
    vocabulary: int = 8_192
    """V."""
    repeats: int = 5
    """Times that each pass runs, after one that does not count."""


def main(setting: Setting) -> None:
    """Measures and prints the table.

    Raises:
      BenchmarkError: gradients that differ by more than 1e-4 of the largest entry.
    """
    model, batch = drawn(setting)
    layouts = {
        "packed": packing.pack(batch.context, batch.tokens, setting.longest),
        "packed, rows twice as long": packing.pack(batch.context, batch.tokens, 2 * setting.longest),
    }
    rows = {"padded": (len(batch.mask), batch.context.prompts.shape[1] + batch.mask.shape[1])}
    rows |= {name: np.shape(layout.tokens) for name, layout in layouts.items()}
    given: dict[str, tuple[Any, ...]] = {"padded": (model.params, model, batch)}
    given |= {name: (model.params, model, batch, layout) for name, layout in layouts.items()}
    programs = {name: jax.jit(jax.grad(loss)).lower(*arguments).compile() for name, arguments in given.items()}
    compare([jax.block_until_ready(program(*given[name])) for name, program in programs.items()])
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in programs}
    for _ in range(setting.repeats):
        for name, program in programs.items():
            seconds[name].append(timed(program, given[name]))
    print(f"{jax.devices()[0].device_kind}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {setting}")
    print("| Pass | Rows | Places with a token | Time | Of all cores | Memory |\n| --- | --- | --- | --- | --- | --- |")
    tokens = int(np.sum(batch.context.prompt_mask) + np.sum(batch.mask))
    for name, program in programs.items():
        clock, cores = (statistics.median(column) for column in zip(*seconds[name], strict=True))
        memory = program.memory_analysis().temp_size_in_bytes / 1e6
        shape = rows[name]
        print(ROW.format(name, "{} x {}".format(*shape), tokens / (shape[0] * shape[1]), clock, cores, memory))


def drawn(setting: Setting) -> tuple[LanguageModel, TokenBatch]:
    """A model, and a prepared batch of responses to prompts, of lengths with a long tail."""
    draw = np.random.default_rng(0)
    count, most = setting.responses, setting.longest // 4
    lengths = np.exp(np.log(setting.prompt_median) + setting.spread * draw.normal(size=count // 4)).repeat(4)
    of_prompts = np.clip(lengths.astype(int), 1, most)
    lengths = np.exp(np.log(setting.response_median) + setting.spread * draw.normal(size=count))
    of_responses = np.clip(lengths.astype(int), 1, setting.longest - of_prompts)
    width = int(of_responses.max())
    prompts, tokens = (draw.integers(0, setting.vocabulary, (count, size)) for size in (of_prompts.max(), width))
    mask = np.arange(width) < of_responses[:, None]
    context = Prompted(prompts, np.arange(of_prompts.max()) < of_prompts[:, None], mask)
    config = TransformerConfig(
        vocabulary_size=setting.vocabulary,
        hidden_size=setting.hidden_size,
        num_layers=setting.layers,
        num_heads=4,
        num_key_value_heads=2,
        head_size=setting.hidden_size // 4,
        intermediate_size=3 * setting.hidden_size,
    )
    model = LanguageModel.create(config, jax.random.key(0))
    logp_old = np.log(1 / setting.vocabulary) + 0.1 * draw.normal(size=tokens.shape)
    rewards = draw.normal(size=count)
    batch = TokenBatch(logp_old, mask, rewards, group_size=4, tokens=tokens, context=context)
    _, batch = objectives.make("grpo").prepare((), jax.tree.map(jnp.asarray, batch))
    return model, jax.device_get(batch)


def loss(params: Any, model: LanguageModel, batch: TokenBatch, layout: packing.Packed | None = None) -> Any:
    """That of the step, of responses that are padded, or packed."""
    model = model.having(params)
    if layout is None:
        assert isinstance(batch.context, Prompted) and batch.tokens is not None
        found = model.statistics(batch.context, batch.tokens)
    else:
        found = model.packed_statistics(layout)
    return objectives.make("grpo")((), TokenOutputs(found.logp), batch)[0]


def compare(gradients: list[Any]) -> None:
    """Refuses gradients that differ."""
    first, *others = (jax.tree.leaves(gradient) for gradient in gradients)
    apart = max(
        float(jnp.max(jnp.abs(one - other)) / jnp.max(jnp.abs(one)))
        for leaves in others
        for one, other in zip(first, leaves, strict=True)
    )
    print(f"gradients differ by {apart:.1e} of the largest entry of each array at most")
    if not apart < 1e-4:
        raise BenchmarkError(f"The gradients differ by {apart:.1e} of the largest entry.")


def timed(program: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[float, float]:
    """Seconds of a call by the clock, and of all cores together."""
    clock, cores = time.perf_counter(), time.process_time()
    jax.block_until_ready(program(*arguments))
    return time.perf_counter() - clock, time.process_time() - cores


if __name__ == "__main__":
    main(tyro.cli(Setting))

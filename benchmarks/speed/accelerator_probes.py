"""What `accelerator` measures: one process that answers one question after the other.

A question is a line of JSON on the standard input, its answer one on the standard output, where first of all one tells of the
device. Starting JAX on an accelerator takes seconds, so that one process answers as many questions as it can. An answer
holds the numbers of a few windows of equal work, or why there are none.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TextIO

import jax
import jax.numpy as jnp

from benchmarks.lab.measure import versions
from benchmarks.speed.peers.token_batch import GROUP, make_batch
from benchmarks.speed.token_contenders import loss_and_gradients, statistics_in_chunks
from benchmarks.speed.token_objectives import Rollout, loss_of
from maxent_rl.agents.registry import AGENTS, agent_class
from maxent_rl.networks.transformer import TransformerConfig
from maxent_rl.runs.config import RunConfig
from maxent_rl.runs.presets import PRESETS, apply_preset
from maxent_rl.tokens.model import LanguageModel
from maxent_rl.training.compilation import enable_compilation_cache
from maxent_rl.training.loops.make import make_loop
from maxent_rl.training.loops.plan import Schedule

PACKAGES = ("maxent_rl", "jax", "jaxlib", "flax", "optax", "numpy", "brax", "mujoco")
_SHARE_OF_MEMORY = 0.9
# All logits at once take so many arrays of them, as the CPU's measurement found (`tokens`).
_TIMES_ALL_LOGITS = 4.2
_FASTEST = 1e-6  # seconds: what no clock tells apart

Question = dict[str, Any]
Values = list[dict[str, float]]


class LeftOut(Exception):
    """What is asked for cannot be measured here; says why."""


def train(question: Question) -> Values:
    """Environment steps and gradient steps per second of a training loop, all seeds together."""
    run, agent = _run_of(question)
    loop = make_loop(run, agent, run.env, jax.local_devices()[:1])
    loop.start()
    schedule = Schedule.create(agent, loop.learning.spec, run.num_envs)
    turn = int(schedule.denominator)  # vector steps after which the same work begins again
    updates = int(schedule.numerator) * (agent.epochs * agent.minibatches if agent.learns == "rollout" else 1)

    def advance(turns: int) -> None:
        loop.advance(loop.step + turns * turn, lambda: False)

    began = time.perf_counter()
    advance(math.ceil(schedule.first_update / turn))
    work = {"steps_per_second": turn * run.num_envs * run.num_seeds, "updates_per_second": updates * run.num_seeds}
    values = _windows(advance, work, question, began)
    loop.check()
    return values


def _run_of(question: Question) -> tuple[RunConfig, Any]:
    name, preset = question["agent"], question.get("preset")
    if name not in AGENTS:
        raise LeftOut(f"There is no agent {name} in this version.")
    if preset is not None and preset not in PRESETS:
        raise LeftOut(f"There is no preset {preset} in this version.")
    sizes = {"num_envs": question["num_envs"], "num_seeds": question["num_seeds"], "eval_episodes": 0}
    run, agent = RunConfig(agent=name, env=question["env"]), agent_class(name)()
    if preset is not None:
        run, agent = apply_preset(preset, run, agent)
    settings = {
        name: tuple(value) if isinstance(value, list) else value for name, value in question["settings"].items()
    }
    return dataclasses.replace(run, **sizes), dataclasses.replace(agent, **settings)


def token_loss(question: Question) -> Values:
    """GRPO's loss with its gradients, of hidden states and an unembedding in bfloat16."""
    tokens, vocabulary, width = (question[name] for name in ("tokens", "vocabulary", "width"))
    all_at_once = question["statistics"] == "all-logits"
    needed, free = 4 * _TIMES_ALL_LOGITS * tokens * vocabulary, _device_memory()
    if all_at_once and free is not None and needed > _SHARE_OF_MEMORY * free:
        raise LeftOut(f"All logits at once need {needed / 1e9:.0f} GB, and the device has {free / 1e9:.0f} GB.")
    arrays = make_batch(tokens, vocabulary, width, seed=0)
    logp_old, mask, rewards = map(jnp.asarray, (arrays.logp_old, arrays.mask, arrays.rewards))
    rollout = Rollout(logp_old, mask, rewards, GROUP)
    hidden, matrix = (jnp.asarray(each, jnp.bfloat16) for each in (arrays.hidden, arrays.unembedding.T))
    drawn, key = jnp.asarray(arrays.tokens, jnp.int32), jax.random.key(0)
    del arrays
    statistics = _statistics_of_all_logits if all_at_once else statistics_in_chunks
    began = time.perf_counter()
    program = jax.jit(partial(loss_and_gradients, statistics, loss_of("grpo"), rollout, drawn))
    compiled = program.lower(hidden, matrix, key).compile()

    def step(count: int) -> None:
        for _ in range(count):  # each is waited for, as its gradients take as much memory as its arguments
            jax.block_until_ready(compiled(hidden, matrix, key))

    values = _windows(step, {"tokens_per_second": tokens}, question, began)
    planned = compiled.memory_analysis()
    if planned is not None:
        values[0]["planned_memory_mb"] = planned.temp_size_in_bytes / 1e6
    return values


def _statistics_of_all_logits(hidden: jax.Array, matrix: jax.Array, tokens: jax.Array) -> tuple[jax.Array, jax.Array]:
    log_probs = jax.nn.log_softmax(jnp.dot(hidden, matrix, preferred_element_type=jnp.float32))
    logp = jnp.take_along_axis(log_probs, tokens[..., None], -1)[..., 0]
    return logp, -jnp.sum(jnp.exp(log_probs) * log_probs, -1)


def generation(question: Question) -> Values:
    """Tokens per second that a model answers prompts with, those after the end of a response not counted."""
    config = TransformerConfig(**question["config"])
    shapes = jax.eval_shape(lambda key: LanguageModel.create(config, key).params, jax.random.key(0))
    leaves, structure = jax.tree.flatten(shapes)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    # Small random numbers: the first parameters of 24 layers would take longer to compile than the answers take.
    weights = [0.02 * jax.random.normal(key, leaf.shape, leaf.dtype) for key, leaf in zip(keys, leaves, strict=True)]
    model = LanguageModel(config, jax.tree.unflatten(structure, weights))
    shape = question["responses"], question["prompt_length"]
    prompts = jax.random.randint(jax.random.key(2), shape, 0, config.vocabulary_size)
    respond = jax.jit(LanguageModel.respond, static_argnames="response_length")
    answered: list[int] = []

    def step(count: int) -> None:
        answered.clear()
        for index in range(count):
            found = respond(model, prompts, prompts >= 0, jax.random.key(index), question["response_length"])
            answered.append(int(jnp.sum(found.mask)))

    values = _windows(step, {"tokens_per_second": 1}, question, time.perf_counter())
    mean = sum(answered) / len(answered)  # of one batch of responses
    for window in values:
        window["tokens_per_second"] *= mean
    return values


def _windows(step: Callable[[int], None], work: Mapping[str, float], question: Question, began: float) -> Values:
    """Speeds in windows of some length.

    Args:
      step: does the work so many times, and waits for its end.
      work: by metric, what is done once.
      question: holds the length of a window in seconds, and the number of windows.
      began: when compiling began.

    Returns:
      For each window the work per second, and the seconds that the work takes once; with the first, those from `began` until
      it had been done once.
    """

    def timed(count: int) -> float:
        began = time.perf_counter()
        step(count)
        return max(time.perf_counter() - began, _FASTEST)

    step(1)
    first, wanted, count = time.perf_counter() - began, question["seconds"], 1
    while (seconds := timed(count)) < wanted / 4:
        count = math.ceil(count * min(8.0, wanted / seconds))
    count = max(1, round(count * wanted / seconds))
    found: Values = []
    for _ in range(question["repeats"]):
        seconds = timed(count) / count
        found.append({name: amount / seconds for name, amount in work.items()} | {"seconds": seconds})
    found[0]["first_seconds"] = first
    return found


def _device_memory() -> int | None:
    """Bytes that programs may have on the device; None where it does not tell."""
    stats = jax.local_devices()[0].memory_stats()
    return None if stats is None else stats.get("bytes_limit")


def _about_the_device() -> dict[str, Any]:
    device, memory = jax.local_devices()[0], _device_memory()
    about = {"platform": device.platform, "kind": device.device_kind, "count": jax.local_device_count()}
    return about | ({} if memory is None else {"memory_gb": round(memory / 1e9, 1)})


def _answer(question: Question) -> dict[str, Any]:
    kinds = {kind.__name__: kind for kind in (train, token_loss, generation)}
    try:
        return {"values": kinds[question["kind"]](question)}
    except LeftOut as reason:
        return {"left_out": str(reason)}
    except Exception as error:  # whatever a device or a version may say; the other questions remain
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"}


def _answers_alone() -> TextIO:
    """The standard output for answers; what packages print there goes to the standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


def main() -> None:
    """Answers questions until there are none."""
    answers = _answers_alone()
    enable_compilation_cache()
    print(json.dumps({"device": _about_the_device(), "versions": versions(*PACKAGES)}), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(_answer(json.loads(line))), file=answers, flush=True)
        jax.clear_caches()


if __name__ == "__main__":
    main()

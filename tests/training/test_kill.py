"""A killed run goes on to the same numbers: real processes, `kill -9` at two random moments, bit for bit."""

import random
import shlex

import pytest
from run_processes import assert_same, finish, kill_at, run_here, start_run

COMMON = "--num-seeds 2 --eval-episodes 1 --log-every 100 --checkpoint-every 250"
OFF_POLICY = f"{COMMON} --hidden-sizes 32 32 --batch-size 32 --start-steps 200"
CASES = {
    "sac-host": (
        "sac",
        "HalfCheetah",
        "HalfCheetah-v5",
        f"{OFF_POLICY} --total-steps 2400 --eval-every 900 --replay-size 1500",
    ),
    "sac-device": (
        "sac",
        "maxent/MultiGoal",
        "maxent-MultiGoal",
        f"{OFF_POLICY} --total-steps 3000 --eval-every 0",
    ),
    "sac-discrete": ("sac-discrete", "CartPole-v1", "CartPole-v1", f"{OFF_POLICY} --total-steps 2000 --eval-every 700"),
    "pmoe": ("pmoe", "Pendulum-v1", "Pendulum-v1", f"{OFF_POLICY} --total-steps 2000 --eval-every 700"),
    # Checkpoints at steps 250, 500, ... of windows of 300 steps: within windows.
    "ppo": (
        "ppo",
        "CartPole-v1",
        "CartPole-v1",
        f"{COMMON} --total-steps 3000 --eval-every 700 --rollout-size 300 --minibatches 4 --num-envs 2",
    ),
    # The first kill may fall into the warm start of 800 answers.
    "grpo": (
        "grpo",
        "tokens/modular-addition",
        "tokens-modular-addition",
        f"{COMMON} --total-steps 3200 --eval-every 800 --num-envs 16 --group-size 4 --hidden-size 16 --num-layers 1 "
        "--num-heads 2 --num-key-value-heads 1 --intermediate-size 16 --warm-start-steps 800 --warm-start-loss 0",
    ),
    # Killed while models and environments talk, with earlier responses that are replayed.
    "conversations": (
        "lm",
        "tokens/look-up",
        "tokens-look-up",
        f"{COMMON} --total-steps 1600 --eval-every 0 --num-envs 16 --group-size 4 --hidden-size 16 --num-layers 1 "
        "--num-heads 2 --num-key-value-heads 1 --intermediate-size 16 --warm-start-steps 400 --warm-start-loss 0 "
        "--warm-start-learning-rate 1e-2 --objective dr_bot --objective-settings replay_weight=1 replay_size=4 replay_rise=10 "
        "call_schedule=constant",
    ),
    # Prompts of sources that have states: a pool, and problems that the policy describes.
    "prompts": (
        "lm",
        "tokens/contexts",
        "tokens-contexts",
        f"{COMMON} --total-steps 1600 --eval-every 0 --num-envs 16 --group-size 4 --hidden-size 16 --num-layers 1 "
        "--num-heads 2 --num-key-value-heads 1 --intermediate-size 16 --warm-start-steps 400 --warm-start-loss 0 "
        "--objective syn_grpo_style --prompts mixture --prompt-settings sources=pool,synthesis pool.capacity=8 "
        "pool.keep=all synthesis.capacity=16 synthesis.share=1 synthesis.solvable=false",
    ),
}


# Two take the loop that SAC takes on the host, and one costs minutes.
MATRIX = ("sac-discrete", "pmoe", "conversations")


@pytest.mark.slow
@pytest.mark.parametrize("case", [pytest.param(case, marks=[pytest.mark.matrix] * (case in MATRIX)) for case in CASES])
def test_a_run_killed_twice_equals_one_never_killed(case, tmp_path):
    agent, env, folder_name, flags = CASES[case]
    total = int(flags.split("--total-steps ")[1].split()[0])
    common = ["--agent", agent, "--env", env, *shlex.split(flags), "--output-dir", str(tmp_path)]
    run_here(*common, "--name", "whole")
    whole, killed = (tmp_path / folder_name / agent / name for name in ("whole", "killed"))

    draw = random.Random(20261123)
    process = start_run(*common, "--name", "killed")
    for number in range(2):
        step = total * (number + draw.random()) * 0.375  # leaves the last quarter for the end of the run
        kill_at(process, killed, step, delay=draw.random() * 0.05)
        process = start_run("--resume", str(killed))
    finish(process)

    assert_same(killed, whole)

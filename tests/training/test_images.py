"""Training on images: whatever the layout, resumed to the bit, exported to act on what the environment shows, and learned."""

from functools import partial

import jax
import numpy as np
from environments import HostCatch

from maxent_rl import load_policy, resume, train
from maxent_rl.agents import SAC

AGENT = SAC(hidden_sizes=(8,), batch_size=4, replay_size=30, start_steps=14)
SETTINGS = {"num_envs": 2, "eval_episodes": 1, "progress": False}


def assert_same(first, second):
    jax.tree.map(np.testing.assert_array_equal, first, second)


def test_the_layout_of_an_image_changes_nothing_and_the_policy_takes_its_own(tmp_path):
    runs, images = {}, {}
    for layout in ("last", "first", "grey"):
        make = partial(HostCatch, layout=layout)
        runs[layout] = train(AGENT, make, total_steps=28, output_dir=str(tmp_path / layout), **SETTINGS)
        images[layout] = make().reset(seed=1)[0]
    for layout, result in runs.items():
        assert_same(result.states, runs["last"].states)
        assert result.evaluations == runs["last"].evaluations
        policy = load_policy(result.folder)
        np.testing.assert_array_equal(policy(images[layout]), runs["last"].policy()(images["last"]))
        assert policy(np.stack([images[layout]] * 3)).shape == (3, 1)


def test_interrupted_and_resumed_it_learns_the_same_to_the_bit(tmp_path):
    """The states have arrays without entries, of which checkpoints hold nothing, and the buffer has wrapped around."""
    settings = SETTINGS | {"num_seeds": 2}
    whole = train(AGENT, "maxent/CatchContinuous", total_steps=56, output_dir=str(tmp_path / "whole"), **settings)
    part = train(AGENT, "maxent/CatchContinuous", total_steps=40, output_dir=str(tmp_path / "part"), **settings)
    rest = resume(part.folder, total_steps=56, progress=False)
    assert_same(rest.states, whole.states)
    image = HostCatch().reset(seed=0)[0]
    for seed in range(2):
        assert load_policy(rest.folder, seed=seed)(image) == load_policy(whole.folder, seed=seed)(np.ravel(image))

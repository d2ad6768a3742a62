"""SAC of SBX (JAX) on a Gymnasium environment; run with the Python of .peers/sb."""

from sbx import SAC
from stable_baselines import main

if __name__ == "__main__":
    packages = ("sbx-rl", "stable_baselines3", "jax", "jaxlib", "flax", "gymnasium", "mujoco", "numpy")
    main(SAC, __doc__, packages)

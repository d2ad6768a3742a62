"""SAC of Stable-Baselines3 (PyTorch, CPU) on a Gymnasium environment; run with the Python of .peers/sb."""

from stable_baselines import main
from stable_baselines3 import SAC

if __name__ == "__main__":
    main(SAC, __doc__, ("stable_baselines3", "torch", "gymnasium", "mujoco", "numpy"), device="cpu")

"""SAC, its kin and PPO on Gymnasium's MuJoCo tasks, at equal steps."""

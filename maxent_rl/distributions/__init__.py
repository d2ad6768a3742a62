"""What a policy can be. Each distribution is a pytree with `sample`, `sample_and_log_prob`, `log_prob`, `entropy`, `mode`."""

from maxent_rl.distributions.tanh_gaussian import TanhGaussian, log_abs_det_tanh

__all__ = ["TanhGaussian", "log_abs_det_tanh"]

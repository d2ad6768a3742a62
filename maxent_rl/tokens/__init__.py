"""The same losses at the scale of language models: batches, per-token statistics, objectives, sampling, training."""

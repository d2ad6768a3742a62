"""Losses over tokens by TRL (PyTorch, CPU), forward and backward; run with the Python of .peers/trl.

`trl` is what TRL's GRPO trainer does: log-probabilities and entropies from hidden states in tiles. `trl-full` is its path for
those who hold the logits: `selective_log_softmax` and `entropy_from_logits`. The losses on top are its trainer's formulas.
"""

from __future__ import annotations

import driver
import torch
from token_batch import GROUP, Batch, make_batch
from trl.kernels import ChunkedLogProbFunction
from trl.trainer import utils

PACKAGES = ("trl", "torch", "transformers", "numpy")


def main() -> None:
    """Measures and prints."""
    args = driver.token_parser(__doc__, ("trl", "trl-full")).parse_args()
    arrays = make_batch(args.tokens, args.vocabulary, args.width, args.seed)
    batch = Batch(*(torch.from_numpy(array) for array in arrays))
    inputs = hidden, unembedding = batch.hidden.requires_grad_(), batch.unembedding.requires_grad_()
    statistics = tiled if args.contender == "trl" else full
    generator = torch.Generator().manual_seed(args.seed)

    def step() -> dict[str, float]:
        logp, entropy = statistics(hidden, unembedding, batch.tokens)
        loss = LOSSES[args.objective](logp, batch, generator)
        loss.backward()
        norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(each.grad) for each in inputs]))
        mean = (entropy * batch.mask).sum() / batch.mask.sum()
        for each in inputs:
            each.grad = None
        return {"loss": loss.item(), "gradient_norm": norm.item(), "entropy": mean.item()}

    values = driver.measure_step(step, args.iterations, arrays.hidden.nbytes + arrays.unembedding.nbytes)
    driver.report(values, PACKAGES)


def tiled(hidden: torch.Tensor, unembedding: torch.Tensor, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """As `trl.trainer.utils.add_fused_lm_head` calls it; entropies are for the metrics alone."""
    logp, entropy, *_ = ChunkedLogProbFunction.apply(
        hidden.reshape(-1, hidden.size(-1)),
        unembedding,
        None,
        tokens.reshape(-1),
        1.0,
        utils._CHUNKED_LOGPROB_CHUNK_SIZE,
        None,
        1.0,
        ("log_probs", "entropy"),
    )
    return logp.view(tokens.shape), entropy.detach().view(tokens.shape)


def full(hidden: torch.Tensor, unembedding: torch.Tensor, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """All logits at once; entropies are for the metrics alone."""
    logits = hidden @ unembedding.T
    logp = utils.selective_log_softmax(logits, tokens)
    with torch.no_grad():
        return logp, utils.entropy_from_logits(logits)


def token_losses(logp: torch.Tensor, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(-A r [N, T], r [N, T], A [N, 1])."""
    groups = batch.rewards.view(-1, GROUP)
    advantage = (groups - groups.mean(1, keepdim=True)) / (groups.std(1, keepdim=True) + 1e-6)
    advantage, ratio = advantage.view(-1, 1), torch.exp(logp - batch.logp_old)
    return -advantage * ratio, ratio, advantage


def grpo(logp: torch.Tensor, batch: Batch, generator: torch.Generator) -> torch.Tensor:
    """Clipped at 0.2 on both sides, mean over tokens."""
    loss, ratio, advantage = token_losses(logp, batch)
    loss = torch.maximum(loss, -advantage * ratio.clamp(0.8, 1.2))
    return (loss * batch.mask).sum() / batch.mask.sum()


def clip_cov(logp: torch.Tensor, batch: Batch, generator: torch.Generator) -> torch.Tensor:
    """The same without the gradient of a few tokens of large covariance (arXiv 2505.22617, the authors' code)."""
    loss, ratio, advantage = token_losses(logp, batch)
    clipped = -advantage * ratio.clamp(0.0, 2.0)
    there, count = batch.mask > 0, batch.mask.sum()
    with torch.no_grad():
        advantage = advantage.expand_as(logp)
        centred = [(each - (each * batch.mask).sum() / count) for each in (advantage, logp)]
        covariance = centred[0] * centred[1]
        eligible = torch.nonzero(there & (clipped <= loss) & (covariance > 1.0) & (covariance < 5.0))
        chosen = eligible[torch.randperm(len(eligible), generator=generator)[: max(int(2e-4 * count), 1)]]
        kept = batch.mask.clone()
        kept[chosen[:, 0], chosen[:, 1]] = 0.0
    return (torch.maximum(loss, clipped) * kept).sum() / count


LOSSES = {"grpo": grpo, "clip_cov": clip_cov}


if __name__ == "__main__":
    main()

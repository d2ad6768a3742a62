"""GRPO's loss over tokens by Liger (PyTorch, CPU), forward and backward; run with the Python of .peers/trl.

`LigerFusedLinearGRPOLoss` is its chunked loss of hidden states and unembedding: one sequence after the other, each with its
logits. It is PyTorch, not Triton, and so runs on a CPU. Unlike the others it gives no entropy.
"""

from __future__ import annotations

import driver
import torch
from liger_kernel.chunked_loss import LigerFusedLinearGRPOLoss
from token_batch import GROUP, Batch, make_batch

PACKAGES = ("liger-kernel", "torch", "numpy")


def main() -> None:
    """Measures and prints."""
    args = driver.token_parser(__doc__, ("liger",)).parse_args()
    if args.objective != "grpo":
        raise SystemExit(f"error: Liger has no loss {args.objective!r}: pass --objective grpo.")
    arrays = make_batch(args.tokens, args.vocabulary, args.width, args.seed)
    batch = Batch(*(torch.from_numpy(array) for array in arrays))
    inputs = hidden, unembedding = batch.hidden.requires_grad_(), batch.unembedding.requires_grad_()
    groups = batch.rewards.view(-1, GROUP)
    advantage = ((groups - groups.mean(1, keepdim=True)) / (groups.std(1, keepdim=True) + 1e-6)).view(-1)
    # Compiled once for one length of sequences, before the timed steps.
    objective = LigerFusedLinearGRPOLoss(beta=0.0, use_ref_model=False, loss_type="bnpo", compiled=True)

    def step() -> dict[str, float]:
        loss, _ = objective(
            hidden, unembedding, batch.tokens, batch.mask, advantage, old_per_token_logps=batch.logp_old
        )
        loss.backward()
        norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(each.grad) for each in inputs]))
        for each in inputs:
            each.grad = None
        return {"loss": loss.item(), "gradient_norm": norm.item()}

    values = driver.measure_step(step, args.iterations, arrays.hidden.nbytes + arrays.unembedding.nbytes)
    driver.report(values, PACKAGES)


if __name__ == "__main__":
    main()

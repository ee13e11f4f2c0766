"""The conditional WGAN-GP, one wrapped forward for each network.

    L_D = E[D(x̂|y)] − E[D(x|y)] + λ E[(‖∇_x̃ D(x̃|y)‖₂ − 1)²],  x̃ between x and x̂       (Eq. 1)
    L_G = −E[D(x̂|y)]  (+ −log q(x|y) where q is explicit)

each term weighted by its sample's w and divided by the batch. The penalty needs gradients by the emoji
vector alone, so the image trunk runs once and is shared by x, x̂ and x̃, and the head tells them in closed
form, in float32.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.functional import one_hot

from ..model.networks import Critic, Generator


class CriticLoss(nn.Module):
    """L_D of a batch."""

    def __init__(self, critic: Critic, penalty_weight: float) -> None:
        super().__init__()
        self.critic = critic
        self.penalty_weight = penalty_weight

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss, and the metrics."""
        losses, metrics = self.of_each(*inputs)
        return losses.mean(), metrics

    def of_each(
        self,
        images: torch.Tensor,  # [batch, 3, size, size]
        real: torch.Tensor,  # [batch, vector_dim]
        fake: torch.Tensor,  # [batch, vector_dim], without gradient
        mix: torch.Tensor,  # [batch, 1], ε
        weight: torch.Tensor,  # [batch]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss of each sample, [batch], and float32 [2]: the Wasserstein estimate and the penalty."""
        embedded = self.critic.embed(images).float()
        with torch.autocast(images.device.type, enabled=False):
            gradient = self.critic.gradient(embedded, mix * real + (1 - mix) * fake)  # [batch, vector_dim]
            penalty = (torch.linalg.vector_norm(gradient, dim=1) - 1) ** 2
            difference = self.critic.score(embedded, fake) - self.critic.score(embedded, real)  # [batch]
            losses = weight * (difference + self.penalty_weight * penalty)
        return losses, torch.stack([-difference.mean(), penalty.mean()]).detach()


class GeneratorLoss(nn.Module):
    """L_G of a batch."""

    def __init__(self, generator: Generator, tied: bool, nll_weight: float) -> None:
        super().__init__()
        self.generator = generator
        self.tied = tied
        self.nll_weight = nll_weight

    def forward(self, critic: Critic, *inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss, and the metrics."""
        losses, metrics = self.of_each(critic, *inputs)
        return losses.mean(), metrics

    def of_each(
        self,
        critic: Critic,  # frozen
        images: torch.Tensor,  # [batch, 3, size, size]
        emoji: torch.Tensor,  # int64 [batch], observed
        latent: torch.Tensor,  # [batch, latent_dim]
        weight: torch.Tensor,  # [batch]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss of each sample, [batch], and float32 [3].

        The critic's score of x̂, −log q of the observed emoji (or 0), and how many emojis the batch says:
        the perplexity of its mean q, or of the nearest emojis of its free outputs.
        """
        output = self.generator(images, latent).float()
        with torch.no_grad():
            embedded = critic.embed(images).float()
        with torch.autocast(images.device.type, enabled=False):
            if self.tied:
                log_q = self.generator.log_probabilities(output)  # [batch, V]
                with torch.no_grad():
                    scores = critic.score_all(embedded, self.generator.vectors)  # [batch, V]
                score = (log_q.exp() * scores).sum(dim=1)  # exact, where a sample would be noisy
                nll = -log_q.gather(1, emoji[:, None]).squeeze(1)
                said = log_q.detach().exp().mean(dim=0)  # [V]
            else:
                score = critic.score(embedded, output)
                nll = torch.zeros_like(score)
                nearest = self.generator.nearest(output.detach())
                said = one_hot(nearest, len(self.generator.vectors)).to(score.dtype).mean(dim=0)
            losses = weight * (self.nll_weight * nll - score)
            num_said = torch.special.entr(said).sum().exp()
        return losses, torch.stack([score.mean(), nll.mean(), num_said]).detach()


@torch.no_grad()
def draw_fakes(
    generator: Generator, tied: bool, images: torch.Tensor, latent: torch.Tensor, uniform: torch.Tensor
) -> torch.Tensor:
    """x̂ for the critic, [batch, vector_dim]: of an emoji drawn from q(e | y, z), or G(y, z).

    Args:
        uniform: [batch] in [0, 1), which emoji is drawn.
    """
    output = generator(images, latent).float()
    if not tied:
        return output
    cumulative = generator.log_probabilities(output).exp().cumsum(dim=1)  # [batch, V]
    drawn = torch.searchsorted(cumulative, (uniform * cumulative[:, -1])[:, None], right=True).squeeze(1)
    return generator.vectors[drawn.clamp(max=len(generator.vectors) - 1)]


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """No gradients for a module's parameters: the generator's update needs none of the critic's."""
    module.requires_grad_(False)
    try:
        yield
    finally:
        module.requires_grad_(True)

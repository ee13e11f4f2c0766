"""A conditional variational autoencoder (Sohn et al. 2015), which the paper names instead of a GAN.

image, reaction ─► encoder ─► N(μ, σ²) of z ─► the generator's own networks ─► q(e | y, z)

loss = −Σ_i log q(x_i | y, z) + β KL(N(μ, σ²) ‖ N(0, 1)),   z drawn once; β rises from 0 to 1, so that the
latent is not given up before it means something (Bowman et al. 2016)
"""

import numpy as np
import torch
from torch import nn

from ....datasets.stream.held_out import HeldOut
from ...config import ModelConfig
from ...facts import Facts
from ...inputs import Inputs
from ...model.networks import Generator, hidden_layers
from ...model.noise import initial_weights, kept, normal
from ...model.snapshot import Snapshot
from ...validation import REACTION_SAMPLES, VAL_SAMPLES, val_loss, val_reaction_loss
from ..metrics.scene import spread
from .baseline import Candidate, Given, values_of
from .fit import Task, as_many, fit
from .sampled import FOR_REACTIONS, NUM_LATENTS, by_latent

RISES = 0.5  # of the training, in which β comes to 1


class Autoencoder(nn.Module):
    """The generator, and what guesses its latent from a reaction."""

    def __init__(self, config: ModelConfig, vectors: torch.Tensor, image_size: int) -> None:
        super().__init__()
        self.generator = Generator(config, vectors, image_size)
        self.encoder = nn.Sequential(
            hidden_layers(config.feature_dim + vectors.shape[1], config.hidden_dim),
            nn.Linear(config.hidden_dim, 2 * config.latent_dim),
        )

    def loss(
        self, features: torch.Tensor, emoji: torch.Tensor, noise: torch.Tensor, weight: float
    ) -> torch.Tensor:
        """The negative bound of reactions, [].

        Args:
            features: [batch, feature_dim].
            emoji: int64 [batch, slots], −1 where there is none.
            noise: normal, [batch, latent_dim].
            weight: β.
        """
        present = (emoji >= 0).float()
        vectors = self.generator.vectors[emoji.clamp(min=0)] * present[..., None]
        read = vectors.sum(dim=1) / present.sum(dim=1, keepdim=True).clamp(min=1)
        mean, log_variance = self.encoder(torch.cat([features, read], dim=1)).chunk(2, dim=1)
        latent = mean + (log_variance / 2).exp() * noise
        log_q = self.generator.log_probabilities(self.generator.head(features, latent))
        likelihood = (log_q.gather(1, emoji.clamp(min=0)) * present).sum(dim=1)
        divergence = (log_variance.exp() + mean**2 - 1 - log_variance).sum(dim=1) / 2
        there = present.amax(dim=1)
        return ((weight * divergence - likelihood) * there).sum() / there.sum().clamp(min=1)


def variational(given: Given) -> Candidate | None:
    """Trained on as many reactions as the run saw, or tuples, if it saw those."""
    config, inputs, scene = given.config, given.inputs, given.scene
    if config.model.output != "tied":
        return None
    model, unit = config.model, config.data.unit
    with initial_weights(config.optimizer.seed):
        network = Autoencoder(model, inputs.vectors, inputs.train.manifest.image_size)
    numbers = model.latent_dim + model.latent_dim % 2

    def loss(
        network: Autoencoder, images: torch.Tensor, emoji: torch.Tensor, drawn: torch.Tensor, done: float
    ) -> torch.Tensor:
        of_features, of_latent = drawn.split([model.feature_dim, numbers], dim=1)
        features = network.generator.trunk(images) * kept(of_features, config.optimizer.dropout)
        noise = normal(of_latent)[:, : model.latent_dim]
        return network.loss(features, emoji, noise, min(1.0, done / RISES))

    def score(network: Autoencoder, held_out: HeldOut) -> float:
        asked = snapshot_of(network, inputs, config.model)
        if unit == "tuple":
            q = asked.distribution(held_out.images, num_samples=VAL_SAMPLES, seed=0)
            return val_loss(q, held_out, inputs)
        return val_reaction_loss(
            lambda images: asked.by_latent(images, num_samples=REACTION_SAMPLES, seed=0), held_out, inputs
        )

    task = Task("variational", unit, model.feature_dim + numbers, loss, score)
    steps = given.steps or as_many(config, inputs, unit)
    asked = snapshot_of(fit(task, network, config, inputs, given.run, steps), inputs, model)
    images = scene.held_out.images
    return Candidate(
        "Variational autoencoder",
        f"The same generator, with an encoder in place of the critic; {NUM_LATENTS:,} latents "
        f"({FOR_REACTIONS} for whole reactions).",
        spread(asked.distribution(images, num_samples=NUM_LATENTS, seed=0), scene),
        values_of(by_latent(asked, images), scene),
    )


def snapshot_of(network: Autoencoder, inputs: Inputs, model: ModelConfig) -> Snapshot:
    """Its generator, to be asked as a run's is."""
    facts = Facts(
        step=0,
        image_size=inputs.train.manifest.image_size,
        model=model.model_dump(),
        vocabulary=inputs.vocabulary,
        dataset=inputs.dataset,
        vectors=inputs.vectors_hash,
        scores={},
    )
    return Snapshot(facts, network.generator, np.ones(len(inputs.vocabulary)))

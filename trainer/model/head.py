"""What a generator says of images under many latents at once.

features [n, feature_dim] ─► the images' half of the first layer ──┐
                                                                   ├─► [n, L, hidden_dim] ─► q [n, L, V]
latents [L, latent_dim] ───► the latents' half of the first layer ─┘

It is the generator's own head, arranged: what goes into the first LeakyReLU is linear, so its two halves are
computed once for each image and once for each latent, and not for each pair; and the two layers behind the
last LeakyReLU, to the vector and to the products with the emojis' vectors, are one where that costs less.
"""

import math
from dataclasses import dataclass

import torch
from torch.nn import Linear
from torch.nn.functional import leaky_relu_, linear, one_hot

from .networks import LEAK, Generator

Layer = tuple[torch.Tensor, torch.Tensor | None]  # weight [outputs, inputs], bias [outputs]


@dataclass(frozen=True)
class Head:
    """The layers behind the trunk, for many latents of an image."""

    generator: Generator
    of_images: Layer  # with the bias of the first layer
    of_latents: Layer
    hidden: Layer
    to_logits: tuple[Layer, ...]  # one layer or two; empty of a free output

    @classmethod
    def of(cls, generator: Generator, *, tied: bool) -> "Head":
        """That of a generator whose weights stay as they are."""
        first, second = (layer for layer in generator.hidden if isinstance(layer, Linear))
        weight, images = first.weight, first.in_features - generator.latent_dim
        return cls(
            generator,
            of_images=(weight[:, :images].contiguous(), first.bias),
            of_latents=(weight[:, images:] * generator.latent_scale, None),
            hidden=(second.weight, second.bias),
            to_logits=_to_logits(generator) if tied else (),
        )

    @property
    def width(self) -> int:
        """The most numbers that a pair of an image and a latent has in a layer."""
        return max(len(self.hidden[0]), len(self.generator.vectors))

    def said(self, features: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
        """q(emoji | image, z) of each image and each latent, float32 [n, L, V].

        Of a free output, 1 for the emoji that is nearest to its vector, and 0 for the others.
        """
        first = linear(features, *self.of_images)[:, None] + linear(latents, *self.of_latents)
        # [n, L, hidden_dim]; in place, for memory that is new costs as much as what is computed.
        last = leaky_relu_(linear(leaky_relu_(first, LEAK), *self.hidden), LEAK)
        if not self.to_logits:
            vectors = self.generator.vectors
            return one_hot(self.generator.nearest(self.generator.output(last)), len(vectors)).float()
        for layer in self.to_logits:
            last = linear(last, *layer)
        return last.float().softmax(dim=-1)


def _to_logits(generator: Generator) -> tuple[Layer, ...]:
    """From the last hidden layer to the logits of all emojis: by way of the vector, or at once."""
    output, vectors = generator.output, generator.emoji_vectors
    inverse = 1 / math.sqrt(output.out_features)
    by_way = (output.weight, output.bias), (vectors * inverse, generator.bias)
    at_once = vectors @ output.weight * inverse, vectors @ output.bias * inverse
    if sum(weight.numel() for weight, _ in by_way) < at_once[0].numel():
        return by_way
    weight, bias = at_once
    return ((weight, bias if generator.bias is None else bias + generator.bias),)

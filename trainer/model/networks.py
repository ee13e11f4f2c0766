"""Generator, critics and classifier: the paper's trunk, and what is joined to it.

Nothing here trains. Images are float [batch, 3, size, size] in [-1, 1]; emoji vectors have `vector_dim`
(300) numbers.
"""

import math
from itertools import pairwise

import torch
from torch import nn

from ..config import ModelConfig

LEAK = 0.2  # slope of LeakyReLU below 0


class FirstConvolution(nn.Conv2d):
    """A convolution of kernel 4, stride 2 and padding 1, of few channels; on a GPU by one matrix product.

    cuDNN fills three channels up to eight, and takes a quarter of the whole step for this layer.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return self.of_patches(input) if input.is_cuda else super().forward(input)

    def of_patches(self, images: torch.Tensor) -> torch.Tensor:
        """The same, as a product of all patches with the weights."""
        padded = nn.functional.pad(images, (1, 1, 1, 1))
        patches = padded.unfold(2, 4, 2).unfold(3, 4, 2).permute(0, 2, 3, 4, 5, 1)
        weight = self.weight.permute(0, 2, 3, 1).flatten(1)  # [outputs, 4·4·3]
        return nn.functional.linear(patches.flatten(3), weight, self.bias).permute(0, 3, 1, 2)


class Trunk(nn.Module):
    """Image to features: four convolutions of kernel 4 and stride 2, 64→32→16→8→4, no normalisation."""

    def __init__(self, config: ModelConfig, image_size: int) -> None:
        super().__init__()
        assert image_size % 16 == 0, image_size
        widths = [3] + [config.trunk_width * scale for scale in (1, 2, 4, 8)]
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            convolution = nn.Conv2d if layers else FirstConvolution
            layers += [convolution(inputs, outputs, 4, stride=2, padding=1), nn.LeakyReLU(LEAK)]
        self.convolutions = nn.Sequential(*layers)
        self.project = nn.Linear(widths[-1] * (image_size // 16) ** 2, config.feature_dim)

    def forward(self, images: torch.Tensor) -> torch.Tensor:  # [batch, feature_dim]
        maps = self.convolutions(images)  # [batch, 8·width, size/16, size/16]
        return nn.functional.leaky_relu(self.project(maps.flatten(1)), LEAK)


def hidden_layers(inputs: int, hidden: int) -> nn.Sequential:
    """Two hidden layers, [batch, inputs] → [batch, hidden]."""
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.LeakyReLU(LEAK), nn.Linear(hidden, hidden), nn.LeakyReLU(LEAK)
    )


class Generator(nn.Module):
    """Image and latent to an emoji vector, G(y, z); with the vocabulary's vectors, to q(e | y, z).

    Args:
        vectors: float32 [V, vector_dim], of the vocabulary; kept as a buffer that is not saved.
    """

    vectors: torch.Tensor

    def __init__(self, config: ModelConfig, vectors: torch.Tensor, image_size: int) -> None:
        super().__init__()
        self.trunk = Trunk(config, image_size)
        self.latent_dim, self.latent_scale = config.latent_dim, config.latent_scale
        self.hidden = hidden_layers(config.feature_dim + config.latent_dim, config.hidden_dim)
        self.output = nn.Linear(config.hidden_dim, vectors.shape[1])
        self.register_buffer("vectors", vectors, persistent=False)
        self.bias = nn.Parameter(torch.zeros(len(vectors))) if config.emoji_bias else None
        self.residual = nn.Parameter(torch.zeros_like(vectors)) if config.emoji_residual else None

    def forward(self, images: torch.Tensor, latent: torch.Tensor) -> torch.Tensor:  # [batch, vector_dim]
        return self.head(self.trunk(images), latent)

    def head(self, features: torch.Tensor, latent: torch.Tensor) -> torch.Tensor:
        """All but the trunk: many latents for one image cost one trunk."""
        return self.output(self.hidden(torch.cat([features, self.latent_scale * latent], dim=-1)))

    @property
    def emoji_vectors(self) -> torch.Tensor:
        """Those that a tied output is multiplied with, float32 [V, vector_dim]."""
        return self.vectors if self.residual is None else self.vectors + self.residual

    def log_probabilities(self, output: torch.Tensor) -> torch.Tensor:
        """log q(e | y, z) of a tied output, float32 [..., vector_dim] → [..., V]."""
        vectors = self.emoji_vectors
        logits = output.to(vectors.dtype) @ vectors.T / math.sqrt(output.shape[-1])
        return (logits if self.bias is None else logits + self.bias).log_softmax(dim=-1)

    def nearest(self, output: torch.Tensor) -> torch.Tensor:
        """The nearest emoji of a free output, by cosine, [..., vector_dim] → int64 [...]."""
        return (output.float() @ nn.functional.normalize(self.vectors, dim=1).T).argmax(dim=-1)


class Critic(nn.Module):
    """Scores a reaction under an image, D(S | y): a few emoji vectors, of which a tuple has one.

    Each method takes what `embed` gives, [batch, hidden_dim], and of reactions their vectors, in slots
    [batch, slots, vector_dim], and `present`, 1 for a slot with an emoji and 0 for others [batch, slots]. A
    critic owes all but the gradient, which may be had for nothing, by autograd.
    """

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """All that the score needs of an image, [batch, hidden_dim]."""
        raise NotImplementedError

    def score(self, embedded: torch.Tensor, vectors: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        """D(S | y) of pairs, [batch]."""
        raise NotImplementedError

    def score_all(
        self, embedded: torch.Tensor, candidates: torch.Tensor, others: torch.Tensor, present: torch.Tensor
    ) -> torch.Tensor:
        """D of each reaction `others` with each candidate [V, vector_dim] in its first slot, [batch, V]."""
        raise NotImplementedError

    def gradient(self, embedded: torch.Tensor, vectors: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        """∂D(S | y)/∂S of pairs, as `vectors`; it can be differentiated by the parameters."""
        vectors = vectors.detach().requires_grad_()
        score = self.score(embedded, vectors, present).sum()
        return torch.autograd.grad(score, vectors, create_graph=True)[0]


def slopes(before: torch.Tensor) -> torch.Tensor:
    """The derivatives of LeakyReLU at what comes into it."""
    return torch.where(before > 0, torch.ones_like(before), LEAK)


class PooledCritic(Critic):
    """D(S | y) = ⟨a(y), h⟩ + b with h = φ(Σ_i (W φ(f(x_i, y)) + c) / √n), where φ is LeakyReLU.

    One layer for each of the n emojis, another for their sum (Zaheer et al. 2017, "Deep sets"). Its bias
    grows with √n, so that the score can tell how many there are.
    """

    second: nn.Linear  # W, c
    output: nn.Linear  # b
    from_vector: nn.Linear

    def before(self, embedded: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        """f(x, y): what comes into the first LeakyReLU, [..., hidden_dim]."""
        raise NotImplementedError

    def direction(self, embedded: torch.Tensor) -> torch.Tensor:
        """a(y), [batch or 1, hidden_dim]"""
        raise NotImplementedError

    def _pooled(self, first: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        """What comes into the second LeakyReLU, [batch, hidden_dim]; `first` is `before` of all slots."""
        root = _root(present)
        total = (_leaky(first) * present[..., None]).sum(dim=1)
        return nn.functional.linear(total, self.second.weight) / root + root * self.second.bias

    def score(self, embedded: torch.Tensor, vectors: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        hidden = _leaky(self._pooled(self.before(embedded[:, None], vectors), present))
        return (self.direction(embedded) * hidden).sum(dim=-1) + self.output.bias

    def gradient(self, embedded: torch.Tensor, vectors: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        """∂D(S | y)/∂S in closed form: between the kinks of LeakyReLU everything is linear."""
        with torch.no_grad():
            first = self.before(embedded[:, None], vectors)
            slope_behind = slopes(self._pooled(first, present))
            slope = slopes(first) * (present / _root(present))[..., None]
        behind = self.direction(embedded) * slope_behind  # [batch, hidden_dim]
        return ((behind @ self.second.weight)[:, None] * slope) @ self.from_vector.weight

    def score_all(
        self, embedded: torch.Tensor, candidates: torch.Tensor, others: torch.Tensor, present: torch.Tensor
    ) -> torch.Tensor:
        pooled = nn.functional.linear(  # [batch, V, hidden_dim], or [1, V, hidden_dim]
            _leaky(self.before(embedded[:, None], candidates[None])), self.second.weight
        )
        if others.shape[1] > 1:
            rest = _leaky(self.before(embedded[:, None], others[:, 1:])) * present[:, 1:, None]
            root = _root(present)[:, None]  # [batch, 1, 1]
            pooled = (pooled + nn.functional.linear(rest.sum(dim=1, keepdim=True), self.second.weight)) / root
            pooled = pooled + root * self.second.bias
        else:
            pooled = pooled + self.second.bias
        hidden, direction = _leaky(pooled), self.direction(embedded)
        if len(hidden) == 1:  # the same for all images
            return direction @ hidden[0].T + self.output.bias
        return (hidden * direction[:, None]).sum(dim=-1) + self.output.bias


def _leaky(before: torch.Tensor) -> torch.Tensor:
    return nn.functional.leaky_relu(before, LEAK)


def _root(present: torch.Tensor) -> torch.Tensor:
    """√n of reactions, [batch, 1]; 1 of an empty one."""
    return present.sum(dim=1, keepdim=True).clamp(min=1).sqrt()


class ProjectionCritic(PooledCritic):
    """a(y) = v(y) / √d + w, and f(x) = U x + u (Miyato & Koyama 2018, with image and label exchanged)."""

    def __init__(self, config: ModelConfig, vector_dim: int, image_size: int) -> None:
        super().__init__()
        self.trunk = Trunk(config, image_size)
        self.condition = nn.Linear(config.feature_dim, config.hidden_dim)
        self.from_vector = nn.Linear(vector_dim, config.hidden_dim)
        self.second = nn.Linear(config.hidden_dim, config.hidden_dim)
        self.output = nn.Linear(config.hidden_dim, 1)

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """v(y) / √d: all that the score needs of an image, [batch, hidden_dim]."""
        return self.condition(self.trunk(images)) / math.sqrt(self.condition.out_features)

    def before(self, embedded: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        return self.from_vector(vectors)

    def direction(self, embedded: torch.Tensor) -> torch.Tensor:
        return embedded + self.output.weight


class ConcatenationCritic(PooledCritic):
    """f(x, y) = U [x, y] + u: image features and vector side by side (the paper); a is the same for all y.

    One linear layer after the join could not condition: its gradient by x is the same for every image. The
    first layer is kept in two halves, so that the image's is computed once.
    """

    def __init__(self, config: ModelConfig, vector_dim: int, image_size: int) -> None:
        super().__init__()
        self.trunk = Trunk(config, image_size)
        self.from_image = nn.Linear(config.feature_dim, config.hidden_dim)
        self.from_vector = nn.Linear(vector_dim, config.hidden_dim, bias=False)
        self.second = nn.Linear(config.hidden_dim, config.hidden_dim)
        self.output = nn.Linear(config.hidden_dim, 1)

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """The image's half of the first layer, [batch, hidden_dim]."""
        return self.from_image(self.trunk(images))

    def before(self, embedded: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        return embedded + self.from_vector(vectors)

    def direction(self, embedded: torch.Tensor) -> torch.Tensor:
        return self.output.weight


def make_critic(config: ModelConfig, vector_dim: int, image_size: int) -> Critic:
    """The critic that a config names."""
    kind = {"projection": ProjectionCritic, "concatenation": ConcatenationCritic}[config.critic]
    return kind(config, vector_dim, image_size)


class Classifier(nn.Module):
    """The baseline: the generator's trunk and a softmax over the vocabulary."""

    def __init__(self, config: ModelConfig, vocabulary: int, image_size: int) -> None:
        super().__init__()
        self.trunk = Trunk(config, image_size)
        self.output = nn.Sequential(
            hidden_layers(config.feature_dim, config.hidden_dim), nn.Linear(config.hidden_dim, vocabulary)
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """log q(e | y), float32 [batch, V]."""
        return self.head(self.trunk(images))

    def head(self, features: torch.Tensor) -> torch.Tensor:
        """All but the trunk."""
        return self.output(features).float().log_softmax(dim=-1)


class TiedClassifier(Classifier):
    """The classifier whose softmax is over products with the emojis' vectors, as the generator's is.

    Args:
        vectors: float32 [V, vector_dim], of the vocabulary; kept as a buffer that is not saved.
    """

    vectors: torch.Tensor

    def __init__(self, config: ModelConfig, vectors: torch.Tensor, image_size: int) -> None:
        super().__init__(config, vectors.shape[1], image_size)
        self.register_buffer("vectors", vectors, persistent=False)

    def head(self, features: torch.Tensor) -> torch.Tensor:
        output = self.output(features).float()
        return (output @ self.vectors.T / math.sqrt(output.shape[-1])).log_softmax(dim=-1)


@torch.no_grad()
def move_average(average: nn.Module, trained: nn.Module, decay: float, step: int) -> None:
    """Move a running mean of weights, which is judged and asked in their place, towards those after a step.

    It moves faster in the beginning.
    """
    decay = min(decay, (1 + step) / (10 + step))
    mean: list[torch.Tensor] = list(average.parameters())
    weights: list[torch.Tensor] = list(trained.parameters())
    torch._foreach_lerp_(mean, weights, 1 - decay)  # pyright: ignore[reportPrivateImportUsage]

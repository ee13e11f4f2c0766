"""The losses are those of a plain conditional WGAN-GP, and what they are made of keeps its promises."""

import copy
import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from scipy.stats import chi2
from torch import nn
from torch.nn.functional import leaky_relu, linear

from emojigan.datasets.store.folder import LocalFolder
from emojigan.datasets.stream.reader import Batch
from emojigan.trainer.config import Config, ModelConfig
from emojigan.trainer.inputs import read_inputs
from emojigan.trainer.model.networks import (
    ConcatenationCritic,
    Critic,
    FirstConvolution,
    Generator,
    Trunk,
    make_critic,
)
from emojigan.trainer.model.noise import normal, uniform
from emojigan.trainer.runtime.ranks import start
from emojigan.trainer.training import step
from emojigan.trainer.training.objective import CriticLoss, GeneratorLoss, draw_fakes, frozen
from emojigan.trainer.training.step import Training, build, train_step

CYCLES, BATCH, PENALTY_WEIGHT, NLL_WEIGHT = 10, 16, 10.0, 5.0
SIZE, VOCABULARY, VECTOR_DIM = 32, 7, 12
CRITICS, OUTPUTS = ("projection", "concatenation"), ("tied", "free")
SMOOTH = "smooth"  # a critic that none of the package is: its penalty is by double backward in its head


@pytest.fixture
def float64(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Compute in float64 what the losses do in float32: their `.float()` is taken as `.double()`."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def model(critic: str = "projection", output: str = "tied") -> ModelConfig:
    return ModelConfig.model_validate(
        {
            "critic": critic,
            "output": output,
            "trunk_width": 4,
            "feature_dim": 8,
            "hidden_dim": 16,
            "latent_dim": 4,
        }
    )


def make_networks(critic: str, output: str = "tied") -> tuple[Generator, Critic]:
    torch.manual_seed(0)
    config = model(critic, output)
    return Generator(config, torch.randn(VOCABULARY, VECTOR_DIM), SIZE), make_critic(config, VECTOR_DIM, SIZE)


def critic_batch(batch: int = BATCH) -> tuple[torch.Tensor, ...]:
    """Images, real, fake, mix."""
    torch.manual_seed(1)
    return (
        torch.rand(batch, 3, SIZE, SIZE) * 2 - 1,
        torch.randn(batch, VECTOR_DIM),
        torch.randn(batch, VECTOR_DIM),
        torch.rand(batch, 1),
    )


class SmoothCritic(Critic):
    """Of smooth activations, so that the penalty has gradients by the image's features, too."""

    def __init__(self, config: ModelConfig, vector_dim: int, image_size: int) -> None:
        super().__init__()
        self.trunk = Trunk(config, image_size)
        self.from_image = nn.Linear(config.feature_dim, config.hidden_dim)
        self.from_vector = nn.Linear(vector_dim, config.hidden_dim)
        self.output = nn.Linear(config.hidden_dim, 1)

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        return self.from_image(self.trunk(images))

    def score(self, embedded: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        return self.output(nn.functional.silu(embedded + self.from_vector(vectors))).squeeze(-1)

    def score_all(self, embedded: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        return self.score(embedded[:, None], vectors[None])


# The plain loop: every forward goes through the whole network, nothing is shared, Adam is written out.


def plain_trunk(trunk: nn.Module, images: torch.Tensor) -> torch.Tensor:
    p = dict(trunk.named_parameters())
    for layer in (0, 2, 4, 6):
        weight, bias = p[f"convolutions.{layer}.weight"], p[f"convolutions.{layer}.bias"]
        images = leaky_relu(nn.functional.conv2d(images, weight, bias, stride=2, padding=1), 0.2)
    return leaky_relu(linear(images.flatten(1), p["project.weight"], p["project.bias"]), 0.2)


def plain_score(critic: nn.Module, images: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
    """D(x | y), [batch]."""
    p = dict(critic.named_parameters())
    features = plain_trunk(critic.get_submodule("trunk"), images)
    if isinstance(critic, SmoothCritic):
        joined = linear(features, p["from_image.weight"], p["from_image.bias"])
        joined = joined + linear(vectors, p["from_vector.weight"], p["from_vector.bias"])
        return linear(joined * torch.sigmoid(joined), p["output.weight"], p["output.bias"])[:, 0]
    if "from_image.weight" in p:
        joined = torch.cat([features, vectors], dim=1)
        weight = torch.cat([p["from_image.weight"], p["from_vector.weight"]], dim=1)
        hidden = leaky_relu(linear(joined, weight, p["from_image.bias"]), 0.2)
        hidden = leaky_relu(linear(hidden, p["hidden.1.weight"], p["hidden.1.bias"]), 0.2)
        return linear(hidden, p["output.weight"], p["output.bias"])[:, 0]
    hidden = leaky_relu(linear(vectors, p["hidden.0.weight"], p["hidden.0.bias"]), 0.2)
    hidden = leaky_relu(linear(hidden, p["hidden.2.weight"], p["hidden.2.bias"]), 0.2)
    condition = linear(features, p["condition.weight"], p["condition.bias"])
    unconditional = linear(hidden, p["output.weight"], p["output.bias"])[:, 0]
    return unconditional + (condition * hidden).sum(1) / math.sqrt(hidden.shape[1])


def plain_generate(generator: Generator, images: torch.Tensor, latent: torch.Tensor) -> torch.Tensor:
    p = dict(generator.named_parameters())
    hidden = torch.cat([plain_trunk(generator.trunk, images), latent], dim=1)
    for layer in ("hidden.0", "hidden.2"):
        hidden = leaky_relu(linear(hidden, p[f"{layer}.weight"], p[f"{layer}.bias"]), 0.2)
    return linear(hidden, p["output.weight"], p["output.bias"])


def plain_probabilities(generator: Generator, output: torch.Tensor) -> torch.Tensor:
    return torch.softmax(output @ generator.vectors.T / math.sqrt(output.shape[1]), dim=1)


def plain_penalty(
    critic: nn.Module, images: torch.Tensor, real: torch.Tensor, fake: torch.Tensor, mix: torch.Tensor
) -> torch.Tensor:
    between = (mix * real + (1 - mix) * fake).detach().requires_grad_()
    scores = plain_score(critic, images, between)
    (gradient,) = torch.autograd.grad(scores.sum(), between, create_graph=True)
    return ((gradient**2).sum(dim=1).sqrt() - 1) ** 2


class PlainAdam:
    """Kingma & Ba, Algorithm 1."""

    def __init__(self, module: nn.Module, rate: float, beta1: float, beta2: float) -> None:
        self.parameters = list(module.parameters())
        self.moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in self.parameters]
        self.rate, self.beta1, self.beta2, self.time = rate, beta1, beta2, 0

    def step(self, loss: torch.Tensor) -> None:
        self.time += 1
        gradients = torch.autograd.grad(loss, self.parameters)
        with torch.no_grad():
            for p, g, (first, second) in zip(self.parameters, gradients, self.moments, strict=True):
                first.copy_(self.beta1 * first + (1 - self.beta1) * g)
                second.copy_(self.beta2 * second + (1 - self.beta2) * g**2)
                mean = first / (1 - self.beta1**self.time)
                spread = second / (1 - self.beta2**self.time)
                p -= self.rate * mean / (spread.sqrt() + 1e-8)


def plain_training(training: Training, batches: list[Batch]) -> tuple[nn.Module, nn.Module]:
    """The critic and the generator after the same cycles, from the same weights, batches and noise."""
    config, inputs = training.config, training.inputs
    settings, vectors = config.optimizer, training.generator.vectors
    critic, generator = copy.deepcopy(training.critic), copy.deepcopy(training.generator)
    adams = [
        PlainAdam(module, settings.learning_rate, settings.beta1, settings.beta2)
        for module in (critic, generator)
    ]
    for number, batch in enumerate(batches):
        images = batch.images.double() / 127.5 - 1
        weight, emoji = inputs.tuple_weights[batch.emoji], inputs.ids[batch.emoji]
        place = torch.tensor([number, 0])
        drawn = uniform(settings.seed, place, BATCH, 7 + config.model.latent_dim)
        latent, pick, mix = normal(drawn[:, 7:]), drawn[:, 5], drawn[:, 6:7]
        output = plain_generate(generator, images, latent)
        if number % 6 < 5:
            if config.model.output == "tied":
                cumulative = plain_probabilities(generator, output).cumsum(1)
                drawn = [
                    next(e for e in range(len(vectors)) if cumulative[row, e] > pick[row])
                    for row in range(BATCH)
                ]
                fake = vectors[drawn]
            else:
                fake = output.detach()
            penalty = plain_penalty(critic, images, vectors[emoji], fake, mix)
            difference = plain_score(critic, images, fake) - plain_score(critic, images, vectors[emoji])
            adams[0].step((weight * (difference + PENALTY_WEIGHT * penalty)).sum() / BATCH)
        else:
            if config.model.output == "tied":
                q = plain_probabilities(generator, output)
                scores = torch.stack(
                    [plain_score(critic, images, v.expand(BATCH, -1)) for v in vectors], dim=1
                )
                score = (q * scores).sum(dim=1)
                loss = -NLL_WEIGHT * q[torch.arange(BATCH), emoji].log() - score
            else:
                loss = -plain_score(critic, images, output)
            adams[1].step((weight * loss).sum() / BATCH)
    return critic, generator


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("critic", [*CRITICS, SMOOTH])
@pytest.mark.parametrize("output", OUTPUTS)
def test_ten_cycles_end_at_the_parameters_of_the_plain_three_forward_loop(
    critic: str, output: str, shards: Path, vectors_file: Path, monkeypatch: pytest.MonkeyPatch
):
    if critic == SMOOTH:
        monkeypatch.setattr(step, "make_critic", SmoothCritic)
        critic = CRITICS[0]
    config = Config.model_validate(
        {
            "data": {"batch_size": BATCH, "augment": False},
            "model": model(critic, output).model_dump(),
            "objective": {
                "penalty_weight": PENALTY_WEIGHT,
                "nll_weight": NLL_WEIGHT if output == "tied" else 0,
                "weights": "exponential",
                "k": 3,
            },
            "optimizer": {"final_learning_rate": 1},
            "run": {"precision": "float32"},
        }
    )
    inputs = read_inputs(config, LocalFolder(shards), vectors_file)
    training = build(config, inputs, start(config))
    for module in (training.critic, training.generator):
        module.double()
    torch.manual_seed(0)
    batches = [random_batch(inputs.train.manifest.image_size, len(inputs.ids)) for _ in range(6 * CYCLES)]
    plain = plain_training(training, batches)
    begun = copy.deepcopy((training.critic, training.generator))

    stream = iter(batches)
    for cycle in range(CYCLES):
        train_step(training, stream, 6 * cycle)

    for ours, theirs, first in zip((training.critic, training.generator), plain, begun, strict=True):
        for name, parameter in theirs.named_parameters():
            assert (ours.get_parameter(name) - parameter).abs().max() <= 1e-10, name
        name = "trunk.convolutions.0.weight"
        assert (ours.get_parameter(name) - first.get_parameter(name)).abs().max() > 1e-3


@pytest.mark.soak
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own, as it compiles
@pytest.mark.usefixtures("float64")  # Adam makes much of the rounding of small gradients: 1e-4 in float32
@pytest.mark.parametrize("critic", CRITICS)
def test_ten_compiled_cycles_end_where_ten_others_do(critic: str, shards: Path, vectors_file: Path):
    ends = []
    for compiled in ("off", "on"):
        config = Config.model_validate(
            {
                "data": {"batch_size": BATCH},
                "model": model(critic).model_dump(),
                "objective": {"weights": "exponential", "k": 3},
                "run": {"precision": "float32", "compile": compiled},
            }
        )
        inputs = read_inputs(config, LocalFolder(shards), vectors_file)
        training = build(config, inputs, start(config))
        for module in (training.critic, training.generator):
            module.double()
        torch.manual_seed(0)
        size = inputs.train.manifest.image_size
        stream = iter([random_batch(size, len(inputs.ids)) for _ in range(6 * CYCLES)])
        for cycle in range(CYCLES):
            train_step(training, stream, 6 * cycle)
        modules = {"critic": training.critic, "generator": training.generator}
        ends.append(
            {
                f"{network}.{name}": parameter.detach()
                for network, module in modules.items()
                for name, parameter in module.named_parameters()
            }
        )
    for name, expected in ends[0].items():
        assert (ends[1][name] - expected).abs().max() <= 1e-10, name


def random_batch(size: int, vocabulary: int) -> Batch:
    images = torch.randint(0, 256, (BATCH, 3, size, size), dtype=torch.uint8)
    return Batch(images, torch.randint(0, vocabulary, (BATCH,)))


@pytest.mark.usefixtures("float64")
def test_the_first_convolution_is_a_product_of_patches_and_so_are_its_gradients():
    torch.manual_seed(0)
    convolution = FirstConvolution(3, 5, 4, stride=2, padding=1)
    images, weight = torch.randn(2, 3, SIZE, SIZE), torch.randn(2, 5, SIZE // 2, SIZE // 2)
    found = []
    for forward in (convolution, convolution.of_patches):
        convolution.zero_grad()
        maps = forward(images)
        (weight * maps).sum().backward()
        found.append([maps.detach(), *(p.grad for p in convolution.parameters())])
    for convolved, multiplied in zip(*found, strict=True):
        assert torch.allclose(convolved, multiplied, rtol=1e-12, atol=1e-12)


def central_difference(function: Callable[[], torch.Tensor], number: torch.Tensor) -> torch.Tensor:
    """The derivative of `function` by every number of a tensor that it reads, with the tensor's shape."""
    flat, step, slopes = number.data.view(-1), 1e-6, []
    for place in range(flat.numel()):
        flat[place] += step
        above = function().detach()
        flat[place] -= 2 * step
        slopes.append((above - function().detach()) / (2 * step))
        flat[place] += step
    return torch.stack(slopes).reshape(number.shape)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("kind", CRITICS)
def test_the_gradient_in_closed_form_is_that_of_autograd_and_so_are_its_derivatives(kind: str):
    _, critic = make_networks(kind)
    images, real, fake, mix = critic_batch()
    between, weight = mix * real + (1 - mix) * fake, torch.rand(BATCH, VECTOR_DIM)
    found = []
    for gradient in (critic.gradient, partial(Critic.gradient, critic)):
        critic.zero_grad()
        value = gradient(critic.embed(images), between)
        (weight * value.square()).sum().backward()
        slopes = {name: p.grad for name, p in critic.named_parameters() if p.grad is not None}
        found.append({"value": value.detach(), **slopes})
    closed, derived = found
    for name in {*closed, *derived}:  # a bias of the last layer has no part in it
        expected = derived.get(name, torch.zeros(1))
        assert torch.allclose(closed.get(name, torch.zeros(1)), expected, rtol=1e-12, atol=1e-13), name
    assert {"value", "output.weight"} <= closed.keys()


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("kind", CRITICS)
def test_penalty_is_that_of_finite_differences(kind: str):
    _, critic = make_networks(kind)
    images, real, fake, mix = critic_batch(batch=3)
    between = mix * real + (1 - mix) * fake
    slope = central_difference(lambda: critic.score(critic.embed(images), between).sum(), between)
    _, (_, penalty) = CriticLoss(critic, PENALTY_WEIGHT)(images, real, fake, mix, torch.ones(3))
    assert penalty.item() == pytest.approx(((slope.norm(dim=1) - 1) ** 2).mean().item(), rel=1e-7)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("kind", CRITICS)
def test_gradient_of_the_critic_loss_is_that_of_finite_differences(kind: str):
    _, critic = make_networks(kind)
    loss, batch = CriticLoss(critic, PENALTY_WEIGHT), critic_batch(batch=3)
    weight = torch.tensor([0.2, 1.0, 1.8])
    loss(*batch, weight)[0].backward()
    for name in ("trunk.project.bias", "hidden.2.bias" if kind == "projection" else "hidden.1.bias"):
        parameter = critic.get_parameter(name)
        slope = central_difference(lambda: loss(*batch, weight)[0], parameter)
        assert parameter.grad is not None and parameter.grad.abs().max() > 0
        assert torch.allclose(parameter.grad, slope, rtol=1e-6, atol=1e-8), name


@pytest.mark.parametrize("kind", CRITICS)
def test_zero_gradient_by_the_vector_gives_no_nan(kind: str):
    _, critic = make_networks(kind)
    with torch.no_grad():
        critic.get_parameter("hidden.0.weight" if kind == "projection" else "from_vector.weight").zero_()
    loss, (_, penalty) = CriticLoss(critic, PENALTY_WEIGHT)(*critic_batch(), torch.ones(BATCH))
    loss.backward()
    assert penalty == 1  # (0 - 1)²
    assert all(p.grad is not None and p.grad.isfinite().all() for p in critic.parameters())


@pytest.mark.parametrize("kind", CRITICS)
def test_critic_loss_with_weights_of_one_is_the_unweighted_one(kind: str):
    _, critic = make_networks(kind)
    loss, (wasserstein, penalty) = CriticLoss(critic, PENALTY_WEIGHT)(*critic_batch(), torch.ones(BATCH))
    assert loss.item() == pytest.approx((PENALTY_WEIGHT * penalty - wasserstein).item(), rel=1e-6)


@pytest.mark.parametrize("output", OUTPUTS)
def test_generator_loss_with_weights_of_one_is_the_unweighted_one(output: str):
    generator, critic = make_networks("projection", output)
    images, *_ = critic_batch()
    emoji, latent = torch.arange(BATCH) % VOCABULARY, torch.randn(BATCH, 4)
    generator_loss = GeneratorLoss(generator, output == "tied", NLL_WEIGHT)
    loss, (score, nll, _) = generator_loss(critic, images, emoji, latent, torch.ones(BATCH))
    assert loss.item() == pytest.approx((NLL_WEIGHT * nll - score).item(), rel=1e-6)


def test_a_sample_of_weight_zero_does_not_count():
    _, critic = make_networks("projection")
    images, real, fake, mix = critic_batch()
    weight = torch.ones(BATCH)
    weight[0] = 0
    loss = CriticLoss(critic, PENALTY_WEIGHT)
    before = loss(images, real, fake, mix, weight)[0]
    real[0] += 1
    assert loss(images, real, fake, mix, weight)[0] == before


@pytest.mark.parametrize("kind", CRITICS)
def test_exact_expectation_is_the_mean_of_sampled_scores(kind: str):
    generator, critic = make_networks(kind)
    generator.output.weight.data *= 20  # far from uniform
    image, latent, draws = torch.rand(1, 3, SIZE, SIZE), torch.randn(1, 4), 5000
    loss = GeneratorLoss(generator, True, 0.0)
    _, (expected, *_) = loss(critic, image, torch.zeros(1, dtype=torch.int64), latent, torch.ones(1))
    drawn = draw(generator, image, latent, draws)
    scores = critic.score(critic.embed(image), drawn).detach()
    assert scores.std() > 0
    assert abs(scores.mean() - expected) < 4 * scores.std() / math.sqrt(draws)


def draw(generator: Generator, image: torch.Tensor, latent: torch.Tensor, draws: int) -> torch.Tensor:
    torch.manual_seed(2)
    images, latents = image.expand(draws, -1, -1, -1), latent.expand(draws, -1)
    return draw_fakes(generator, True, images, latents, torch.rand(draws))


def test_fakes_are_drawn_from_q():
    generator, _ = make_networks("projection")
    generator.output.weight.data *= 20
    image, latent, draws = torch.rand(1, 3, SIZE, SIZE), torch.randn(1, 4), 5000
    q = generator.log_probabilities(generator(image, latent)).exp()[0].detach()
    drawn = draw(generator, image, latent, draws)
    counts = (drawn[:, None] == generator.vectors).all(dim=2).sum(dim=0)
    assert counts.sum() == draws
    statistic = ((counts - draws * q) ** 2 / (draws * q)).sum()
    assert chi2.sf(statistic.item(), VOCABULARY - 1) > 0.001


def test_the_largest_uniform_number_draws_an_emoji_of_the_vocabulary():
    generator, _ = make_networks("projection")
    images, latent = torch.rand(500, 3, SIZE, SIZE), torch.randn(500, 4)
    drawn = draw_fakes(generator, True, images, latent, torch.full((500,), 1 - 2**-24))
    assert (drawn[:, None] == generator.vectors).all(dim=2).any(dim=1).all()


def test_an_emoji_of_probability_zero_is_never_drawn(monkeypatch: pytest.MonkeyPatch):
    generator, _ = make_networks("projection")
    q = torch.zeros(2, VOCABULARY)
    q[:, 3] = 1
    monkeypatch.setattr(generator, "log_probabilities", lambda output: q.log())
    images, latent = torch.rand(2, 3, SIZE, SIZE), torch.randn(2, 4)
    drawn = draw_fakes(generator, True, images, latent, torch.tensor([0, 1 - 2**-24]))
    assert torch.equal(drawn, generator.vectors[[3, 3]])


def test_free_fakes_are_what_the_generator_says():
    generator, _ = make_networks("projection", "free")
    images, latent = torch.rand(3, 3, SIZE, SIZE), torch.randn(3, 4)
    fakes = draw_fakes(generator, False, images, latent, torch.rand(3))
    assert torch.equal(fakes, generator(images, latent))
    assert not fakes.requires_grad


@pytest.mark.parametrize("kind", CRITICS)
def test_score_all_is_the_score_of_every_pair(kind: str):
    generator, critic = make_networks(kind)
    embedded = critic.embed(torch.rand(5, 3, SIZE, SIZE))
    pairs = [
        critic.score(embedded[i : i + 1], v[None]) for i in range(len(embedded)) for v in generator.vectors
    ]
    everything = critic.score_all(embedded, generator.vectors)
    assert torch.allclose(everything, torch.cat(pairs).reshape(5, VOCABULARY), atol=1e-6)


@pytest.mark.parametrize("kind", CRITICS)
def test_gradient_by_the_vector_differs_between_images(kind: str):
    _, critic = make_networks(kind)
    vectors = torch.randn(1, VECTOR_DIM).expand(2, -1).clone().requires_grad_()
    scores = critic.score(critic.embed(100 * torch.randn(2, 3, SIZE, SIZE)), vectors)
    (gradient,) = torch.autograd.grad(scores.sum(), vectors)
    assert (gradient[0] - gradient[1]).abs().max() > 1e-3 * gradient.abs().max()


def test_the_layer_after_the_join_of_the_concatenation_critic_is_not_linear():
    _, critic = make_networks("concatenation")
    assert isinstance(critic, ConcatenationCritic)
    assert isinstance(critic.hidden[0], nn.LeakyReLU)


def test_the_generator_loss_leaves_no_gradients_in_a_frozen_critic():
    generator, critic = make_networks("projection", "free")
    images, *_ = critic_batch()
    emoji, latent = torch.zeros(BATCH, dtype=torch.int64), torch.randn(BATCH, 4)
    with frozen(critic):
        loss, _ = GeneratorLoss(generator, False, 0.0)(critic, images, emoji, latent, torch.ones(BATCH))
        loss.backward()
    assert all(p.grad is None and p.requires_grad for p in critic.parameters())
    assert all(p.grad is not None for p in generator.parameters())

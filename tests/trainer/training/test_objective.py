"""The losses are those of a plain conditional WGAN-GP, and what they are made of keeps its promises."""

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
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
    Critic,
    FirstConvolution,
    Generator,
    Trunk,
    make_critic,
)
from emojigan.trainer.model.noise import normal, uniform
from emojigan.trainer.runtime.ranks import start
from emojigan.trainer.training import step
from emojigan.trainer.training.objective import (
    critic_losses,
    draw,
    expected_scores,
    free_scores,
    frozen,
    latent_use,
    negative_log_likelihood,
)
from emojigan.trainer.training.step import Training, build, train_step

CYCLES, BATCH, PENALTY_WEIGHT, NLL_WEIGHT = 10, 8, 10.0, 5.0
SIZE, VOCABULARY, VECTOR_DIM, SLOTS = 32, 7, 12, 3
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
    """Images, real, fake, present, mix: of reactions of one to three emojis, some behind an empty slot."""
    torch.manual_seed(1)
    return (
        torch.rand(batch, 3, SIZE, SIZE) * 2 - 1,
        torch.randn(batch, SLOTS, VECTOR_DIM),
        torch.randn(batch, SLOTS, VECTOR_DIM),
        torch.tensor([[1.0, 0, 0], [0, 1, 1], [1, 1, 1]])[torch.arange(batch) % 3],
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

    def score(self, embedded: torch.Tensor, vectors: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        hidden = nn.functional.silu(embedded[:, None] + self.from_vector(vectors))
        return self.output((hidden * present[..., None]).sum(dim=1)).squeeze(-1)

    def score_all(
        self, embedded: torch.Tensor, candidates: torch.Tensor, others: torch.Tensor, present: torch.Tensor
    ) -> torch.Tensor:
        scores = [self.score(embedded, with_first(others, each), present) for each in candidates]
        return torch.stack(scores, dim=1)


def with_first(reactions: torch.Tensor, vector: torch.Tensor) -> torch.Tensor:
    """The same reactions, [batch, slots, vector_dim], with a vector in the first slot."""
    first = vector.expand(len(reactions), 1, -1)
    return torch.cat([first, reactions[:, 1:]], dim=1)


# The plain loop: every forward goes through the whole network, nothing is shared, Adam is written out.


def plain_trunk(trunk: nn.Module, images: torch.Tensor) -> torch.Tensor:
    p = dict(trunk.named_parameters())
    for layer in (0, 2, 4, 6):
        weight, bias = p[f"convolutions.{layer}.weight"], p[f"convolutions.{layer}.bias"]
        images = leaky_relu(nn.functional.conv2d(images, weight, bias, stride=2, padding=1), 0.2)
    return leaky_relu(linear(images.flatten(1), p["project.weight"], p["project.bias"]), 0.2)


def plain_score(
    critic: nn.Module, images: torch.Tensor, vectors: torch.Tensor, present: torch.Tensor
) -> torch.Tensor:
    """D(S | y), [batch]; emoji by emoji."""
    p = dict(critic.named_parameters())
    features = plain_trunk(critic.get_submodule("trunk"), images)
    scores = []
    for image, reaction, there in zip(features, vectors, present, strict=True):
        emojis = [vector for vector, is_there in zip(reaction, there, strict=True) if is_there]
        root = math.sqrt(max(len(emojis), 1))
        if isinstance(critic, SmoothCritic):
            joined = linear(image, p["from_image.weight"], p["from_image.bias"])
            hidden = torch.zeros_like(joined)
            for vector in emojis:
                before = joined + linear(vector, p["from_vector.weight"], p["from_vector.bias"])
                hidden = hidden + before * torch.sigmoid(before)
            scores.append(linear(hidden, p["output.weight"], p["output.bias"])[0])
            continue
        pooled = torch.zeros_like(p["second.bias"])
        for vector in emojis:
            if "from_image.weight" in p:
                weight = torch.cat([p["from_image.weight"], p["from_vector.weight"]], dim=1)
                before = linear(torch.cat([image, vector]), weight, p["from_image.bias"])
            else:
                before = linear(vector, p["from_vector.weight"], p["from_vector.bias"])
            pooled = pooled + linear(leaky_relu(before, 0.2), p["second.weight"], p["second.bias"]) / root
        hidden = leaky_relu(pooled, 0.2)
        score = linear(hidden, p["output.weight"], p["output.bias"])[0]
        if "condition.weight" in p:
            condition = linear(image, p["condition.weight"], p["condition.bias"])
            score = score + (condition * hidden).sum() / math.sqrt(len(hidden))
        scores.append(score)
    return torch.stack(scores)


def plain_generate(generator: Generator, images: torch.Tensor, latent: torch.Tensor) -> torch.Tensor:
    p = dict(generator.named_parameters())
    hidden = torch.cat([plain_trunk(generator.trunk, images), latent], dim=1)
    for layer in ("hidden.0", "hidden.2"):
        hidden = leaky_relu(linear(hidden, p[f"{layer}.weight"], p[f"{layer}.bias"]), 0.2)
    return linear(hidden, p["output.weight"], p["output.bias"])


def plain_probabilities(generator: Generator, output: torch.Tensor) -> torch.Tensor:
    return torch.softmax(output @ generator.vectors.T / math.sqrt(output.shape[1]), dim=1)


def plain_penalty(
    critic: nn.Module,
    images: torch.Tensor,
    real: torch.Tensor,
    fake: torch.Tensor,
    present: torch.Tensor,
    mix: torch.Tensor,
) -> torch.Tensor:
    between = (mix[..., None] * real + (1 - mix[..., None]) * fake).detach().requires_grad_()
    scores = plain_score(critic, images, between, present)
    (gradient,) = torch.autograd.grad(scores.sum(), between, create_graph=True)
    return ((gradient**2).sum(dim=(1, 2)).sqrt() - 1) ** 2


def plain_nll(
    qs: list[torch.Tensor], emoji: torch.Tensor, present: torch.Tensor, weight: torch.Tensor
) -> torch.Tensor:
    """The likelihood term of a batch; `qs` are [batch, V], of one latent each."""
    total = torch.zeros(())
    for row, (emojis, there) in enumerate(zip(emoji, present, strict=True)):
        likelihood = torch.zeros(())
        for q in qs:
            product = torch.ones(())
            for each, is_there in zip(emojis, there, strict=True):
                product = product * q[row, each] if is_there else product
            likelihood = likelihood + product / len(qs)
        total = total - NLL_WEIGHT * weight[row] * likelihood.log()
    return total / len(emoji)


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
    dim, of_all = config.model.latent_dim, config.objective.nll_batches == "all"
    for number, batch in enumerate(batches):
        images = batch.images.double() / 127.5 - 1
        emoji = batch.emoji.view(BATCH, -1)
        slots, of_critic = emoji.shape[1], number % 6 < 5
        ids = torch.tensor([[inputs.ids[each] if each >= 0 else -1 for each in row] for row in emoji])
        weights = [
            [inputs.tuple_weights[each].item() for each, known in zip(*pair, strict=True) if known >= 0]
            for pair in zip(emoji, ids, strict=True)
        ]
        weight = torch.tensor([sum(each) / max(len(each), 1) for each in weights])
        known = [[each for each in row if each >= 0] for row in ids.tolist()]
        ids = torch.tensor([row + [0] * (slots - len(row)) for row in known])
        present = torch.tensor([[1.0] * len(row) + [0.0] * (slots - len(row)) for row in known])
        latents = 1 if of_critic and not of_all else config.objective.latents
        place, even = torch.tensor([number, 0]), latents * dim + latents * dim % 2
        noise = uniform(settings.seed, place, BATCH, 7 + slots + even)
        z = normal(noise[:, 6 + slots : -1])[:, : latents * dim].reshape(BATCH, latents, dim)
        pick, mix = noise[:, 5 : 5 + slots], noise[:, 5 + slots : 6 + slots]
        output = plain_generate(generator, images, z[:, 0])
        fake, qs = output.detach()[:, None], []
        if config.model.output == "tied":
            qs = [
                plain_probabilities(generator, plain_generate(generator, images, z[:, k]))
                for k in range(latents)
            ]
            cumulative = qs[0].detach().cumsum(1)
            drawn = [
                [next(e for e in range(len(vectors)) if cumulative[row, e] > u) for u in pick[row]]
                for row in range(BATCH)
            ]
            fake = vectors[torch.tensor(drawn)]
        if of_critic:
            real = vectors[ids]
            penalty = plain_penalty(critic, images, real, fake, present, mix)
            difference = plain_score(critic, images, fake, present) - plain_score(
                critic, images, real, present
            )
            adams[0].step((weight * (difference + PENALTY_WEIGHT * penalty)).sum() / BATCH)
            if of_all:
                adams[1].step(plain_nll(qs, ids, present, weight))
        elif config.model.output == "tied":
            scores = [plain_score(critic, images, with_first(fake, v), present) for v in vectors]
            score = present.sum(dim=1) * (qs[0] * torch.stack(scores, dim=1).detach()).sum(dim=1)
            adams[1].step(plain_nll(qs, ids, present, weight) - (weight * score).sum() / BATCH)
        else:
            score = plain_score(critic, images, output[:, None], present)
            adams[1].step(-(weight * score).sum() / BATCH)
    return critic, generator


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("critic", [*CRITICS, SMOOTH])
@pytest.mark.parametrize("kind", [*OUTPUTS, "reaction"])
def test_ten_cycles_end_at_the_parameters_of_the_plain_three_forward_loop(
    critic: str, kind: str, shards: Path, vectors_file: Path, monkeypatch: pytest.MonkeyPatch
):
    output, of_reactions = "free" if kind == "free" else "tied", {"latents": 3, "nll_batches": "all"}
    if critic == SMOOTH:
        monkeypatch.setattr(step, "make_critic", SmoothCritic)
        critic = CRITICS[0]
    config = Config.model_validate(
        {
            "data": {
                "batch_size": BATCH,
                "augment": False,
                "unit": "reaction" if kind == "reaction" else "tuple",
            },
            "model": model(critic, output).model_dump(),
            "objective": {
                "penalty_weight": PENALTY_WEIGHT,
                "nll_weight": NLL_WEIGHT if output == "tied" else 0,
                "weights": "exponential",
                "k": 3,
                **(of_reactions if kind == "reaction" else {}),
            },
            "optimizer": {"final_learning_rate": 1},
            "run": {"precision": "float32"},
        }
    )
    inputs = read_inputs(config, LocalFolder(shards), vectors_file)
    manifest = replace(inputs.train.manifest, image_size=SIZE)
    training = build(config, replace(inputs, train=replace(inputs.train, manifest=manifest)), start(config))
    for module in (training.critic, training.generator):
        module.double()
    torch.manual_seed(0)
    slots = SLOTS if kind == "reaction" else None
    batches = [random_batch(SIZE, len(inputs.ids), slots) for _ in range(6 * CYCLES)]
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


def random_batch(size: int, vocabulary: int, slots: int | None = None) -> Batch:
    """Of tuples, or of reactions with up to so many emojis."""
    images = torch.randint(0, 256, (BATCH, 3, size, size), dtype=torch.uint8)
    if slots is None:
        return Batch(images, torch.randint(0, vocabulary, (BATCH,)))
    emoji = torch.randint(0, vocabulary, (BATCH, slots))
    number = torch.randint(0, slots + 1, (BATCH, 1))  # one without any keeps its place
    return Batch(images, torch.where(torch.arange(slots) < number, emoji, -1))


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
    images, between, _, present, _ = critic_batch()
    weight = torch.rand(BATCH, SLOTS, VECTOR_DIM)
    found = []
    for gradient in (critic.gradient, partial(Critic.gradient, critic)):
        critic.zero_grad()
        value = gradient(critic.embed(images), between, present)
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
    images, real, fake, present, mix = critic_batch(batch=3)
    between = mix[..., None] * real + (1 - mix[..., None]) * fake
    slope = central_difference(lambda: critic.score(critic.embed(images), between, present).sum(), between)
    _, (_, penalty) = critic_losses(critic, images, real, fake, present, mix, PENALTY_WEIGHT)
    assert penalty.item() == pytest.approx(((slope.norm(dim=(1, 2)) - 1) ** 2).mean().item(), rel=1e-7)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("kind", CRITICS)
def test_gradient_of_the_critic_loss_is_that_of_finite_differences(kind: str):
    _, critic = make_networks(kind)
    batch, weight = critic_batch(batch=3), torch.tensor([0.2, 1.0, 1.8])

    def loss() -> torch.Tensor:
        return (weight * critic_losses(critic, *batch, PENALTY_WEIGHT)[0]).mean()

    loss().backward()
    for name in ("trunk.project.bias", "second.bias"):
        parameter = critic.get_parameter(name)
        slope = central_difference(loss, parameter)
        assert parameter.grad is not None and parameter.grad.abs().max() > 0
        assert torch.allclose(parameter.grad, slope, rtol=1e-6, atol=1e-8), name


@pytest.mark.parametrize("kind", CRITICS)
def test_zero_gradient_by_the_vector_gives_no_nan(kind: str):
    _, critic = make_networks(kind)
    with torch.no_grad():
        critic.get_parameter("from_vector.weight").zero_()
    losses, (_, penalty) = critic_losses(critic, *critic_batch(), PENALTY_WEIGHT)
    losses.mean().backward()
    assert penalty == 1  # (0 - 1)²
    assert all(p.grad is not None and p.grad.isfinite().all() for p in critic.parameters())


@pytest.mark.parametrize("kind", CRITICS)
def test_what_is_in_an_empty_slot_does_not_matter(kind: str):
    generator, critic = make_networks(kind)
    images, real, fake, present, mix = critic_batch()
    others = [torch.where(present[..., None] > 0, each, torch.randn_like(each)) for each in (real, fake)]
    before, after = (
        critic_losses(critic, images, *pair, present, mix, PENALTY_WEIGHT)[0]
        for pair in ((real, fake), others)
    )
    assert torch.equal(before, after)
    q = generator.log_probabilities(generator(images, torch.randn(BATCH, 4)))[:, None]
    emoji = torch.randint(0, VOCABULARY, (BATCH, SLOTS))
    other = torch.where(present > 0, emoji, torch.randint(0, VOCABULARY, (BATCH, SLOTS)))
    nll, same = (negative_log_likelihood(q, each, present) for each in (emoji, other))
    assert torch.equal(nll, same)


@pytest.mark.parametrize("kind", CRITICS)
def test_the_order_of_the_emojis_does_not_matter_but_their_number_does(kind: str):
    _, critic = make_networks(kind)
    images, real, _, present, _ = critic_batch()
    embedded = critic.embed(images)
    score = critic.score(embedded, real, present)
    assert torch.allclose(critic.score(embedded, real.flip(1), present.flip(1)), score, atol=1e-6)
    double, there = real.repeat(1, 2, 1), present.repeat(1, 2)
    assert (critic.score(embedded, double, there) - score).abs().min() > 1e-5


def small_vocabulary(kind: str) -> tuple[torch.Tensor, Critic, torch.Tensor, torch.Tensor]:
    """An image, a critic, vectors of 4 emojis and log q [1, 4], far from uniform; in float64."""
    _, critic = make_networks(kind)
    torch.manual_seed(2)
    image, vectors = torch.rand(1, 3, SIZE, SIZE), torch.randn(4, VECTOR_DIM)
    return image, critic, vectors, (2 * torch.randn(1, 4)).log_softmax(dim=1).requires_grad_()


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("kind", CRITICS)
@pytest.mark.parametrize("number", [1, 2, 3])
def test_the_expectation_over_one_slot_has_the_gradient_of_that_over_all(kind: str, number: int):
    """Against the enumeration of all reactions: n Σ_e ∇q(e) D(e, the others as drawn) is unbiased."""
    image, critic, vectors, log_q = small_vocabulary(kind)
    every = torch.cartesian_prod(*[torch.arange(4)] * number).view(-1, number)
    images, present = image.expand(len(every), -1, -1, -1), torch.ones(every.shape)
    scores = critic.score(critic.embed(images), vectors[every], present).detach()
    probability = log_q[0][every].sum(dim=1).exp()
    expected = (probability * scores).sum()
    (whole,) = torch.autograd.grad(expected, log_q)
    found = expected_scores(critic, images, log_q.expand(len(every), -1), vectors, every, present)
    value = (probability.detach() * found).sum()
    (of_one,) = torch.autograd.grad(number * value, log_q)
    q = log_q.detach().exp()  # along which all of q grows, which a sum of 1 does not let it
    project = [each - q * each.sum() for each in (whole, of_one)]
    assert torch.allclose(*project, rtol=1e-10, atol=1e-12)
    assert torch.allclose(value, expected) and whole.abs().max() > 1e-3


def test_emojis_are_drawn_from_q():
    torch.manual_seed(0)
    log_q = (3 * torch.randn(1, VOCABULARY)).log_softmax(dim=1)
    drawn = draw(log_q, torch.rand(1, 5000))
    counts = torch.bincount(drawn[0], minlength=VOCABULARY)
    statistic = ((counts - 5000 * log_q[0].exp()) ** 2 / (5000 * log_q[0].exp())).sum()
    assert chi2.sf(statistic.item(), VOCABULARY - 1) > 0.001


def test_the_largest_uniform_number_draws_an_emoji_of_the_vocabulary():
    log_q = torch.randn(500, VOCABULARY).log_softmax(dim=1)
    assert draw(log_q, torch.full((500, 1), 1 - 2**-24)).max() < VOCABULARY


def test_an_emoji_of_probability_zero_is_never_drawn():
    q = torch.zeros(2, VOCABULARY)
    q[:, 3] = 1
    assert draw(q.log(), torch.tensor([[0], [1 - 2**-24]])).tolist() == [[3], [3]]


@pytest.mark.usefixtures("float64")
def test_the_likelihood_is_the_mean_over_latents_of_products():
    torch.manual_seed(0)
    log_q = torch.randn(1, 5, VOCABULARY).log_softmax(dim=2)
    emoji, present = torch.tensor([[2, 4, 4]]), torch.tensor([[1.0, 0, 1]])
    expected = -(log_q[0, :, 2].exp() * log_q[0, :, 4].exp()).mean().log()
    assert torch.allclose(negative_log_likelihood(log_q, emoji, present), expected)
    assert negative_log_likelihood(log_q, emoji, torch.zeros(1, 3)).abs() < 1e-12


def test_the_use_of_a_latent_is_0_where_it_is_ignored_and_its_entropy_where_it_decides_all():
    ignored = torch.randn(3, 1, VOCABULARY).log_softmax(dim=2).expand(-1, 4, -1)
    assert latent_use(ignored).abs() < 1e-6
    decides = torch.log(torch.eye(VOCABULARY)[None, :4].clamp(min=1e-30))
    assert latent_use(decides).item() == pytest.approx(math.log(4), rel=1e-5)


@pytest.mark.parametrize("kind", CRITICS)
def test_score_all_is_the_score_of_every_reaction(kind: str):
    generator, critic = make_networks(kind)
    images, others, _, present, _ = critic_batch(batch=5)
    embedded = critic.embed(images)
    for slots in (1, SLOTS):
        rest = others[:, :slots], present[:, :slots]
        expected = [critic.score(embedded, with_first(rest[0], v), rest[1]) for v in generator.vectors]
        here = rest[1][:, 0] > 0  # with an emoji in the first slot, which can be another
        found = critic.score_all(embedded, generator.vectors, *rest)[here]
        assert torch.allclose(found, torch.stack(expected, dim=1)[here], atol=1e-6)


@pytest.mark.parametrize("kind", CRITICS)
def test_gradient_by_the_vector_differs_between_images(kind: str):
    _, critic = make_networks(kind)
    vectors = torch.randn(1, 1, VECTOR_DIM).expand(2, -1, -1).clone().requires_grad_()
    embedded = critic.embed(100 * torch.randn(2, 3, SIZE, SIZE))
    scores = critic.score(embedded, vectors, torch.ones(2, 1))
    (gradient,) = torch.autograd.grad(scores.sum(), vectors)
    assert (gradient[0] - gradient[1]).abs().max() > 1e-3 * gradient.abs().max()


def test_the_generator_loss_leaves_no_gradients_in_a_frozen_critic():
    generator, critic = make_networks("projection", "free")
    images, *_ = critic_batch()
    with frozen(critic):
        output = generator(images, torch.randn(BATCH, 4))[:, None]
        free_scores(critic, images, output, torch.ones(BATCH, 1)).sum().backward()
    assert all(p.grad is None and p.requires_grad for p in critic.parameters())
    assert all(p.grad is not None for p in generator.parameters())

"""One step of training: ours beside the plain loop that people copy, on the same networks. Prints JSON lines.

    python benchmarks/step.py                          # a GPU: batches of 256, 1024 and 4096
    python benchmarks/step.py --batches 64,256         # on a CPU

The batches lie on the device, so that nothing is measured but the step. The plain loop has three forwards
through whole networks, a double backward, TF32 where the device has it, and unfused Adam. Beside both, the
step of the recipe `reactions`, of reactions of one to three emojis. A number is the median of five rounds,
which all take in turn, in tuples or reactions that the critic is trained on in a second.
"""

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import torch

from emojigan.datasets.stream.reader import Batch
from emojigan.trainer.config import Config, resolve
from emojigan.trainer.model.augment import augment
from emojigan.trainer.model.networks import Generator, make_critic
from emojigan.trainer.runtime.captured import WARM_UP
from emojigan.trainer.runtime.ranks import start
from emojigan.trainer.training.step import build, set_learning_rate, train_step, update_average

EMOJIS, VECTOR_DIM, SIZE, ROUNDS = 460, 300, 64, 5
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", default="256,1024,4096" if DEVICE.type == "cuda" else "64,256")
    parser.add_argument("--steps", type=int, default=20 if DEVICE.type == "cuda" else 1, help="of a round")
    arguments = parser.parse_args()
    for batch_size in map(int, arguments.batches.split(",")):
        config = Config.model_validate({"data": {"batch_size": batch_size}})
        of_reactions = resolve("reactions", None, {"batch_size": batch_size})
        steps = {"plain": plain(config), "ours": ours(config), "reactions": ours(of_reactions)}
        speeds = measure(steps, config, arguments.steps)
        ratio = round(speeds["ours"] / speeds["plain"], 2)
        print(
            json.dumps({"batch_size": batch_size, "device": str(DEVICE), **speeds, "ratio": ratio}),
            flush=True,
        )


def measure(steps: dict[str, Callable[[], object]], config: Config, number: int) -> dict[str, int]:
    """Tuples a second of each, median of the rounds, which they take in turn."""
    for step in steps.values():
        for _ in range(WARM_UP + 1 if DEVICE.type == "cuda" else 1):  # compiles, captures, warms up
            step()
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(ROUNDS):
        for name, step in steps.items():
            _wait()
            begun = time.perf_counter()
            for _ in range(number):
                step()
            _wait()
            times[name].append((time.perf_counter() - begun) / number)
    tuples = config.optimizer.num_critic_steps * config.data.batch_size
    return {name: round(tuples / statistics.median(each)) for name, each in times.items()}


def ours(config: Config) -> Callable[[], object]:
    """The step of `emojigan train`, its average and its learning rate."""
    inputs: Any = SimpleNamespace(
        train=SimpleNamespace(manifest=SimpleNamespace(image_size=SIZE)),
        vectors=torch.randn(EMOJIS, VECTOR_DIM),
        ids=torch.arange(EMOJIS),
        tuple_weights=torch.ones(EMOJIS),
    )
    training, stream, numbers = build(config, inputs, start(config)), batches(config), itertools.count()

    def step() -> None:
        number = next(numbers)
        # As it is where nobody asks for more.
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        set_learning_rate(training, number)
        train_step(training, stream, 6 * number)
        update_average(training, number)

    return step


def plain(config: Config) -> Callable[[], object]:
    """The same objective as it is usually written."""
    settings, rows = config.optimizer, config.data.batch_size
    generator = Generator(config.model, torch.randn(EMOJIS, VECTOR_DIM), SIZE).to(DEVICE)
    critic = make_critic(config.model, VECTOR_DIM, SIZE).to(DEVICE)
    adams = [
        torch.optim.Adam(each.parameters(), settings.learning_rate, (settings.beta1, settings.beta2))
        for each in (critic, generator)
    ]
    stream = batches(config)

    one = torch.ones(rows, 1, device=DEVICE)  # emoji in each reaction

    def score(images: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        return critic.score(critic.embed(images), vectors[:, None], one)

    def seen() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        batch = next(stream)
        images = augment(batch.images, torch.rand(rows, 5, device=DEVICE))
        latent = torch.randn(rows, config.model.latent_dim, device=DEVICE)
        return images, batch.emoji, generator.log_probabilities(generator(images, latent))

    def step() -> None:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        for _ in range(settings.num_critic_steps):
            with torch.no_grad():
                images, emoji, log_q = seen()
                fake = generator.vectors[torch.multinomial(log_q.exp(), 1).squeeze(1)]
            real, mix = generator.vectors[emoji], torch.rand(rows, 1, device=DEVICE)
            between = (mix * real + (1 - mix) * fake).requires_grad_()
            (gradient,) = torch.autograd.grad(score(images, between).sum(), between, create_graph=True)
            penalty = (gradient.norm(dim=1) - 1) ** 2
            loss = score(images, fake) - score(images, real) + config.objective.penalty_weight * penalty
            adams[0].zero_grad()
            loss.mean().backward()
            adams[0].step()
        images, emoji, log_q = seen()
        with torch.no_grad():
            scores = critic.score_all(
                critic.embed(images), generator.vectors, generator.vectors[emoji][:, None], one
            )
        nll = -log_q.gather(1, emoji[:, None]).squeeze(1)
        adams[1].zero_grad()
        (config.objective.nll_weight * nll - (log_q.exp() * scores).sum(1)).mean().backward()
        adams[1].step()

    return step


def batches(config: Config) -> Iterator[Batch]:
    """Some batches, again and again."""
    rows = config.data.batch_size
    made = [
        Batch(
            torch.randint(0, 256, (rows, SIZE, SIZE, 3), dtype=torch.uint8, device=DEVICE).permute(
                0, 3, 1, 2
            ),
            _emojis(config, rows),
        )
        for _ in range(6)
    ]
    return itertools.cycle(made)


def _emojis(config: Config, rows: int) -> torch.Tensor:
    """Positions of tuples [rows], or of reactions of one to three emojis [rows, 3]."""
    if config.data.unit == "tuple":
        return torch.randint(0, EMOJIS, (rows,), device=DEVICE)
    emoji = torch.randint(0, EMOJIS, (rows, 3), device=DEVICE)
    number = torch.randint(1, 4, (rows, 1), device=DEVICE)
    return torch.where(torch.arange(3, device=DEVICE) < number, emoji, -1)


def _wait() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()

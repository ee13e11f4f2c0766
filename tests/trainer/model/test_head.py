"""What is computed once for an image and once for a latent is what the generator says of each pair."""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from emojigan.trainer.config import ModelConfig
from emojigan.trainer.model.head import Head
from emojigan.trainer.model.networks import Generator

IMAGES, LATENTS = 3, 7


def make(output: str, vocabulary: int, **settings) -> Generator:
    """With a bias, a residual and weights as a trained one has them: away from their beginnings."""
    sizes = {"trunk_width": 4, "feature_dim": 8, "hidden_dim": 40, "latent_dim": 6, "latent_scale": 0.7}
    config = ModelConfig.model_validate({"output": output, **sizes, **settings})
    generator = Generator(config, torch.randn(vocabulary, 12), 16).requires_grad_(False)
    for parameter in generator.parameters():
        parameter.add_(torch.randn_like(parameter) / 4)
    return generator


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31), st.sampled_from([2, 5, 17, 300]), st.booleans(), st.booleans())
@example(159278719, 300, True, False)  # in float32 its logits are rounded too much
def test_distributions_are_those_of_each_pair(seed: int, vocabulary: int, bias: bool, residual: bool):
    torch.manual_seed(seed)
    generator = make("tied", vocabulary, emoji_bias=bias, emoji_residual=residual).double()
    head = Head.of(generator, tied=True)
    assert len(head.to_logits) == (1 if vocabulary <= 17 else 2)  # by way of the vector where that costs less
    features, latents = torch.randn(IMAGES, 8).double(), torch.randn(LATENTS, 6).double()
    q = head.said(features, latents)
    for image in range(IMAGES):
        for latent in range(LATENTS):
            pair = generator.head(features[image, None], latents[latent, None])
            expected = generator.log_probabilities(pair)[0].exp()
            assert (q[image, latent] - expected).abs().max() < 1e-6


def test_a_free_output_says_the_nearest_emoji_of_each_pair():
    torch.manual_seed(0)
    generator = make("free", 50)
    features, latents = torch.randn(IMAGES, 8), torch.randn(LATENTS, 6)
    q = Head.of(generator, tied=False).said(features, latents)
    output = generator.head(features[:, None].expand(-1, LATENTS, -1), latents.expand(IMAGES, -1, -1))
    assert torch.equal(q.argmax(dim=-1), generator.nearest(output))
    assert (q.sum(dim=-1) == 1).all() and (q.max(dim=-1).values == 1).all()


@pytest.mark.parametrize("tied", [True, False])
def test_what_is_said_of_an_image_does_not_depend_on_the_others(tied: bool):
    torch.manual_seed(0)
    head = Head.of(make("tied" if tied else "free", 50), tied=tied)
    features, latents = torch.randn(IMAGES, 8), torch.randn(LATENTS, 6)
    alone = torch.cat([head.said(each, latents) for each in features.split(1)])
    assert torch.allclose(head.said(features, latents), alone, atol=1e-6)

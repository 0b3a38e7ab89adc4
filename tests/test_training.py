"""Lesson 03: the network, the losses, the average and the loop, against independent oracles."""

import copy
import functools
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.models.embeddings import get_timestep_embedding
from scipy.signal import correlate2d
from torch import Tensor, nn

from course.checks.engine import judge_answer
from course.checks.training import RESIDUAL_BLOCK, TRAIN, UNET
from course.forward_process import alpha_bars_from_betas, cosine_schedule, linear_schedule, q_sample
from course.training import (
    ResidualBlock,
    SelfAttention,
    TrainState,
    UNet,
    batch_indices,
    ema_update,
    learning_rate,
    mean_loss,
    own_share,
    simple_loss,
    step_generator,
    timestep_embedding,
    train,
    v_loss,
    v_target,
)

ALPHA_BARS = alpha_bars_from_betas(cosine_schedule())
Module = TypeVar("Module", bound=nn.Module)
Predict = Callable[[Tensor, Tensor], Tensor]


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def randomised(module: Module, seed: int = 0) -> Module:
    """The module with every weight drawn anew, those that start at zero too."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) / p[0].numel() ** 0.5)
    return module


# --- The network ------------------------------------------------------------------------------


@pytest.mark.parametrize(("dim", "max_period"), [(2, 10_000), (32, 10_000), (128, 500)])
def test_embedding_is_diffusers(dim: int, max_period: int) -> None:
    t = torch.arange(1000)
    theirs = get_timestep_embedding(
        t, dim, flip_sin_to_cos=False, downscale_freq_shift=0, max_period=max_period
    )
    torch.testing.assert_close(timestep_embedding(t, dim, max_period), theirs, rtol=0, atol=1e-5)


def test_embeddings_of_different_steps_differ() -> None:
    embeddings = timestep_embedding(torch.arange(1000), 128)
    distances = torch.cdist(embeddings, embeddings) + 100 * torch.eye(1000)
    assert distances.min() > 0.5


def test_embedding_of_an_odd_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"dim is even .* not 7"):
        timestep_embedding(torch.tensor([1]), 7)


def silu(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x))


def group_norm(x: np.ndarray, norm: nn.GroupNorm) -> np.ndarray:
    """A group norm of one image (c, h, w), a group at a time."""
    out = np.empty_like(x)
    size = len(x) // norm.num_groups
    for g in range(0, len(x), size):
        group = x[g : g + size]
        out[g : g + size] = (group - group.mean()) / np.sqrt(group.var() + norm.eps)
    scale, shift = norm.weight.detach().numpy(), norm.bias.detach().numpy()
    return out * scale[:, None, None] + shift[:, None, None]


def convolve(x: np.ndarray, conv: nn.Module) -> np.ndarray:
    """A convolution of one image (c, h, w) that keeps its size."""
    kernels, shift = (p.detach().numpy() for p in conv.parameters())
    return np.stack([
        sum(correlate2d(plane, k, mode="same") for plane, k in zip(x, kernel, strict=True)) + b
        for kernel, b in zip(kernels, shift, strict=True)
    ])  # fmt: skip


@pytest.mark.parametrize(("c_in", "c_out"), [(8, 8), (8, 16), (16, 8)])
def test_residual_block_by_numpy_and_scipy(c_in: int, c_out: int) -> None:
    block = randomised(ResidualBlock(c_in, c_out, 6)).double()
    x, emb = (normal(*shape, dtype=torch.float64) for shape in ((2, c_in, 4, 5), (2, 6)))
    outputs = block(x, emb).detach().numpy()
    for image, told, output in zip(x.numpy(), emb.numpy(), outputs, strict=True):
        h = convolve(silu(group_norm(image, block.norm1)), block.conv1)
        projected = silu(told) @ block.project.weight.detach().numpy().T
        h = h + (projected + block.project.bias.detach().numpy())[:, None, None]
        h = convolve(silu(group_norm(h, block.norm2)), block.conv2)
        shortcut = image if c_in == c_out else convolve(image, block.shortcut)
        np.testing.assert_allclose(output, h + shortcut, atol=1e-10)


@pytest.mark.parametrize(("channels", "heads"), [(8, 1), (16, 4), (24, 3)])
def test_attention_is_pytorch_multihead_attention(channels: int, heads: int) -> None:
    ours = randomised(SelfAttention(channels, heads))
    theirs = nn.MultiheadAttention(channels, heads, batch_first=True)
    theirs.load_state_dict({
        "in_proj_weight": ours.qkv.weight.flatten(1),
        "in_proj_bias": ours.qkv.bias,
        "out_proj.weight": ours.out.weight.flatten(1),
        "out_proj.bias": ours.out.bias,
    })  # fmt: skip
    x = normal(3, channels, 4, 5)
    rows = ours.norm(x).flatten(2).transpose(1, 2)
    mixed, _ = theirs(rows, rows, rows)
    expected = x + mixed.transpose(1, 2).reshape(x.shape)
    torch.testing.assert_close(ours(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("in_channels", [1, 3])
@pytest.mark.parametrize("channels", [(8, 16), (16, 8)])
@pytest.mark.parametrize(("patch", "size"), [(1, (5, 8)), (2, (14, 12)), (4, (12, 20))])
def test_unet_keeps_the_shape(
    in_channels: int, channels: tuple[int, int], patch: int, size: tuple[int, int]
) -> None:
    network = UNet(in_channels, channels, emb_dim=8, patch=patch)
    x = normal(2, in_channels, *size)
    assert network(x, torch.tensor([0, 999])).shape == x.shape


def test_unet_of_the_course_has_the_size_that_its_card_says() -> None:
    assert sum(p.numel() for p in UNet().parameters()) == 438_372


def test_an_untrained_block_is_its_shortcut() -> None:
    block = ResidualBlock(8, 16, 4)
    x, emb = normal(2, 8, 5, 5), normal(2, 4)
    added = block(x, emb) - block.shortcut(x)
    torch.testing.assert_close(added, added[:1, :, :1, :1].expand_as(added))


def test_an_untrained_network_does_not_look_at_its_input() -> None:
    network = UNet(channels=(8, 16))
    out = network(normal(3, 1, 8, 8), torch.tensor([0, 500, 999]))
    # One constant for each of the four places in a patch.
    torch.testing.assert_close(out, out[:1, :, :2, :2].repeat(3, 1, 4, 4))
    assert out.abs().max() < 0.2


def test_gradients_reach_every_parameter() -> None:
    network = randomised(UNet(channels=(16, 32), emb_dim=16))
    network(normal(2, 1, 8, 8), torch.tensor([3, 700])).square().mean().backward()
    sizes = {k: 0 if p.grad is None else p.grad.norm() for k, p in network.named_parameters()}
    # Rounding alone leaves about 1e-8; the bias of the keys is taken out again by the softmax.
    assert [k for k, size in sizes.items() if size < 1e-4] == []
    bias = dict(network.named_parameters())["attention.qkv.bias"]
    assert bias.grad is not None
    assert bias.grad[32:64].norm() < 1e-6


def test_each_image_of_a_batch_is_on_its_own() -> None:
    network = randomised(UNet(channels=(8, 16), emb_dim=16))
    xt, t = normal(3, 1, 8, 8), torch.tensor([3, 700, 20])
    alone = torch.cat([network(xt[i : i + 1], t[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(network(xt, t), alone, rtol=1e-4, atol=1e-5)


# --- The losses -------------------------------------------------------------------------------


def gaussian_toy(t: int) -> tuple[float, float, Predict]:
    """For data N(m, s²): m, s, and the noise predictor E[ε | x_t], the best there is."""
    m, s, alpha_bar = 0.5, 0.4, ALPHA_BARS[t].double()
    variance = alpha_bar * s**2 + 1 - alpha_bar

    def best(xt: Tensor, _: Tensor) -> Tensor:
        return (1 - alpha_bar).sqrt() / variance * (xt - alpha_bar.sqrt() * m)

    return m, s, best


def adjusted(predict: Predict, scale: float, shift: float, xt: Tensor, t: Tensor) -> Tensor:
    return scale * predict(xt, t) + shift


@pytest.mark.parametrize("t", [100, 200, 500, 800, 990])
def test_simple_loss_has_its_minimum_where_gaussian_data_say(t: int) -> None:
    m, s, best = gaussian_toy(t)
    n, alpha_bar = 200_000, ALPHA_BARS[t].double()
    x0 = m + s * normal(n, 1, 1, 1, dtype=torch.float64)
    eps = normal(n, 1, 1, 1, seed=1, dtype=torch.float64)
    steps = torch.full((n,), t)
    loss = simple_loss(best, x0, steps, eps, ALPHA_BARS.double()).item()
    closed = (alpha_bar * s**2 / (alpha_bar * s**2 + 1 - alpha_bar)).item()
    # The mean of n squares of a Gaussian has the relative error √(2/n).
    assert loss == pytest.approx(closed, rel=5 * (2 / n) ** 0.5)
    for scale, shift in [(1.1, 0.0), (0.9, 0.0), (1.0, 0.1), (1.0, -0.1)]:
        worse = functools.partial(adjusted, best, scale, shift)
        assert simple_loss(worse, x0, steps, eps, ALPHA_BARS).item() > loss


def test_simple_loss_by_hand() -> None:
    one = torch.ones(1, 1, 1, 1)
    alpha_bars = torch.tensor([0.9, 0.64])
    # x_t = 0.8 · 1 + 0.6 · 2 = 2; the guess x_t/2 = 1 is off by 1.
    loss = simple_loss(lambda xt, t: xt / 2, one, torch.tensor([1]), 2 * one, alpha_bars)
    torch.testing.assert_close(loss, torch.tensor(1.0))


@pytest.mark.parametrize("schedule", [linear_schedule(), cosine_schedule()])
def test_v_is_diffusers_velocity(schedule: Tensor) -> None:
    scheduler = DDPMScheduler(trained_betas=schedule.numpy())
    x0, eps, t = (
        normal(6, 3, 4, 4),
        normal(6, 3, 4, 4, seed=1),
        torch.tensor([0, 1, 99, 500, 998, 999]),
    )
    theirs = scheduler.get_velocity(x0, eps, t)  # type: ignore[attr-defined]
    ours = v_target(x0, t, eps, alpha_bars_from_betas(schedule))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_v_and_xt_are_x0_and_eps_turned() -> None:
    x0, eps = (normal(1000, 1, 2, 2, seed=i, dtype=torch.float64) for i in (0, 1))
    t = torch.arange(1000)
    alpha_bars = ALPHA_BARS.double()
    a = alpha_bars.reshape(-1, 1, 1, 1)
    xt, v = q_sample(x0, t, eps, alpha_bars), v_target(x0, t, eps, alpha_bars)
    torch.testing.assert_close(xt**2 + v**2, x0**2 + eps**2)
    torch.testing.assert_close(a.sqrt() * xt - (1 - a).sqrt() * v, x0)
    torch.testing.assert_close((1 - a).sqrt() * xt + a.sqrt() * v, eps)


@pytest.mark.parametrize("t", [0, 400, 900])
def test_v_loss_is_the_eps_loss_over_alpha_bar(t: int) -> None:
    x0, eps = (normal(4, 1, 3, 3, seed=i, dtype=torch.float64) for i in (0, 1))
    steps, alpha_bars = torch.full((4,), t), ALPHA_BARS.double()
    a = alpha_bars[t]

    def guess(xt: Tensor, _: Tensor) -> Tensor:
        return torch.tanh(xt)

    def guess_as_v(xt: Tensor, _: Tensor) -> Tensor:
        x0_hat = (xt - (1 - a).sqrt() * guess(xt, _)) / a.sqrt()
        return a.sqrt() * guess(xt, _) - (1 - a).sqrt() * x0_hat

    in_eps = simple_loss(guess, x0, steps, eps, alpha_bars)
    in_v = v_loss(guess_as_v, x0, steps, eps, alpha_bars)
    torch.testing.assert_close(in_v, in_eps / a)


@pytest.mark.parametrize("loss", [simple_loss, v_loss])
def test_a_loss_refuses_a_bad_t(loss: Callable[..., Tensor]) -> None:
    x = normal(2, 1, 4, 4)
    for t, error, words in [
        (torch.tensor([0.5, 1.0]), TypeError, "int64"),
        (torch.tensor([0, 1000]), ValueError, r"0…999"),
        (torch.tensor([0]), ValueError, r"shape \(2,\)"),
    ]:
        with pytest.raises(error, match=words):
            loss(lambda xt, _: xt, x, t, x, ALPHA_BARS)


# --- The average ------------------------------------------------------------------------------


def test_ema_has_its_closed_form() -> None:
    start, model = randomised(nn.Linear(3, 2)), randomised(nn.Linear(3, 2), seed=1)
    average = copy.deepcopy(start)
    for _ in range(50):
        ema_update(average, model, 0.9)
    kept = 0.9**50
    expected = kept * start.weight + (1 - kept) * model.weight
    torch.testing.assert_close(average.weight, expected)


def test_ema_of_a_series_is_its_weighted_sum() -> None:
    average = randomised(nn.Linear(2, 1))
    series = [randomised(nn.Linear(2, 1), seed=i) for i in range(1, 11)]
    weights = [0.8**10, *(0.2 * 0.8 ** (10 - i) for i in range(1, 11))]
    assert sum(weights) == pytest.approx(1)
    terms = [average.weight.clone(), *(m.weight for m in series)]
    expected = sum((w * x for w, x in zip(weights, terms, strict=True)), torch.zeros(1, 2))
    for model in series:
        ema_update(average, model, 0.8)
    torch.testing.assert_close(average.weight, expected)


def test_ema_copies_buffers_and_tracks_no_gradients() -> None:
    average, model = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    model(normal(20, 3))
    ema_update(average, model, 0.99)
    kept, current = dict(average.named_buffers()), dict(model.named_buffers())
    assert torch.equal(kept["running_mean"], current["running_mean"])
    assert kept["num_batches_tracked"] == 1
    assert average.weight.grad_fn is None


def test_ema_refuses_another_architecture() -> None:
    with pytest.raises(ValueError, match="zip"):
        ema_update(nn.Linear(2, 2, bias=False), nn.Linear(2, 2), 0.9)


# --- What is random about a step ----------------------------------------------------------------


def test_a_step_draws_the_same_numbers_every_time_and_no_other_steps_numbers() -> None:
    firsts = {
        (seed, step): torch.rand(2, generator=step_generator(seed, step), dtype=torch.float64)
        for seed in range(20)
        for step in range(-5, 200)
    }
    again = torch.rand(2, generator=step_generator(7, 42), dtype=torch.float64)
    assert torch.equal(firsts[7, 42], again)
    assert len({tuple(x.tolist()) for x in firsts.values()}) == len(firsts)
    values = torch.stack(list(firsts.values()))
    assert values.mean().item() == pytest.approx(0.5, abs=0.02)
    assert torch.corrcoef(torch.stack([values[:-1, 0], values[1:, 0]]))[0, 1].abs() < 0.06


@pytest.mark.parametrize(("n", "batch_size"), [(10, 4), (7, 7), (5, 12), (60_000, 32)])
def test_every_epoch_is_a_permutation(n: int, batch_size: int) -> None:
    steps = 3 * n // batch_size + 1
    stream = torch.cat([batch_indices(n, batch_size, step) for step in range(steps)])
    epochs = [stream[e * n : (e + 1) * n] for e in range(3)]
    for epoch in epochs:
        assert torch.equal(epoch.sort().values, torch.arange(n))
    assert not torch.equal(epochs[0], epochs[1])


def test_a_batch_does_not_depend_on_where_a_run_starts() -> None:
    forwards = [batch_indices(10, 4, step, seed=3) for step in range(12)]
    backwards = [batch_indices(10, 4, step, seed=3) for step in reversed(range(12))]
    assert all(torch.equal(a, b) for a, b in zip(forwards, reversed(backwards), strict=True))
    other = torch.cat([batch_indices(10, 4, step, seed=4) for step in range(12)])
    assert not torch.equal(torch.cat(forwards), other)


def test_learning_rate_rises_then_falls_to_zero() -> None:
    rates = [learning_rate(i / 1000, 2e-3) for i in range(1001)]
    assert rates[0] == 0
    assert rates[10] == pytest.approx(1e-3)
    assert rates[20] == pytest.approx(2e-3) == max(rates)
    assert rates[1000] == pytest.approx(0, abs=1e-12)
    assert rates[510] == pytest.approx(1e-3)
    assert rates[20:] == sorted(rates[20:], reverse=True)
    assert learning_rate(0, 2e-3, warmup=0) == 2e-3


# --- The loop -----------------------------------------------------------------------------------


def tiny_state() -> TrainState:
    return TrainState.start(randomised(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3))))


def draw(step: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    x, y = torch.randn(2, 6, 3, generator=generator)
    return x, y


def loss_fn(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return (net(x) - 3 * y).square().mean()


def saved(state: TrainState) -> dict[str, Any]:
    """A copy of all that a checkpoint holds: what is trained later does not reach it."""
    parts = {k: getattr(state, k).state_dict() for k in ("model", "ema", "optimizer")}
    return copy.deepcopy({**parts, "step": state.step})


def loaded(parts: dict[str, Any]) -> TrainState:
    state = TrainState.start(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)))
    for k in ("model", "ema", "optimizer"):
        getattr(state, k).load_state_dict(parts[k])
    state.step = parts["step"]
    return state


def equal(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


@pytest.mark.parametrize("stop", [1, 3, 5])
def test_a_run_that_was_interrupted_goes_on_bit_for_bit(stop: int) -> None:
    whole = tiny_state()
    reports = list(train(whole, draw, loss_fn, steps=6, lr=0.1))

    first = tiny_state()
    walk = train(first, draw, loss_fn, steps=6, lr=0.1)
    before = [next(walk) for _ in range(stop)]
    second = loaded(saved(first))
    after = list(train(second, draw, loss_fn, steps=6, lr=0.1))

    assert before + after == reports
    assert equal(second.model, whole.model)
    assert equal(second.ema, whole.ema)
    assert [r.step for r in reports] == [1, 2, 3, 4, 5, 6]


def test_a_run_that_is_over_does_nothing() -> None:
    state = tiny_state()
    list(train(state, draw, loss_fn, steps=2))
    assert list(train(state, draw, loss_fn, steps=2)) == []
    assert state.step == 2


def test_the_average_warms_up_and_follows_every_step() -> None:
    state = tiny_state()
    average, model = state.ema.get_parameter("0.weight"), state.model.get_parameter("0.weight")
    expected = model.detach().clone()
    for k, _ in enumerate(train(state, draw, loss_fn, steps=8, lr=0.1, ema_decay=0.35)):
        decay = min(0.35, (1 + k) / (10 + k))
        expected = decay * expected + (1 - decay) * model.detach()
        torch.testing.assert_close(average, expected)
    assert not state.ema.training
    assert not any(p.requires_grad for p in state.ema.parameters())


def test_gradients_are_clipped_and_their_norm_reported() -> None:
    state = tiny_state()
    x, y = draw(0, step_generator(0, 0))
    gradients = torch.autograd.grad(loss_fn(state.model, x, y), list(state.model.parameters()))
    norm = torch.cat([g.flatten() for g in gradients]).norm().item()
    assert norm > 0.5
    report = next(train(state, draw, loss_fn, steps=3, clip=0.5))
    used = torch.cat([p.grad.flatten() for p in state.model.parameters() if p.grad is not None])
    assert report.grad_norm == pytest.approx(norm, rel=1e-5)
    assert used.norm().item() == pytest.approx(0.5, rel=1e-4)


def test_the_seed_decides() -> None:
    losses = [
        [r.loss for r in train(tiny_state(), draw, loss_fn, steps=3, seed=seed)]
        for seed in (0, 0, 1)
    ]
    assert losses[0] == losses[1] != losses[2]


def test_training_learns() -> None:
    def line(step: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        x = torch.randn(32, 3, generator=generator)
        return x, x.flip(1) / 3

    state = TrainState.start(randomised(nn.Linear(3, 3)))
    losses = [r.loss for r in train(state, line, loss_fn, steps=300, lr=0.1)]
    assert losses[-1] < 1e-4 * losses[0]
    torch.testing.assert_close(state.ema.weight, torch.eye(3).flip(1), rtol=0, atol=0.02)


class OneOf:
    """What `accelerate` tells one of several processes."""

    def __init__(self, index: int, processes: int) -> None:
        self.process_index, self.num_processes = index, processes


def test_the_shares_of_all_processes_are_the_batch() -> None:
    x = normal(6, 2)
    shares = [own_share(x, OneOf(i, 3)) for i in range(3)]  # type: ignore[arg-type]
    assert torch.equal(torch.cat(shares), x)
    assert own_share(x, None) is x
    assert mean_loss(torch.tensor(2.5), None) == 2.5


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    with pytest.raises(ValueError, match="A batch of 6 does not divide by 4 processes"):
        own_share(normal(6, 2), OneOf(0, 4))  # type: ignore[arg-type]


# --- What the checks of classes and of the loop say -----------------------------------------------


def test_a_renamed_layer_is_named() -> None:
    class Renamed(ResidualBlock):
        def __init__(self, in_channels: int, out_channels: int, emb_dim: int) -> None:
            super().__init__(in_channels, out_channels, emb_dim)
            self.convolution = self.conv1
            del self.conv1

    verdict = judge_answer(RESIDUAL_BLOCK, Renamed)
    assert verdict.lines[-1] == "Your ResidualBlock has no weight `conv1.weight`: keep `__init__`."


def test_a_layer_too_many_is_named() -> None:
    class Larger(UNet):
        def __init__(self, in_channels=1, channels=(32, 64), emb_dim=128, patch=2) -> None:  # type: ignore[no-untyped-def]
            super().__init__(in_channels, channels, emb_dim, patch)
            self.extra = nn.Linear(1, 1)

    verdict = judge_answer(UNET, Larger)
    assert verdict.lines[-1].startswith("The weight `extra.weight` is not one of those given")


def test_a_class_that_is_no_module_is_explained() -> None:
    verdict = judge_answer(UNET, lambda **settings: None)
    assert verdict.lines[-1] == "UNet must stay a class of its own: an nn.Module."


def test_an_unwritten_method_is_not_done() -> None:
    class Half(UNet):
        def decode(self, skip1: Tensor, skip2: Tensor, h: Tensor, emb: Tensor) -> Tensor:
            raise NotImplementedError

    assert judge_answer(UNET, Half).state == "not done"


def test_a_loop_that_never_ends_is_stopped() -> None:
    def endless(
        state, draw, loss_fn, *, steps, lr=0, ema_decay=0, clip=0, seed=0, accelerator=None
    ):  # type: ignore[no-untyped-def]
        while True:
            draw(state.step, step_generator(seed, state.step))

    assert judge_answer(TRAIN, endless).lines[-2].startswith("Your loop draws on and on")

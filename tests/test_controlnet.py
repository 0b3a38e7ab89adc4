"""Lesson 08: the untrained is the base, the locked stays locked, and the edges are edges."""

import copy
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage
import torch
from torch import Tensor, nn

from course import recipes
from course.checks.controlnet import drawn, tiny_base, tiny_pair
from course.classifier_free_guidance import ConditionalUNet, cfg_eps_model
from course.controlnet import (
    DECODER,
    ControlNet,
    control_loss,
    controlled,
    controlled_eps_model,
    edge_f1,
    edges,
    freeze,
    load_base,
    load_controlnet,
    one_each,
    share_near,
    trainable_copy,
    zero_conv,
    zero_conv_gradient,
)
from course.data import mnist
from course.errors import CourseError
from course.forward_process import alpha_bars_from_betas, cosine_schedule
from course.recipes.controlnet import mnist_controlnet
from course.sampling import sample, to_eps
from course.training import TrainState, train
from course.weights import card, weights_dir

ALPHA_BARS = alpha_bars_from_betas(cosine_schedule())


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def some_edges(n: int = 3, size: int = 8) -> Tensor:
    return (normal(n, 1, size, size, seed=9) > 0).float()


def batch(n: int = 3, size: int = 8) -> tuple[Tensor, Tensor, Tensor]:
    return normal(n, 1, size, size), torch.arange(n) * 300, torch.arange(n)


# --- Edges, and how well they are kept -----------------------------------------------------------


def test_edges_are_what_dilation_adds() -> None:
    images = mnist("test")[0][:20]
    ink = images.numpy()[:, 0] > 0
    eight = np.ones((3, 3), dtype=bool)
    grown = np.stack([scipy.ndimage.binary_dilation(i, structure=eight) for i in ink])
    got = edges(images)
    assert torch.equal(got[:, 0], torch.from_numpy(grown & ~ink).float())
    assert got.dtype == images.dtype


def test_edges_touch_the_ink_and_never_lie_on_it() -> None:
    images = mnist("test")[0][:50]
    found = edges(images)
    assert found.sum() > 0
    assert not ((found == 1) & (images > 0)).any()
    assert edges(torch.full((1, 1, 5, 5), -1.0)).sum() == 0
    assert edges(torch.full((1, 1, 5, 5), 1.0)).sum() == 0


@pytest.mark.parametrize("tolerance", [0, 1, 2, 3])
def test_f1_by_the_chessboard_distance(tolerance: int) -> None:
    a, b = ((normal(6, 1, 12, 9, seed=s) > 1.3).float() for s in (1, 2))

    def within(these: np.ndarray, those: np.ndarray) -> float:
        away = scipy.ndimage.distance_transform_cdt(1 - those, metric="chessboard")
        return float((away[these == 1] <= tolerance).mean())

    for x, y, got in zip(a.numpy()[:, 0], b.numpy()[:, 0], edge_f1(a, b, tolerance), strict=True):
        p, r = within(x, y), within(y, x)
        assert got.item() == pytest.approx(0 if p + r == 0 else 2 * p * r / (p + r), abs=1e-6)


def test_f1_of_the_same_maps_is_1_and_the_order_does_not_matter() -> None:
    a, b = (edges(mnist("test")[0][i : i + 10]) for i in (0, 10))
    assert torch.equal(edge_f1(a, a, 0), torch.ones(10))
    torch.testing.assert_close(edge_f1(a, b), edge_f1(b, a))
    assert (edge_f1(a, b, 0) <= edge_f1(a, b, 1)).all()


def test_a_share_of_nothing_is_all_of_it() -> None:
    empty, line = torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)
    line[..., 2] = 1
    assert share_near(empty, line, 1).item() == 1
    assert share_near(line, empty, 1).item() == 0
    assert edge_f1(empty, line).item() == 0
    assert edge_f1(empty, empty).item() == 1


# --- Zero convolution ----------------------------------------------------------------------------


@pytest.mark.parametrize("zero", [True, False])
def test_the_gradient_by_hand_is_autograds(zero: bool) -> None:
    conv = zero_conv(3, 5).double()
    if not zero:
        drawn(conv, seed=4)
    x = normal(2, 3, 4, 6, dtype=torch.float64).requires_grad_()
    grad_out = normal(2, 5, 4, 6, seed=1, dtype=torch.float64)
    expected = torch.autograd.grad(conv(x), [*conv.parameters(), x], grad_out)
    got = zero_conv_gradient(x.detach(), conv.weight.detach(), grad_out)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    assert bool((got[2] == 0).all()) is zero
    assert (got[0] != 0).all()


def gradients(control: ControlNet, base: ConditionalUNet) -> dict[str, float]:
    """How large the gradients of a ControlNet's parts are after one loss."""
    xt, t, y = batch()
    loss = control_loss(control, base, xt.clamp(-1, 1), t, normal(3, 1, 8, 8, seed=5), y,
                        some_edges(), ALPHA_BARS)  # fmt: skip
    control.zero_grad()
    loss.backward()
    parts = {
        "exits": nn.ModuleList([control.out1, control.out2, control.out_middle]),
        "copy": control.twin,
        "entry": control.embed_condition[-1],
        "embedding": control.embed_condition[:-1],
    }

    def size(part: nn.Module) -> float:
        return sum(float(p.grad.abs().sum()) for p in part.parameters() if p.grad is not None)

    return {name: size(part) for name, part in parts.items()}


def test_learning_comes_in_through_the_exits() -> None:
    """Step by step, a layer learns once the zero convolutions behind it are no longer zero."""
    base = tiny_base()
    freeze(base)
    control = ControlNet(base)
    optimizer = torch.optim.SGD(control.parameters(), lr=0.1)
    moved = []
    for _ in range(3):
        moved.append({name for name, size in gradients(control, base).items() if size > 0})
        optimizer.step()
    assert moved[0] == {"exits"}
    assert moved[1] == {"exits", "copy", "entry"}
    assert moved[2] == {"exits", "copy", "entry", "embedding"}


# --- The lock and the copy -----------------------------------------------------------------------


def test_untrained_it_is_the_base_bit_for_bit() -> None:
    base = tiny_base()
    freeze(base)
    network = controlled(base, ControlNet(base), some_edges())
    assert torch.equal(network(*batch()), base(*batch()))


def test_untrained_it_is_the_shipped_base_bit_for_bit_under_guidance_too() -> None:
    base, condition = load_base(), edges(mnist("test")[0][:3])
    control = ControlNet(base).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    xt, t, y = batch(size=28)
    with torch.no_grad():
        ours = controlled_eps_model(base, control, condition, y, ALPHA_BARS, 2.0)(xt, t)
        theirs = cfg_eps_model(base, y, base.null, ALPHA_BARS, 2.0)(xt, t)
    assert torch.equal(ours, theirs)


def test_at_strength_0_it_is_the_base_bit_for_bit_trained_or_not() -> None:
    base, control = tiny_pair()
    condition = some_edges()
    full, none = (controlled(base, control, condition, s)(*batch()) for s in (1.0, 0.0))
    assert torch.equal(none, base(*batch()))
    assert (full - none).abs().max() > 0.01


def test_the_shipped_one_at_strength_0_is_its_base() -> None:
    base, control = load_controlnet()
    condition = edges(mnist("test")[0][:3])
    with torch.no_grad():
        none = controlled(base, control, condition, 0.0)(*batch(size=28))
        assert torch.equal(none, base(*batch(size=28)))


def test_training_leaves_the_locked_weights_bit_for_bit() -> None:
    made = recipes.recipe("mnist-controlnet")
    base = load_base()
    before = {k: x.clone() for k, x in base.state_dict().items()}
    state = TrainState.start(ControlNet(base))
    start = {k: x.clone() for k, x in state.model.state_dict().items()}

    def loss_fn(model: nn.Module, *drawn_: Tensor) -> Tensor:
        x0, t, eps, y, condition = (x[:4] for x in drawn_)
        return control_loss(model, base, x0, t, eps, y, condition, ALPHA_BARS)

    for _ in train(state, made.draw, loss_fn, steps=5, lr=1e-3):
        pass
    assert all(torch.equal(x, before[k]) for k, x in base.state_dict().items())
    assert all(p.grad is None for p in base.parameters())
    changed = [k for k, x in state.model.state_dict().items() if not torch.equal(x, start[k])]
    assert any(k.startswith("twin.") for k in changed)
    assert "out_middle.weight" in changed


def test_the_copy_has_the_bases_weights_and_none_of_its_memory() -> None:
    base = tiny_base()
    freeze(base)
    twin = trainable_copy(base)
    theirs = dict(base.named_parameters())
    for name, p in twin.named_parameters():
        assert torch.equal(p, theirs[name])
        assert p.data_ptr() != theirs[name].data_ptr()
        assert p.requires_grad
        assert not theirs[name].requires_grad
    left_out = {name.split(".")[0] for name in theirs} - {
        n.split(".")[0] for n in twin.state_dict()
    }
    assert left_out == set(DECODER)


def test_gradients_pass_through_the_locked_base_to_the_control() -> None:
    base, control = tiny_pair()
    controlled(base, control, some_edges())(*batch()).sum().backward()
    assert all(p.grad is not None for p in control.parameters())
    assert all(p.grad is None for p in base.parameters())


# --- Under guidance ------------------------------------------------------------------------------


def test_one_batched_call_is_the_two_calls_and_each_image_keeps_its_condition() -> None:
    base, control = tiny_pair()
    condition, (xt, t, y) = some_edges(), batch()
    got = controlled_eps_model(base, control, condition, y, ALPHA_BARS, 2.5, 0.7)(xt, t)
    for i in range(3):
        one = slice(i, i + 1)
        network = controlled(base, control, condition[one], 0.7)
        cond, uncond = (
            to_eps(network(xt[one], t[one], label), xt[one], t[one], ALPHA_BARS, "v")
            for label in (y[one], torch.tensor([base.null]))
        )
        torch.testing.assert_close(got[one], 2.5 * cond - 1.5 * uncond, rtol=1e-4, atol=1e-4)


def test_conditions_are_repeated_in_the_batchs_order() -> None:
    condition = torch.arange(2.0).reshape(2, 1, 1, 1)
    assert one_each(condition, 4).flatten().tolist() == [0, 1, 0, 1]
    assert one_each(condition, 2).flatten().tolist() == [0, 1]
    with pytest.raises(ValueError, match="2 conditions cannot be shared out over 3 images"):
        one_each(condition, 3)


# --- Beside diffusers ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def theirs() -> tuple[nn.Module, nn.Module]:
    """A small UNet of diffusers, and the ControlNet that diffusers makes from it."""
    from diffusers import ControlNetModel, UNet2DConditionModel

    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8, in_channels=1, out_channels=1, block_out_channels=(8, 16),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), layers_per_block=1,
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), cross_attention_dim=8,
        attention_head_dim=4, norm_num_groups=4,
    )  # fmt: skip
    control = ControlNetModel.from_unet(
        unet, conditioning_channels=1, conditioning_embedding_out_channels=(4, 8)
    )
    return unet, control


def is_zero(conv: nn.Module) -> bool:
    return all(bool((p == 0).all()) for p in conv.parameters()) and conv.bias is not None


def test_diffusers_has_zero_convolutions_in_the_same_places(
    theirs: tuple[nn.Module, nn.Module],
) -> None:
    _, control = theirs
    exits = [*control.controlnet_down_blocks, control.controlnet_mid_block]  # type: ignore[misc]
    entry = control.controlnet_cond_embedding.conv_out  # type: ignore[union-attr]
    assert all(is_zero(conv) for conv in [*exits, entry])
    assert all(conv.kernel_size == (1, 1) for conv in exits)  # type: ignore[union-attr]

    ours = ControlNet(tiny_base())
    assert all(is_zero(conv) for conv in [ours.out1, ours.out2, ours.out_middle])
    assert is_zero(ours.embed_condition[-1])


def test_diffusers_copies_the_way_down_and_starts_with_nothing(
    theirs: tuple[nn.Module, nn.Module],
) -> None:
    unet, control = theirs
    copied = dict(unet.named_parameters())
    same = [k for k, p in control.named_parameters() if k in copied]
    assert {k.split(".")[0] for k in same} >= {"conv_in", "down_blocks", "time_embedding"}
    assert all(torch.equal(dict(control.named_parameters())[k], copied[k]) for k in same)
    assert not any(k.startswith("up_blocks") for k, _ in control.named_parameters())
    down, middle = control(
        normal(2, 1, 8, 8),
        torch.tensor([3, 900]),
        normal(2, 4, 8),
        controlnet_cond=(normal(2, 1, 16, 16) > 0).float(),
        return_dict=False,
    )
    assert all(bool((x == 0).all()) for x in [*down, middle])


def test_diffusers_scales_what_is_added_as_strength_does(
    theirs: tuple[nn.Module, nn.Module],
) -> None:
    _, control = theirs
    trained = drawn(copy.deepcopy(control), seed=3)
    given = (normal(2, 1, 8, 8), torch.tensor([3, 900]), normal(2, 4, 8))
    seen = (normal(2, 1, 16, 16) > 0).float()
    full, half = (
        trained(*given, controlnet_cond=seen, conditioning_scale=s, return_dict=False)[1]
        for s in (1.0, 0.5)
    )
    torch.testing.assert_close(half, 0.5 * full)


# --- The recipe and the weights ------------------------------------------------------------------


def test_the_recipe_names_its_base_and_draws_outlines() -> None:
    made = recipes.recipe("mnist-controlnet")
    assert made.config == {"base": "mnist-cfg", "base_sha256": card("mnist-cfg")["sha256"]}
    x0, t, eps, y, condition = made.draw(0, torch.Generator().manual_seed(0))
    assert torch.equal(condition, edges(x0))
    assert 0.2 < (y == 10).float().mean() < 0.8
    assert eps.shape == x0.shape
    assert t.shape == y.shape == (made.batch_size,)


def test_a_recipe_of_few_pairs_uses_no_others() -> None:
    made = mnist_controlnet(pairs=10)
    first = {x.numpy().tobytes() for x in mnist("train")[0][:10]}
    seen = {x.numpy().tobytes() for s in range(3) for x in made.draw(s, torch.Generator())[0]}
    assert seen == first


def test_only_the_copy_is_shipped() -> None:
    control = ControlNet(load_base())
    assert not any(k.split(".")[1] in DECODER for k in control.state_dict())


def test_a_controlnet_of_another_base_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(weights_dir(), tmp_path / "weights")
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    load_controlnet()
    path = tmp_path / "weights" / "mnist-controlnet.json"
    about = json.loads(path.read_text(encoding="utf-8"))
    about["config"]["base_sha256"] = "0" * 64
    path.write_text(json.dumps(about), encoding="utf-8")
    with pytest.raises(CourseError, match="belong to another 'mnist-cfg'") as caught:
        load_controlnet()
    assert "\n" not in str(caught.value)
    assert "`python -m course train mnist-controlnet --publish`" in str(caught.value)


def test_the_shipped_one_follows_outlines() -> None:
    base, control = load_controlnet()
    digits, labels = (x[:8] for x in mnist("test"))
    noise, wanted = normal(8, 1, 28, 28), edges(digits)

    def f1(strength: float) -> float:
        eps_model = controlled_eps_model(base, control, wanted, labels, ALPHA_BARS, 1.0, strength)
        *_, x0 = sample(eps_model, noise, ALPHA_BARS, steps=10)
        return edge_f1(edges(x0), wanted).mean().item()

    assert f1(1.0) > 0.95
    assert f1(1.0) > f1(0.0) + 0.1

"""What lesson 10 measures with: distortions, hiddenness, memory, and a class's rankings."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from course.diffqrcoder import memory, ranking
from course.diffqrcoder.codes import PlacedCode
from course.diffqrcoder.distortions import DISTORTIONS, distort, homography, warped
from course.diffqrcoder.hiddenness import explained_variance
from course.diffqrcoder.memory import LiveStorages, Parts, Savings
from course.errors import CourseError
from course.qr_codes import make_code, render, scan


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


# --- Distortions ---------------------------------------------------------------------------------


def test_there_are_twelve() -> None:
    assert len(DISTORTIONS) == 12


@pytest.mark.parametrize("name", DISTORTIONS)
def test_a_distortion_is_seeded_and_a_batch_is_its_singles(name: str) -> None:
    images = rand(3, 3, 40, 40)
    before = images.clone()
    made = distort(images, name, 5)
    assert torch.equal(images, before)
    assert 0 <= made.min() <= made.max() <= 1
    torch.testing.assert_close(distort(images[1:2], name, 5), made[1:2], rtol=0, atol=1e-6)
    assert torch.equal(distort(images, name, 5), made)
    other = distort(images, name, 6)
    assert other.shape != made.shape or not torch.equal(other, made)


@pytest.mark.parametrize("name", DISTORTIONS)
def test_an_array_comes_back_as_an_array(name: str) -> None:
    image = rand(1, 3, 40, 40)
    array = image[0].permute(1, 2, 0).numpy().astype(np.float64)
    made = distort(array, name, 5)
    assert made.dtype == np.float64
    expected = distort(image, name, 5)[0].permute(1, 2, 0)
    np.testing.assert_allclose(made, expected.numpy(), atol=1e-6)
    assert torch.equal(distort(image[0].permute(1, 2, 0), name, 5), expected)


@pytest.mark.parametrize("name", DISTORTIONS)
def test_a_plain_code_survives_and_is_not_what_it_was(name: str) -> None:
    """Distortions that a black and white code does not survive would tell methods apart by luck."""
    image = render(make_code("https://example.com/", 3, "M"), 4, 5, 0.2, 0.8).expand(-1, 3, -1, -1)
    made = [distort(image, name, seed) for seed in range(3)]
    assert [scan(x)["zxing-cpp"] for x in made] == ["https://example.com/"] * 3
    assert all(x.shape != image.shape or (x - image).abs().mean() > 0.005 for x in made)


def test_what_cannot_be_distorted_is_named() -> None:
    with pytest.raises(ValueError, match=r"one of small, large, .*, not 'bluur'"):
        distort(rand(1, 3, 8, 8), "bluur")
    with pytest.raises(TypeError, match="floats"):
        distort(np.zeros((8, 8, 3), np.uint8), "blur")
    with pytest.raises(ValueError, match=r"\(b, 3, h, w\) or \(h, w, 3\), not \(1, 1, 8, 8\)"):
        distort(rand(1, 1, 8, 8), "blur")
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        distort(rand(1, 3, 8, 8) - 0.5, "blur")


def test_a_homography_takes_its_four_places_where_it_should() -> None:
    places, goals = (
        rand(4, 2) + torch.tensor([[0.0, 0], [2, 0], [2, 2], [0, 2]]),
        rand(4, 2, seed=1),
    )
    there = torch.cat([places, torch.ones(4, 1)], dim=1) @ homography(places, goals).T
    torch.testing.assert_close(there[:, :2] / there[:, 2:], goals, rtol=1e-4, atol=1e-4)


def test_turning_by_a_right_angle_is_exact() -> None:
    image = rand(1, 3, 12, 12)
    quarter = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    turned = warped(image, quarter)
    torch.testing.assert_close(turned, image.rot90(1, (2, 3)), rtol=0, atol=1e-5)


# --- Hiddenness ----------------------------------------------------------------------------------

PLACED = PlacedCode(make_code("hidden", 3, "M"))


def test_a_pure_code_is_explained_wholly_in_any_two_greys() -> None:
    greys = torch.stack([0.1 + 0.8 * PLACED.target[0], 0.7 - 0.2 * PLACED.target[0]])
    expected = torch.ones(2, dtype=torch.float64)
    torch.testing.assert_close(explained_variance(greys, PLACED), expected)


def test_noise_is_not_explained_nor_is_a_grey_picture() -> None:
    assert explained_variance(rand(1, 3, 160, 160), PLACED).item() < 1e-3
    grey = torch.full((1, 3, 160, 160), 0.3)
    assert explained_variance(grey, PLACED).item() == 0


@given(st.floats(0.05, 1.0), st.floats(0.01, 0.5))
@settings(max_examples=15, deadline=None)
def test_code_and_noise_share_the_variance_in_closed_form(a: float, sigma: float) -> None:
    """g = a·m + σ·noise has R² = a²p(1−p) / (a²p(1−p) + σ²), p being the share of light pixels."""
    noise = torch.randn(1, 1, 160, 160, generator=torch.Generator().manual_seed(0))
    light = PLACED.crop(PLACED.target)[PLACED.crop(~PLACED.patterns)].mean().item()
    signal = a**2 * light * (1 - light)
    found = explained_variance(a * PLACED.target + sigma * noise, PLACED).item()
    assert found == pytest.approx(signal / (signal + sigma**2), abs=0.02)


def test_only_the_data_area_counts() -> None:
    image = 0.5 * PLACED.target + 0.3 * rand(1, 1, 160, 160)
    expected = explained_variance(image, PLACED)
    around = PLACED.pixels(~PLACED.in_grid(torch.ones_like(PLACED.code))) | PLACED.patterns
    torch.testing.assert_close(explained_variance(image.where(~around, 0), PLACED), expected)
    with pytest.raises(ValueError, match="160 × 160"):
        explained_variance(image[..., 1:], PLACED)


# --- Memory --------------------------------------------------------------------------------------


def test_live_storages_by_hand() -> None:
    with LiveStorages() as count:
        x = torch.zeros(256)
        view = x[:10].reshape(2, 5)
        assert count.live == 1024
        y = x + 1
        assert (count.live, count.peak) == (2048, 2048)
        del x, y
        assert count.live == 1024, "a view keeps its storage"
        del view
        assert (count.live, count.peak) == (0, 2048)


def test_what_autograd_saves_is_alive() -> None:
    x = torch.zeros(256, requires_grad=True)
    with LiveStorages() as count:
        y = x.exp().sum()
        assert count.live == 1024 + 4, "exp saves its result"
        y.backward()
        del y
        assert count.live == 1024, "only the gradient is left"


def tiny_parts() -> Parts:
    """The same kinds of network as Stable Diffusion's, as small as they can be."""
    from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel

    widths = {"block_out_channels": (16, 32), "cross_attention_dim": 16, "norm_num_groups": 8}
    downs = {"down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D")}
    unet = UNet2DConditionModel(
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), attention_head_dim=4, **widths, **downs
    )
    control = ControlNetModel(attention_head_dim=4, **widths, **downs)
    vae = AutoencoderKL(
        block_out_channels=(8, 8, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=4,
        latent_channels=4,
    )
    parts = Parts(unet, control, vae, memory.VGGDistance(((8,), (16,))))
    for part in parts:
        part.eval().requires_grad_(False)
    return parts


SIZE, MODULE = 160, 4


def peak(savings: Savings, fake: bool) -> memory.Peak:
    from torch._subclasses.fake_tensor import FakeTensorMode

    if not fake:
        return memory.peak_memory(tiny_parts, savings, SIZE, MODULE)
    with FakeTensorMode():
        return memory.peak_memory(tiny_parts, savings, SIZE, MODULE)


@pytest.mark.parametrize("savings", [Savings(), Savings(checkpointing=True, jacobian=False)])
def test_fake_tensors_count_as_real_ones_do(savings: Savings) -> None:
    real, fake = peak(savings, fake=False), peak(savings, fake=True)
    # What the libraries keep from their first use on is counted with the first.
    assert fake.parts == pytest.approx(real.parts, rel=1e-3)
    assert fake.step == pytest.approx(real.step, rel=1e-3)


def allocated_peak(run: Callable[[], Any]) -> int:
    """The most bytes that torch's own allocator had given out at a time, by its own log."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as log:
        run()
    events = [e for e in log.profiler.kineto_results.events() if e.name() == "[memory]"]
    now = most = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return most


@pytest.mark.parametrize("savings", [Savings(), Savings(checkpointing=True)])
def test_the_count_is_what_the_allocator_says(savings: Savings) -> None:
    counted: list[memory.Peak] = []
    real = allocated_peak(
        lambda: counted.append(memory.peak_memory(tiny_parts, savings, SIZE, MODULE))
    )
    # Inside an operation the allocator also gives out work space, which is not counted.
    assert 0.8 * real <= counted[0].step <= 1.02 * real


def test_each_saving_saves() -> None:
    plain, checkpointed, both = (
        peak(savings, fake=True).step
        for savings in (Savings(), Savings(True), Savings(True, jacobian=False))
    )
    assert both < checkpointed < 0.7 * plain


def test_savings_are_switched_on_and_off() -> None:
    parts = tiny_parts()
    for on in (True, False):
        memory.apply_savings(parts, Savings(checkpointing=on, tiling=on))
        assert parts.vae.use_tiling == on
        assert all(p.is_gradient_checkpointing == on for p in parts[:3])


def test_the_parts_are_those_of_stable_diffusion() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        parts = memory.sd15_parts()
    counts = [sum(p.numel() for p in part.parameters()) for part in parts]
    # Of the published models: 860 M, 361 M, 84 M; VGG16's convolutions and LPIPS' weights.
    assert counts[:3] == [859_520_964, 361_279_120, 83_653_863]
    assert counts[3] == 14_714_688 + 64 + 128 + 256 + 512 + 512


def test_vgg_is_torchvisions() -> None:
    torchvision = pytest.importorskip("torchvision")
    published = torchvision.models.vgg16(weights=None).features
    ours = [m for m in memory.VGGDistance().stages.modules() if isinstance(m, nn.Conv2d)]
    theirs = [m for m in published if isinstance(m, nn.Conv2d)]
    assert [m.weight.shape for m in ours] == [m.weight.shape for m in theirs]


def test_a_size_that_no_code_fits_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 8 pixels, not 700"):
        memory.simulated_peak(Savings(), 700)


# --- Rankings ------------------------------------------------------------------------------------

METHODS = ["a", "b", "c", "d"]


def test_clicks_give_ranks_and_take_them_back() -> None:
    ballot = ranking.Ballot(["c", "a", "b"])
    for place in (1, 0, 2):
        ballot.click(place)
    assert ballot.ranks() == {"a": 1, "c": 2, "b": 3}
    ballot.click(1)
    assert [ballot.rank(place) for place in range(3)] == [1, None, 2]
    with pytest.raises(ValueError, match="Only 2 of 3"):
        ballot.ranks()
    ballot.click(1)
    assert ballot.ranks() == {"c": 1, "b": 2, "a": 3}
    with pytest.raises(ValueError, match="0…2, not 3"):
        ballot.click(3)


def test_orders_are_random_seeded_and_hold_everybody() -> None:
    orders = [b.shown for b in ranking.ballots(METHODS, 40, seed=3)]
    assert orders == [b.shown for b in ranking.ballots(METHODS, 40, seed=3)]
    assert all(sorted(order) == METHODS for order in orders)
    assert {order[0] for order in orders} == set(METHODS)
    for methods, rounds in [(["a"], 3), (["a", "a"], 3), (METHODS, 0)]:
        with pytest.raises(ValueError, match="two methods or more"):
            ranking.ballots(methods, rounds, 0)


def test_average_ranks_with_intervals_over_people(tmp_path: Path) -> None:
    path = tmp_path / "ranks.json"
    for who, firsts in {"ann": "ab", "bob": "aa", "cyd": "bb"}.items():
        for round_, first in enumerate(firsts):
            other = "b" if first == "a" else "a"
            ranking.add_ranking(path, who, round_, {first: 1, other: 2, "c": 3})
    found = ranking.average_ranks(ranking.read_rankings(path))
    assert found["a"].mean == pytest.approx((1.5 + 1 + 2) / 3)
    assert found["c"] == (3, 3, 3)
    assert list(found) == ["a", "b", "c"] or found["a"].mean == found["b"].mean
    assert found["a"].low < found["a"].mean < found["a"].high
    assert found["a"].low >= 1
    with pytest.raises(ValueError, match="no rankings"):
        ranking.average_ranks([])


def test_ranking_again_replaces_and_a_foreign_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ranks.json"
    assert ranking.read_rankings(path) == []
    ranking.add_ranking(path, "Ünal", 0, {"a": 1, "b": 2})
    ranking.add_ranking(path, "Ünal", 0, {"a": 2, "b": 1})
    assert ranking.read_rankings(path) == [{"who": "Ünal", "round": 0, "ranks": {"a": 2, "b": 1}}]
    for text in ("", "[]", '{"rankings": [{"ranks": {"a": 1, "b": 1}}]}', '{"rankings": 3}'):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(CourseError, match=r"ranks\.json holds no rankings"):
            ranking.read_rankings(path)


def test_the_widget_ranks_hides_names_and_saves(tmp_path: Path) -> None:
    pytest.importorskip("ipywidgets")
    pictures = {name: rand(2, 3, 8, 8, seed=i) for i, name in enumerate(METHODS)}
    path = tmp_path / "ranks.json"
    box = ranking.ranking_widget(pictures, path, "ann", seed=1)
    said, row, save = box.children
    images, buttons = zip(*(column.children for column in row.children), strict=True)
    for round_, ballot in enumerate(ranking.ballots(METHODS, 2, seed=1)):
        assert [i.value for i in images] == [ranking.png(pictures[m][round_]) for m in ballot.shown]
        assert all(b.description == "rank it" for b in buttons)
        assert save.disabled
        for place in (2, 0, 3, 1):
            buttons[place].click()
        assert [b.description for b in buttons] == ["2", "4", "1", "3"]
        assert not save.disabled
        save.click()
        assert ranking.read_rankings(path)[-1]["ranks"][ballot.shown[2]] == 1
    assert "Thank you" in said.value
    assert [r["round"] for r in json.loads(path.read_text("utf-8"))["rankings"]] == [0, 1]
    with pytest.raises(ValueError, match="as many pictures"):
        ranking.ranking_widget({"a": rand(1, 3, 8, 8), "b": rand(2, 3, 8, 8)}, path, "ann")

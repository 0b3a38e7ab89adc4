"""Pictures show the pixels they were given, in the order they were given."""

import io

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence
from torch import Tensor

from course import plots


def shades(n: int, channels: int = 1, size: int = 4) -> Tensor:
    """n images, each of one shade, from −1 to 1."""
    values = torch.linspace(-1, 1, n)[:, None, None, None]
    return values.expand(n, channels, size, size).clone()


def test_to_uint8_rounds_and_clips() -> None:
    pixels = torch.tensor([-5.0, -1.0, 0.0, 0.5, 1.0, 5.0]).reshape(1, 1, 2, 3)
    assert plots.to_uint8(pixels).flatten().tolist() == [0, 0, 128, 191, 255, 255]
    assert plots.to_uint8(pixels).shape == (1, 2, 3, 1)


def test_to_uint8_gives_every_grey_of_mnist_back() -> None:
    greys = np.arange(256, dtype=np.uint8)
    images = torch.from_numpy(greys).float().div(127.5).sub(1).reshape(1, 1, 16, 16)
    assert np.array_equal(plots.to_uint8(images).flatten(), greys)


@pytest.mark.parametrize("channels", [1, 3])
def test_grid_puts_images_row_by_row_on_white(channels: int) -> None:
    sheet = np.asarray(plots.grid(shades(5, channels), columns=3, pad=2))
    sheet = sheet.reshape(*sheet.shape[:2], -1)
    assert sheet.shape == (2 * 6 + 2, 3 * 6 + 2, channels)
    greys = plots.to_uint8(shades(5))[:, 0, 0, 0]
    for i in range(5):
        top, left = 2 + i // 3 * 6, 2 + i % 3 * 6
        assert (sheet[top : top + 4, left : left + 4] == greys[i]).all()
    assert (sheet[:2] == 255).all()
    assert (sheet[8:, 14:] == 255).all()  # No sixth image.


def test_grid_is_about_square() -> None:
    assert plots.grid(shades(9), pad=0).size == (12, 12)
    assert plots.grid(shades(10), pad=0).size == (16, 12)


NO_IMAGES = [torch.zeros(0, 1, 4, 4), torch.zeros(1, 4, 4), torch.zeros(2, 2, 4, 4)]


@pytest.mark.parametrize("images", NO_IMAGES)
def test_what_is_no_images_is_refused(images: Tensor) -> None:
    for draw in (plots.grid, plots.show):
        with pytest.raises(ValueError, match=r"images is \(n, 1 or 3, h, w\) with n ≥ 1"):
            draw(images)


def test_show_draws_each_image_under_its_title() -> None:
    figure = plots.show(shades(3), ["a", "b", "c"], columns=2, title="all")
    axes = figure.axes
    assert [axis.get_title() for axis in axes] == ["a", "b", "c", ""]
    drawn = [int(np.asarray(axis.images[0].get_array())[0, 0]) for axis in axes[:3]]
    assert drawn == [0, 128, 255]
    assert all(axis.images[0].get_clim() == (0, 255) for axis in axes[:3])
    assert not axes[3].images
    plt.close(figure)


def test_show_wants_a_title_for_each_image() -> None:
    with pytest.raises(ValueError, match="2 titles for 3 images"):
        plots.show(shades(3), ["a", "b"])


def test_strip_puts_an_images_steps_side_by_side() -> None:
    trajectory = [torch.full((2, 1, 1, 1), float(step)) for step in range(101)]
    trajectory = [x + torch.tensor([0.0, 0.5]).reshape(2, 1, 1, 1) for x in trajectory]
    rows = plots.strip(trajectory, frames=5).flatten().tolist()
    assert rows == [0, 25, 50, 75, 100, 0.5, 25.5, 50.5, 75.5, 100.5]


def test_strip_of_a_short_trajectory_is_all_of_it() -> None:
    assert plots.strip([shades(1), shades(1)], frames=10).shape == (2, 1, 4, 4)


def test_an_empty_trajectory_is_refused() -> None:
    with pytest.raises(ValueError, match="5 frames of 0 steps"):
        plots.strip([], frames=5)
    with pytest.raises(ValueError, match="0 frames of 1 steps"):
        plots.animate([shades(1)], frames=0)


def test_animation_runs_from_the_first_step_to_the_last_and_holds_it() -> None:
    trajectory = list(shades(90).unsqueeze(1))
    gif = Image.open(io.BytesIO(plots.animate(trajectory, frames=20, zoom=3).data))
    frames = [(np.asarray(f.convert("L")), f.info["duration"]) for f in ImageSequence.Iterator(gif)]
    assert len(frames) == 20
    assert frames[0][0].shape == (24, 24)
    centres = [int(pixels[12, 12]) for pixels, _ in frames]
    assert centres[0] == 0
    assert centres[-1] == 255
    assert centres == sorted(centres)
    assert [duration for _, duration in frames] == [60] * 19 + [1500]
    assert gif.info["loop"] == 0


def test_style_is_the_courses() -> None:
    with plt.rc_context():
        plots.set_style()
        assert plt.rcParams["axes.prop_cycle"].by_key()["color"] == plots.COLOURS

"""Lesson 11: what edits keep and gain over t, and which t means the same at another resolution."""

from collections.abc import Callable

import torch
from torch import Tensor
from tqdm import tqdm

from course.data import mnist
from course.forward_process import alpha_bars_from_betas, cosine_schedule, linear_schedule
from course.metrics import distance_to_mnist, mnist_gaussian
from course.sampling import EpsModel, as_eps_model
from course.sdedit import balance, coarse, faithfulness, realism, sdedit, snr_matched_t
from course.training import UNet
from course.weights import card, load_weights
from tests.benchmarks.row import Row

LINEAR = alpha_bars_from_betas(linear_schedule())
COSINE = alpha_bars_from_betas(cosine_schedule())
LEVELS = [100, 300, 400, 500, 600, 700, 800, 999]
CALLS = 25


def shipped() -> EpsModel:
    network = load_weights(UNet(**card("mnist-ddpm")["config"]), "mnist-ddpm")
    return as_eps_model(network.to(memory_format=torch.channels_last), COSINE)


def edited(model: EpsModel, x: Tensor, t: int) -> Tensor:
    """The ancestral edits (η = 1) of many pictures."""
    generator = torch.Generator().manual_seed(t)
    walk = sdedit(model, x, COSINE, t, steps=CALLS, eta=1.0, generator=generator)
    *_, edit = tqdm(walk, total=CALLS, desc=f"{len(x)} edits from t = {t}")
    return edit


def curve(n: int = 1000) -> list[Row]:
    """What n coarse test digits keep and gain, over t; strangers are n other test digits."""
    model, images = shipped(), mnist("test")[0]
    x, strangers = coarse(images[:n]), images[n : 2 * n]
    rows: list[Row] = []
    kept, real = [], []
    for t in LEVELS:
        edit = edited(model, x, t)
        kept.append(faithfulness(edit, x, strangers))
        real.append(realism(edit, x, mnist_gaussian()))
        what = f"the same from t = {t}" if rows else (
            f"SDEdit of coarse digits from t = {t} (4 × 4 squares, 3 greys; η = 1, {CALLS} calls, "
            f"N = {n:,}): faithfulness, realism, Fréchet distance"
        )  # fmt: skip
        distance = distance_to_mnist(edit)
        rows.append(Row(what, f"{kept[-1]:.2f}, {real[-1]:.2f}, {distance:.0f}", "—"))
    both = balance(torch.tensor(kept), torch.tensor(real))
    best = LEVELS[int(both.argmax())]
    before = distance_to_mnist(x)
    return [
        Row(f"the coarse digits themselves: Fréchet distance, N = {n:,}", f"{before:.0f}", "—"),
        *rows,
        Row("the best of these t by the harmonic mean, and that mean",
            f"t = {best}, {float(both.max()):.2f}", "—"),
    ]  # fmt: skip


def resolution() -> list[Row]:
    """The t at 28 pixels that does what t = 500 does at 256 pixels."""
    return [
        Row("t at 28 px with the effective SNR of t = 500 at 256 px, linear schedule",
            str(snr_matched_t(500, LINEAR, 256, 28)), "—"),
        Row("the same, cosine schedule", str(snr_matched_t(500, COSINE, 256, 28)), "—"),
        Row("the same, from the linear schedule to the cosine one",
            str(snr_matched_t(500, LINEAR, 256, 28, COSINE)), "—"),
    ]  # fmt: skip


MEASURES: dict[str, Callable[[], list[Row]]] = {"sdedit": curve, "resolution": resolution}

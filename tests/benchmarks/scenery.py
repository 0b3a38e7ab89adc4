"""The tiny Stable Diffusion and the DDPMs of pixels: what each of their parts can do."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from course.metrics import fit_gaussian, frechet_distance
from course.plots import grid
from course.qr_codes import make_code, scan, scanners
from course.recipes.scenery.clip import (
    TinyCLIP,
    build_tokenizer,
    holdings,
    load_published_clip,
    retrieval,
)
from course.recipes.scenery.data import (
    as_tensor,
    attributes,
    captions,
    scene_chunk,
    scenes,
)
from course.recipes.scenery.patterns import pair_chunk, pattern_of
from course.recipes.scenery.unet import frozen_vae
from course.recipes.scenery.vae import decode, encode, psnr
from course.scenery import ATTRIBUTES, meaning, module_mask
from course.scenery.world import Attributes
from course.scenery_models import (
    HELD_OUT,
    control_image,
    generate,
    image_features,
    load_ddpm,
    load_image_encoder,
    load_pipeline,
    perceptual_distance,
    seen_attributes,
    shrunk,
    token_ids,
)
from tests.benchmarks.row import Row

SAMPLES = 200
CODES = 50
# The originals in the first row, then edits from t = 199, 399, 599, 799.
EDITS = Path(__file__).parents[2] / "docs" / "scenery-edits.png"


def unseen(n: int) -> Tensor:
    """Scenes that no training saw: (n, 3, 160, 160) in [−1, 1]."""
    return as_tensor(scenes(n, first=HELD_OUT))


def told(n: int, seed: int = 5) -> tuple[list[Attributes], list[str]]:
    """What n unseen scenes hold, and a caption for each."""
    chosen = [attributes(HELD_OUT + i) for i in range(n)]
    return chosen, captions(chosen, torch.Generator().manual_seed(seed))


# --- Following a prompt ------------------------------------------------------------------------


def stated(caption: str, chosen: Attributes) -> Attributes:
    """The attributes that a caption speaks of, as the scene has them."""
    reasons = [why for phrase in caption.split(", ") for why in meaning(phrase)]
    names = {name for why in reasons if why.items() <= chosen.items() for name in why}
    return {name: chosen[name] for name in ATTRIBUTES if name in names}


def followed(images: Tensor, chosen: list[Attributes], said: list[str]) -> tuple[float, float]:
    """How often the classifier sees the kind that was asked for; the mean over all that was."""
    hits: dict[str, list[bool]] = {name: [] for name in ATTRIBUTES}
    for seen, scene, text in zip(seen_attributes(images), chosen, said, strict=True):
        for name, value in stated(text, scene).items():
            hits[name].append(seen[name] == value)
    shares = {name: float(np.mean(h)) for name, h in hits.items() if h}
    return shares["kind"], float(np.mean(list(shares.values())))


def percent(*shares: float) -> str:
    return ", ".join(f"{100 * share:.0f} %" for share in shares)


# --- The parts ---------------------------------------------------------------------------------


def clip_scores() -> list[Row]:
    """Retrieval and classification on 500 unseen scenes."""
    images = shrunk(unseen(500))
    chosen, said = told(500)
    clip: nn.Module = load_published_clip(TinyCLIP(len(build_tokenizer()))).eval()
    ids = token_ids(build_tokenizer(), said)
    pairs = zip(images.split(100), ids.split(100), strict=True)
    found = float(np.mean([retrieval(clip, *pair) for pair in pairs]))
    encoder = load_image_encoder()
    with torch.no_grad():
        guesses = encoder.classify(image_features(images))
    wanted = zip(guesses.values(), holdings(chosen).T, strict=True)
    right = [guess.argmax(dim=1).eq(y).float().mean().item() for guess, y in wanted]
    return [
        Row("tiny CLIP: caption → picture, top 1 among 100 unseen scenes (mean of 5)",
            percent(found), "—"),
        Row("its classifier on 500 unseen scenes: the kind; the mean over 21 attributes",
            percent(right[0], float(np.mean(right))), "—"),
    ]  # fmt: skip


def codes(n: int) -> tuple[list[str], Tensor]:
    """Texts, and their version-3 codes on a field of 40 modules: (n, 40, 40) bool."""
    texts = [f"https://example.com/{i:03}" for i in range(n)]
    grids = [torch.nn.functional.pad(make_code(t, version=3), (5, 6, 5, 6)) for t in texts]
    return texts, torch.stack(grids)


def read(images: Tensor, texts: Iterable[str]) -> dict[str, float]:
    """Each scanner's share of pictures, (n, 3, h, w) in [−1, 1], that it reads exactly."""
    results = [(scan((x[None] + 1) / 2), text) for x, text in zip(images, texts, strict=True)]
    return {name: float(np.mean([r[name] == text for r, text in results])) for name in scanners()}


def vae_quality() -> list[Row]:
    """Pictures encoded and decoded: plain scenes, scenes with patterns, scenes with codes."""
    vae = frozen_vae()
    plain, blended = unseen(100), as_tensor(pair_chunk(range(100), HELD_OUT))
    texts, grids = codes(CODES)
    coded = plain[:CODES] + 0.65 * (control_image(grids, 160) * 2 - 1 - plain[:CODES])
    again = decode(vae, encode(vae, coded)[0])
    before, after = read(coded, texts), read(again, texts)
    shares = [
        f"{name} {100 * after[name]:.0f} % (before: {100 * before[name]:.0f} %)" for name in after
    ]
    return [
        Row("autoencoder: PSNR on 100 unseen scenes",
            f"{psnr(decode(vae, encode(vae, plain)[0]), plain):.1f} dB", "≥ 27 dB"),
        Row("the same, scenes with patterns in their light",
            f"{psnr(decode(vae, encode(vae, blended)[0]), blended):.1f} dB", "≥ 26 dB"),
        Row(f"the same, {CODES} scenes with codes blended in (65 % code)",
            f"{psnr(again, coded):.1f} dB", "≥ 26 dB"),
        Row("these codes, read after encode → decode", "; ".join(shares), "all"),
    ]  # fmt: skip


def samples() -> list[Row]:
    """Pictures of unseen captions, against real scenes of other seeds."""
    pipe = quiet(load_pipeline())
    chosen, said = told(SAMPLES)
    made = generate(pipe, said)
    real, others = image_features(unseen(SAMPLES)), image_features(training_scenes(2000))
    gaussian = fit_gaussian(others)
    kind, mean = followed(made, chosen, said)
    best_kind, best_mean = followed(unseen(SAMPLES), chosen, said)
    return [
        Row(f"tiny Stable Diffusion, {SAMPLES} captions (25 DDIM steps, γ = 4): the kind of scene "
            "asked for; the mean over all attributes asked for", percent(kind, mean),
            "≥ 95 %, ≥ 85 %"),
        Row("the same of real scenes: what the classifier can tell",
            percent(best_kind, best_mean), "—"),
        Row(f"Fréchet distance of its {SAMPLES} samples to 2,000 scenes, tiny CLIP's features "
            f"(floor: {SAMPLES} real ones)",
            f"{frechet_distance(image_features(made), gaussian):.2f} "
            f"({frechet_distance(real, gaussian):.2f})", "—"),
    ]  # fmt: skip


def training_scenes(n: int) -> Tensor:
    return as_tensor(np.concatenate([scene_chunk(range(i, i + 100)) for i in range(0, n, 100)]))


def quiet(pipe: Any) -> Any:
    pipe.set_progress_bar_config(disable=True)
    return pipe


def modules_right(images: Tensor, grids: Tensor) -> float:
    """The share of modules whose brightness, beside their surroundings', is the code's."""
    pixels = ((images + 1) * 127.5).round().byte().movedim(1, -1).numpy()
    from PIL import Image

    pairs = zip(pixels, grids.numpy(), strict=True)
    return float(np.mean([(module_mask(Image.fromarray(x), 40) == g).mean() for x, g in pairs]))


def control(n: int = 40) -> list[Row]:
    """Codes followed, and prompts still followed, as the ControlNet's voice is raised."""
    pipe = quiet(load_pipeline())
    chosen, said = told(n)
    _, grids = codes(n)
    rows = []
    for scale in (0.0, 0.5, 1.0, 1.5, 2.0):
        made = generate(pipe, said, codes=grids, control_scale=scale)
        kind, mean = followed(made, chosen, said)
        what = f"ControlNet at scale {scale}, {n} codes: modules right; kind; mean attribute"
        rows.append(Row(what, percent(modules_right(made, grids), kind, mean), "—"))
    drawn = as_tensor(pair_chunk(range(100), HELD_OUT)[:n])
    patterns = torch.from_numpy(np.stack([pattern_of(HELD_OUT + i)[0] for i in range(n)]))
    ceiling = percent(modules_right(drawn, patterns))
    return [*rows, Row("modules right in the painted pairs themselves", ceiling, "—")]


# --- The DDPMs of pixels -----------------------------------------------------------------------


@torch.no_grad()
def walk(pipe: Any, xt: Tensor, times: Tensor) -> Tensor:
    """DDIM from x_t at the first of the scheduler's times: (n, 3, 64, 64)."""
    for t in times:
        out = [pipe.unet(x, t, return_dict=False)[0] for x in xt.split(50)]
        xt = pipe.scheduler.step(torch.cat(out), t, xt, return_dict=False)[0]
    return xt.clamp(-1, 1)


def with_ddim(name: str, steps: int) -> Any:
    from diffusers import DDIMScheduler

    pipe = load_ddpm(name)
    pipe.scheduler = DDIMScheduler.from_config(
        pipe.scheduler.config, timestep_spacing="trailing", clip_sample=True
    )
    pipe.scheduler.set_timesteps(steps)
    return pipe


def pixels() -> list[Row]:
    """Fréchet distances of samples, and what SDEdit keeps from several t."""
    real = image_features(as_tensor(scenes(2000, 64)))
    gaussian, held = fit_gaussian(real), as_tensor(scenes(SAMPLES, 64, HELD_OUT))
    floor = frechet_distance(image_features(held), gaussian)
    rows = []
    for name in ("scenery-pixel-a", "scenery-pixel-b"):
        pipe, generator = with_ddim(name, 50), torch.Generator().manual_seed(0)
        noise = torch.randn(held.shape, generator=generator)
        made = walk(pipe, noise, tqdm(pipe.scheduler.timesteps, desc=name))
        distance = frechet_distance(image_features(made), gaussian)
        what = (
            f"{name}: Fréchet distance of {SAMPLES} samples (50 DDIM steps) to 2,000 scenes "
            f"(floor: {SAMPLES} real ones)"
        )
        rows.append(Row(what, f"{distance:.2f} ({floor:.2f})", "—"))
    return [*rows, *edits(held[:50])]


def edits(images: Tensor) -> list[Row]:
    """SDEdit by the first model: noised to t, then back. Ten of them are saved as `EDITS`."""
    pipe, rows, sheet = with_ddim("scenery-pixel-a", 50), [], [images[:10]]
    for t in (199, 399, 599, 799):
        noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(t))
        noised = pipe.scheduler.add_noise(images, noise, torch.tensor([t]))
        times = pipe.scheduler.timesteps
        edit = walk(pipe, noised, times[times <= t])
        sheet.append(edit[:10])
        apart = perceptual_distance(edit, images).mean().item()
        rows.append(Row(f"scenery-pixel-a, SDEdit from t = {t} of {len(images)} unseen scenes: "
                        "perceptual distance to the original, PSNR",
                        f"{apart:.2f}, {psnr(edit, images):.1f} dB", "—"))  # fmt: skip
    grid(torch.cat(sheet), columns=10).save(EDITS)
    return rows


MEASURES: dict[str, Callable[[], list[Row]]] = {
    "scenery-clip": clip_scores,
    "scenery-vae": vae_quality,
    "scenery-samples": samples,
    "scenery-control": control,
    "scenery-pixels": pixels,
}

"""How each of the shipped weights is made: `python -m course train NAME`."""

import difflib
from collections.abc import Callable

from course.errors import CourseError
from course.recipes.base import Recipe
from course.recipes.classifier_free_guidance import mnist_cfg
from course.recipes.classifier_guidance import mnist_noisy_classifier
from course.recipes.controlnet import mnist_controlnet
from course.recipes.ddpm import mnist_ddpm, mnist_judge
from course.recipes.flow_matching import mnist_flow
from course.recipes.latent_diffusion import mnist_latent_ddpm, mnist_vae
from course.recipes.scenery.clip import scenery_clip
from course.recipes.scenery.controlnet import scenery_controlnet
from course.recipes.scenery.pixel import scenery_pixel_a, scenery_pixel_b
from course.recipes.scenery.unet import scenery_unet
from course.recipes.scenery.vae import scenery_vae

RECIPES: dict[str, Callable[[], Recipe]] = {
    "mnist-judge": mnist_judge,
    "mnist-ddpm": mnist_ddpm,
    "mnist-vae": mnist_vae,
    "mnist-latent-ddpm": mnist_latent_ddpm,
    "mnist-noisy-classifier": mnist_noisy_classifier,
    "mnist-cfg": mnist_cfg,
    "mnist-controlnet": mnist_controlnet,
    "mnist-flow": mnist_flow,
}
# Those of data/models, in the order in which they build on one another.
SCENERY: dict[str, Callable[[], Recipe]] = {
    "scenery-vae": scenery_vae,
    "scenery-clip": scenery_clip,
    "scenery-unet": scenery_unet,
    "scenery-controlnet": scenery_controlnet,
    "scenery-pixel-a": scenery_pixel_a,
    "scenery-pixel-b": scenery_pixel_b,
}


def recipe(name: str) -> Recipe:
    """The recipe of that name. Raises CourseError, with the names there are, for another."""
    known = RECIPES | SCENERY
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        meant = f" Did you mean {near[0]!r}?" if near else ""
        raise CourseError(f"No recipe is named {name!r};{meant} there are {', '.join(known)}.")
    return known[name]()

"""How each of the shipped weights is made: `python -m course train NAME`."""

import difflib
from collections.abc import Callable

from course.errors import CourseError
from course.recipes.base import Recipe
from course.recipes.classifier_free_guidance import mnist_cfg
from course.recipes.ddpm import mnist_ddpm, mnist_judge

RECIPES: dict[str, Callable[[], Recipe]] = {
    "mnist-judge": mnist_judge,
    "mnist-ddpm": mnist_ddpm,
    "mnist-cfg": mnist_cfg,
}


def recipe(name: str) -> Recipe:
    """The recipe of that name. Raises CourseError, with the names there are, for another."""
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, n=1)
        meant = f" Did you mean {near[0]!r}?" if near else ""
        raise CourseError(f"No recipe is named {name!r};{meant} there are {', '.join(RECIPES)}.")
    return RECIPES[name]()

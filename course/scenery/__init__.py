"""A small painted world, captioned: the data that the tiny models of the course learn from."""

from course.scenery.captions import caption, meaning, vocabulary
from course.scenery.pattern import module_mask
from course.scenery.picture import Scene, contact_sheet, draw, scene
from course.scenery.world import ATTRIBUTES, sample

__all__ = [
    "ATTRIBUTES",
    "Scene",
    "caption",
    "contact_sheet",
    "draw",
    "meaning",
    "module_mask",
    "sample",
    "scene",
    "vocabulary",
]

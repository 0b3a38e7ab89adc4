"""The eight kinds of place: each composes sky, land, water, trees and buildings back to front.

Everything is lit from the left; `picture.draw` mirrors half of the scenes.
"""

from collections.abc import Callable

from course.scenery import countryside, festival, town, waterside
from course.scenery.stage import Stage

PLACES: dict[str, Callable[[Stage], None]] = {
    "winter wonderland": countryside.winter,
    "cherry blossom festival": festival.blossom,
    "town square": town.town,
    "forest clearing": countryside.forest,
    "mountain lake": waterside.mountain_lake,
    "seaside": waterside.seaside,
    "autumn hills": countryside.hills,
    "meadow": countryside.meadow,
}

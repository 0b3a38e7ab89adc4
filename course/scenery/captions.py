"""Captions: short true phrases about a scene, in varied order, from a small closed vocabulary."""

from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from course.scenery.world import Value, check

# A phrase, and the attributes that make it true; the first of them is its topic.
Phrase = tuple[str, dict[str, Value]]


def _about(topic: str, value: Value, *texts: str, **also: Value) -> list[Phrase]:
    return [(text, {topic: value} | also) for text in texts]


def _kinds() -> list[Phrase]:
    texts = {
        "winter wonderland": ("winter wonderland", "snowy winter landscape", "quiet winter valley"),
        "cherry blossom festival": ("cherry blossom festival", "spring blossom garden"),
        "town square": ("old European town square", "historic town square with cobblestones"),
        "forest clearing": ("forest clearing", "quiet clearing in an old forest"),
        "mountain lake": (
            "mountain lake",
            "alpine lake with reflections",
            "calm lake in the mountains",
        ),
        "seaside": ("seaside", "sandy beach by the sea", "coast with gentle waves"),
        "autumn hills": ("autumn hills", "rolling hills in autumn colors"),
        "meadow": ("green meadow", "open meadow with tall grass"),
    }
    return [p for kind, options in texts.items() for p in _about("kind", kind, *options)]


PHRASES: tuple[Phrase, ...] = (
    *_kinds(),
    *_about("season", "spring", "in spring", "spring day", time_of_day="day"),
    *_about("season", "spring", "in spring"),
    *_about("season", "summer", "in summer"),
    *_about("season", "summer", "warm summer evening", time_of_day="sunset"),
    *_about("season", "summer", "summer night", time_of_day="night"),
    *_about("season", "autumn", "in autumn", "autumn season"),
    *_about("season", "winter", "in winter", "cold winter air", "snow on the ground"),
    *_about("time_of_day", "dawn", "at dawn", "soft morning light", "pale pink sky at dawn"),
    *_about("time_of_day", "day", "bright daylight", "in the middle of the day"),
    *_about("time_of_day", "day", "clear blue sky", "bright blue sky", weather="clear"),
    *_about("time_of_day", "sunset", "at sunset", "golden sunset", "warm evening light"),
    *_about("time_of_day", "sunset", "orange sunset sky", weather="clear"),
    *_about("time_of_day", "night", "at night", "quiet night"),
    *_about("time_of_day", "night", "dark night sky", aurora=False),
    *_about("weather", "clear", "clear sky", "clear weather"),
    *_about("weather", "cloudy", "cloudy sky", "drifting clouds", "clouds in the sky"),
    *_about("weather", "misty", "morning mist", "mist over the land", time_of_day="dawn"),
    *_about("weather", "misty", "soft mist", "misty air", "mist over the land"),
    *_about("weather", "rainy", "falling rain", "rainy weather", "gray sky with rain"),
    *_about("weather", "snowy", "fresh snowfall", "falling snow", "snowflakes in the air"),
    *_about("celestial", "sun", "sun in the sky", "bright sun", time_of_day="day"),
    *_about("celestial", "sun", "low sun", "setting sun", time_of_day="sunset"),
    *_about("celestial", "sun", "rising sun", "low sun", time_of_day="dawn"),
    *_about("celestial", "full moon", "full moon", "bright full moon in the night sky"),
    *_about("celestial", "full moon", "full moon in a cloudy sky", weather="cloudy"),
    *_about("celestial", "crescent moon", "crescent moon", "thin crescent moon in the sky"),
    *_about("stars", True, "stars in the sky", "starry night sky", "twinkling stars"),
    *_about("aurora", True, "aurora borealis in night sky", "green aurora", "northern lights"),
    *_about("mountains", True, "mountains in the distance", "distant mountains", "rocky peaks"),
    *_about("water", "river", "winding river", "river through the fields", kind="meadow"),
    *_about("water", "river", "winding river", "flowing river"),
    *_about("water", "lake", "still water", "reflections in the water", "lake like a mirror"),
    *_about("water", "sea", "waves on the sea", "blue sea", time_of_day="day"),
    *_about("water", "sea", "waves on the sea", "surf on the beach"),
    *_about("trees", "evergreen", "evergreen trees", "tall pine trees"),
    *_about("trees", "evergreen", "snow covered pine trees", season="winter"),
    *_about("trees", "leafy", "green trees", "leafy trees"),
    *_about("trees", "autumn", "red and golden trees", "autumn trees", "colorful autumn leaves"),
    *_about("trees", "cherry", "blooming cherry trees", "pink cherry blossoms"),
    *_about("trees", "oak", "old oak tree", "large old oak"),
    *_about("building", "cabin", "cozy log cabin", "wooden cabin"),
    *_about("building", "houses", "old houses", "colorful old houses", "row of historic houses"),
    *_about("building", "pagoda", "pagoda with curved roofs", "tall pagoda"),
    *_about("building", "lighthouse", "lighthouse on a cliff", "tall red and white lighthouse"),
    *_about("building", "windmill", "old windmill", "windmill on a hill"),
    *_about("building", "chapel", "small white church", "white chapel"),
    *_about("lit_windows", True, "glowing windows", "warm light in the windows", "lit windows"),
    *_about("smoke", True, "smoke rising from chimney", "smoke from the chimney"),
    *_about("beam", True, "lighthouse beam", "beam of light over the water"),
    *_about("church_tower", True, "church tower", "tall church tower above the roofs"),
    *_about("awnings", True, "café awnings", "striped awnings", "café tables"),
    *_about("flowers", True, "flower boxes", "flower boxes under the windows", kind="town square"),
    *_about("flowers", True, "wild flowers", "colorful flowers", kind="meadow"),
    *_about("flowers", True, "wild flowers", "flowers in the grass", kind="forest clearing"),
    *_about("flowers", True, "wild flowers", "flowers on the shore", kind="mountain lake"),
    *_about("lanterns", True, "paper lanterns", "red lanterns", kind="cherry blossom festival"),
    *_about("lanterns", True, "street lamps", "old iron street lamps", kind="town square"),
    *_about("bridge", True, "red bridge", "arched bridge over the river"),
    *_about("boats", "sailboats", "sailboats", "white sailboats", "boats with white sails"),
    *_about("boats", "rowboat", "rowboat", "small wooden rowboat", "small boat on the water"),
    *_about("drifting", "petals", "drifting petals", "petals in the wind", "falling pink petals"),
    *_about("drifting", "leaves", "falling leaves", "leaves in the wind"),
    *_about("drifting", "fireflies", "fireflies", "glowing fireflies", "fireflies in the grass"),
)
# How often a phrase about that topic is said when it could be; the others 0.8.
SAID = {"kind": 1.0, "time_of_day": 0.9, "season": 0.25, "weather": 0.75, "mountains": 0.7}


@lru_cache(maxsize=1)
def _topics() -> dict[tuple[str, Value], list[Phrase]]:
    table: dict[tuple[str, Value], list[Phrase]] = {}
    for phrase in PHRASES:
        table.setdefault(next(iter(phrase[1].items())), []).append(phrase)
    return table


def caption(attributes: Mapping[str, Value], rng: np.random.Generator) -> str:
    """A caption of comma-separated phrases, each true of the attributes; usually the place first.

    Raises ValueError for an unknown attribute or value.
    """
    check(attributes)
    said = []
    for topic in attributes.items():
        options = [p for p, why in _topics().get(topic, []) if why.items() <= attributes.items()]
        if options and rng.random() < SAID.get(topic[0], 0.8):
            said.append(options[int(rng.integers(len(options)))])
    rest = [said[int(k)] for k in rng.permutation(len(said) - 1) + 1] if len(said) > 1 else []
    first = int(rng.integers(len(rest) + 1)) if rng.random() < 0.25 else 0
    text = ", ".join([*rest[:first], *said[:1], *rest[first:]])
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def meaning(phrase: str) -> list[dict[str, Value]]:
    """The sets of attributes that make a phrase true, any one of them being enough."""
    said = phrase.strip(" .").lower()
    return [why for text, why in PHRASES if text.lower() == said]


def vocabulary() -> list[str]:
    """Every word a caption can hold, lower case, sorted."""
    return sorted({word.lower() for text, _ in PHRASES for word in text.split()})

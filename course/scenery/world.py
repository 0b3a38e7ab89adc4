"""What a scene can hold: the attributes, their values, and how often each value occurs.

`odds` answers how often; over all kinds of scene every value of every attribute occurs in at
least 2 % of the scenes (the rarest are the aurora and the lighthouse's beam).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

Value = str | bool
Attributes = dict[str, Value]

YES_NO = (False, True)
# Every attribute and its values; the first value of all but the first four means "absent".
ATTRIBUTES: dict[str, tuple[Value, ...]] = {
    "kind": (
        "winter wonderland",
        "cherry blossom festival",
        "town square",
        "forest clearing",
        "mountain lake",
        "seaside",
        "autumn hills",
        "meadow",
    ),
    "season": ("spring", "summer", "autumn", "winter"),
    "time_of_day": ("dawn", "day", "sunset", "night"),
    "weather": ("clear", "cloudy", "misty", "rainy", "snowy"),
    "celestial": ("none", "sun", "full moon", "crescent moon"),
    "stars": YES_NO,
    "aurora": YES_NO,
    "mountains": YES_NO,
    "water": ("none", "river", "lake", "sea"),
    "trees": ("none", "evergreen", "leafy", "autumn", "cherry", "oak"),
    "building": ("none", "cabin", "houses", "pagoda", "lighthouse", "windmill", "chapel"),
    "lit_windows": YES_NO,
    "smoke": YES_NO,
    "beam": YES_NO,
    "church_tower": YES_NO,
    "awnings": YES_NO,
    "flowers": YES_NO,
    "lanterns": YES_NO,
    "bridge": YES_NO,
    "boats": ("none", "sailboats", "rowboat"),
    "drifting": ("none", "petals", "leaves", "fireflies"),
}

Odds = dict[Value, float]


def _chance(p: float) -> Odds:
    return {True: p, False: 1 - p}


HOURS: Odds = {"dawn": 0.18, "day": 0.32, "sunset": 0.22, "night": 0.28}
FAIR: Odds = {"clear": 0.46, "cloudy": 0.28, "misty": 0.12, "rainy": 0.14}
COLD: Odds = {"clear": 0.38, "cloudy": 0.12, "misty": 0.10, "snowy": 0.40}
# Winter nights are often clear, for the aurora.
COLD_HOURS = {"by": "time_of_day"} | dict.fromkeys(("dawn", "day", "sunset"), COLD)
COLD_HOURS |= {"night": {"clear": 0.66, "cloudy": 0.08, "misty": 0.06, "snowy": 0.20}}

# The odds of each attribute by kind of scene. What is not named is absent. A plan that depends
# on an attribute chosen before it says so under "by".
Plan = Mapping[str, Mapping[Any, Any]]
PLANS: dict[str, Plan] = {
    "winter wonderland": {
        "season": {"winter": 1.0},
        "time_of_day": {"dawn": 0.16, "day": 0.22, "sunset": 0.20, "night": 0.42},
        "weather": COLD_HOURS,
        "aurora": _chance(0.75),
        "mountains": _chance(0.6),
        "trees": {"evergreen": 1.0},
        "building": {"cabin": 0.72, "none": 0.28},
    },
    "cherry blossom festival": {
        "season": {"spring": 1.0},
        "time_of_day": HOURS,
        "weather": FAIR,
        "mountains": _chance(0.5),
        "water": {"river": 0.75, "none": 0.25},
        "trees": {"cherry": 1.0},
        "building": {"pagoda": 0.55, "none": 0.45},
        "lanterns": _chance(0.7),
        "bridge": _chance(0.55),
        "drifting": {"petals": 0.6, "none": 0.4},
    },
    "town square": {
        "season": {"summer": 0.68, "winter": 0.32},
        "time_of_day": HOURS,
        "weather": {"by": "season", "summer": FAIR, "winter": COLD},
        "building": {"houses": 1.0},
        "church_tower": _chance(0.55),
        "awnings": _chance(0.5),
        "flowers": {"by": "season", "summer": _chance(0.6), "winter": {False: 1.0}},
        "lanterns": _chance(0.5),
    },
    "forest clearing": {
        "season": {"summer": 0.6, "autumn": 0.4},
        "time_of_day": {"night": 0.85, "dawn": 0.15},
        "weather": FAIR | {"cloudy": 0.16, "misty": 0.24},
        "trees": {"oak": 0.75, "evergreen": 0.25},
        "flowers": {"by": "season", "summer": _chance(0.3), "autumn": {False: 1.0}},
        "drifting": {
            "by": "time_of_day",
            "night": {"fireflies": 0.7, "none": 0.3},
            "dawn": {"none": 1.0},
        },
    },
    "mountain lake": {
        "season": {"summer": 0.5, "autumn": 0.25, "winter": 0.25},
        "time_of_day": HOURS,
        "weather": {"by": "season", "summer": FAIR, "autumn": FAIR, "winter": COLD_HOURS},
        "aurora": {
            "by": "season",
            "winter": _chance(0.75),
            "summer": {False: 1.0},
            "autumn": {False: 1.0},
        },
        "mountains": {True: 1.0},
        "water": {"lake": 1.0},
        "trees": {
            "by": "season",
            "summer": {"evergreen": 1.0},
            "autumn": {"autumn": 0.6, "evergreen": 0.4},
            "winter": {"evergreen": 1.0},
        },
        "building": {"cabin": 0.35, "none": 0.65},
        "flowers": {
            "by": "season",
            "summer": _chance(0.4),
            "autumn": {False: 1.0},
            "winter": {False: 1.0},
        },
        "boats": {
            "by": "season",
            "summer": {"none": 0.45, "sailboats": 0.25, "rowboat": 0.30},
            "autumn": {"none": 0.6, "rowboat": 0.4},
            "winter": {"none": 1.0},
        },
    },
    "seaside": {
        "season": {"summer": 1.0},
        "time_of_day": HOURS,
        "weather": FAIR,
        "water": {"sea": 1.0},
        "building": {"lighthouse": 0.7, "none": 0.3},
        "beam": {
            "by": "time_of_day",
            "night": _chance(0.75),
            "sunset": _chance(0.5),
            "day": {False: 1.0},
            "dawn": {False: 1.0},
        },
        "boats": {"sailboats": 0.5, "rowboat": 0.2, "none": 0.3},
    },
    "autumn hills": {
        "season": {"autumn": 1.0},
        "time_of_day": HOURS | {"day": 0.38, "night": 0.16, "sunset": 0.28},
        "weather": FAIR | {"misty": 0.20, "cloudy": 0.20},
        "mountains": _chance(0.5),
        "water": {"river": 0.4, "none": 0.6},
        "trees": {"autumn": 1.0},
        "building": {"none": 0.4, "chapel": 0.3, "cabin": 0.3},
        "drifting": {"leaves": 0.5, "none": 0.5},
    },
    "meadow": {
        "season": {"spring": 0.45, "summer": 0.55},
        "time_of_day": HOURS | {"day": 0.42, "night": 0.14, "sunset": 0.26},
        "weather": FAIR,
        "mountains": _chance(0.4),
        "water": {"river": 0.3, "none": 0.7},
        "trees": {"leafy": 0.75, "none": 0.25},
        "building": {"windmill": 0.5, "none": 0.3, "chapel": 0.2},
        "flowers": _chance(0.7),
    },
}

# Odds that hold for every kind, where the scene allows the thing at all.
GENERAL: dict[str, Mapping[Any, Any]] = {
    "celestial": {
        "by": "time_of_day",
        "dawn": {"sun": 0.55, "none": 0.45},
        "day": {"sun": 0.45, "none": 0.55},
        "sunset": {"sun": 0.65, "none": 0.35},
        "night": {"full moon": 0.45, "crescent moon": 0.27, "none": 0.28},
    },
    "stars": _chance(0.8),
    "lit_windows": {
        "by": "time_of_day",
        "dawn": _chance(0.4),
        "day": _chance(0.15),
        "sunset": _chance(0.65),
        "night": _chance(0.88),
    },
    "smoke": _chance(0.62),
}
# What must hold for a thing to be possible.
NEEDS: dict[str, dict[str, tuple[Value, ...]]] = {
    "celestial": {"weather": ("clear", "cloudy", "misty")},
    "stars": {"time_of_day": ("night",), "weather": ("clear",)},
    "aurora": {"time_of_day": ("night",), "weather": ("clear",)},
    "lit_windows": {"building": ("cabin", "houses", "pagoda")},
    "smoke": {"building": ("cabin",)},
    "beam": {"building": ("lighthouse",)},
    "bridge": {"water": ("river",)},
}


def odds(name: str, known: Mapping[str, Value]) -> Odds:
    """How often each value of an attribute occurs, given the attributes before it."""
    if name == "kind":
        return {kind: 1 / len(PLANS) for kind in PLANS}
    if any(known[other] not in fine for other, fine in NEEDS.get(name, {}).items()):
        return {ATTRIBUTES[name][0]: 1.0}
    plan = _plan(str(known["kind"]), name)
    while "by" in plan:
        plan = plan[known[plan["by"]]]
    return dict(plan)


def _plan(kind: str, name: str) -> Mapping[Any, Any]:
    return PLANS[kind].get(name) or GENERAL.get(name) or {ATTRIBUTES[name][0]: 1.0}


def _tables(plan: Mapping[Any, Any]) -> list[Odds]:
    """Every table of odds that a plan can lead to."""
    if "by" not in plan:
        return [dict(plan)]
    return [table for key, part in plan.items() if key != "by" for table in _tables(part)]


def _pick(choices: Odds, rng: np.random.Generator) -> Value:
    at = rng.random() * sum(choices.values())
    for value, p in choices.items():
        at -= p
        if at < 0:
            return value
    return value


def sample(rng: np.random.Generator, given: Mapping[str, Value] | None = None) -> Attributes:
    """Attributes of one possible scene in which every `given` attribute has its given value.

    Raises ValueError when a name or value is unknown, or when no scene holds them together.
    """
    given = dict(given or {})
    check(given)
    for _ in range(4000):
        chosen: Attributes = {}
        for name in ATTRIBUTES:
            choices = odds(name, chosen)
            if name in given and given[name] not in choices:
                break
            fixed = name in given and choices[given[name]] > 0
            chosen[name] = given[name] if fixed else _pick(choices, rng)
        else:
            return chosen
    raise ValueError(_clash(given))


def check(given: Mapping[str, Value]) -> None:
    """Raise ValueError for an attribute or a value that does not exist, naming those that do."""
    for name, value in given.items():
        if name not in ATTRIBUTES:
            raise ValueError(f"no attribute {name!r}; there are {', '.join(ATTRIBUTES)}")
        if not any(value is v or (isinstance(v, str) and value == v) for v in ATTRIBUTES[name]):
            valid = ", ".join(map(repr, ATTRIBUTES[name]))
            raise ValueError(f"{name} cannot be {value!r}; it can be {valid}")


def possible(kind: str, name: str) -> list[Value]:
    """The values an attribute can take in scenes of that kind."""
    for other, fine in NEEDS.get(name, {}).items():
        if not set(fine) & set(possible(kind, other)):
            return [ATTRIBUTES[name][0]]
    tables = _tables(_plan(kind, name))
    values = {value for table in tables for value, p in table.items() if p > 0}
    values |= {ATTRIBUTES[name][0]} if name in NEEDS else set()
    return [value for value in ATTRIBUTES[name] if value in values]


def _clash(given: Mapping[str, Value]) -> str:
    """Why no scene can hold these attributes together."""
    if "kind" in given:
        kind = str(given["kind"])
        for name, value in given.items():
            if name != "kind" and value not in possible(kind, name):
                valid = ", ".join(map(repr, possible(kind, name)))
                return f"a {kind} scene cannot have {name} = {value!r}; it can have {valid}"
    for name, needs in NEEDS.items():
        absent = given.get(name, ATTRIBUTES[name][0]) == ATTRIBUTES[name][0]
        for other, fine in () if absent else needs.items():
            if other in given and given[other] not in fine:
                valid = " or ".join(map(repr, fine))
                return f"{name} = {given[name]!r} needs {other} to be {valid}"
    return f"no scene holds these attributes together: {dict(given)}"

"""Lesson A1: what right answers satisfy, and the mistakes people make.

The scenery is painted with NumPy. Cases hold tensors, as those of every lesson do; an answer is
given them as arrays, and what it returns is compared as a tensor again.
"""

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from course.checks.engine import Answer, Case, Exercise, Inputs, Mistake, UnusableError
from course.scenery import fields, pattern, sky, water

Array = NDArray[np.floating[Any]]
Stops = list[tuple[float, Array]]


def arrays(x: Any) -> Any:
    """Inputs with an array in the place of every tensor; both share their memory."""
    if isinstance(x, Tensor):
        return x.numpy()
    return type(x)(arrays(part) for part in x) if isinstance(x, list | tuple) else x


def run(answer: Answer, inputs: Inputs) -> Any:
    """An answer's output for arrays; of floats, half precision alone is told from single."""
    out = answer(**{name: arrays(x) for name, x in inputs.items()})
    if isinstance(out, Tensor):
        raise UnusableError("Return a NumPy array: the scenery is painted with NumPy.")
    if not isinstance(out, np.ndarray):
        return out
    x = torch.from_numpy(np.ascontiguousarray(out))
    return x.float() if x.dtype == torch.float64 else x


def draws(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Numbers in [0, 1), of their own seed."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# --- ramp ---------------------------------------------------------------------------------------


def stops(*pairs: tuple[float, list[float]]) -> Inputs:
    return {"stops": [(p, torch.tensor(colour)) for p, colour in pairs]}


def ramp_cases() -> list[Case]:
    dusk = [0.2, 0.2, 0.4], [0.8, 0.4, 0.4], [1.0, 0.7, 0.3]
    return [
        Case("from black to orange", stops((0.0, [0, 0, 0]), (1.0, [1, 0.5, 0]))),
        Case("three colours, the second early",
             stops((0.0, dusk[0]), (0.25, dusk[1]), (1.0, dusk[2]))),
        Case("stops that leave both ends open",
             stops((0.3, dusk[2]), (0.45, dusk[0]), (0.8, dusk[1]))),
        Case("one colour alone", stops((0.6, dusk[1]))),
        Case("many stops", stops(*((k / 7, draws(3, seed=k).tolist()) for k in range(8)))),
    ]  # fmt: skip


def ramp_at(at: Array, share: Answer, *, positions: Answer | None = None) -> Answer:
    """Ramps whose colour at `at` is that of the stops weighted by `share(at, positions)`."""

    def answer(stops: Stops) -> Array:
        where = np.array([p for p, _ in stops]) if positions is None else positions(stops)
        return np.asarray(share(at, where) @ np.array([colour for _, colour in stops]))

    return answer


PLACES = np.linspace(0, 1, sky.LEVELS)


def tents(at: Array, where: Array) -> Array:
    """How much each stop counts at each place: (levels,), (n,) -> (levels, n)."""
    hats = np.eye(len(where))
    return np.stack([np.interp(at, where, hat) for hat in hats], -1)


def plateaus(at: Array, where: Array) -> Array:
    return np.eye(len(where))[np.abs(at[:, None] - where).argmin(1)]


def last_passed(at: Array, where: Array) -> Array:
    return np.eye(len(where))[np.clip(np.searchsorted(where, at, side="right") - 1, 0, None)]


def ends_alone(at: Array, where: Array) -> Array:
    out = np.zeros((len(at), len(where)))
    out[:, 0] += 1 - at
    out[:, -1] += at
    return out


def carried_on(at: Array, where: Array) -> Array:
    """Straight lines, carried on beyond the first and the last stop."""
    if len(where) == 1:
        return np.ones((len(at), 1))
    k = np.clip(np.searchsorted(where, at) - 1, 0, len(where) - 2)
    share = ((at - where[k]) / (where[k + 1] - where[k]))[:, None]
    return np.eye(len(where))[k] * (1 - share) + np.eye(len(where))[k + 1] * share


def even(stops: Stops) -> Array:
    return np.linspace(0, 1, len(stops))


ramp_by_tents = ramp_at(PLACES, tents)


def ramp_by_loop(stops: Stops) -> Array:
    out = np.empty((sky.LEVELS, 3))
    for row, at in enumerate(PLACES):
        before = [s for s in stops if s[0] <= at][-1:] or stops[:1]
        after = [s for s in stops if s[0] > at][:1] or stops[-1:]
        (p, a), (q, b) = before[0], after[0]
        out[row] = a if q == p else a + (at - p) / (q - p) * (b - a)
    return out


RAMP = Exercise(
    sky.ramp,
    ramp_cases,
    mistakes=[
        Mistake("Your colour jumps from stop to stop. Between two stops it should change evenly: "
                "halfway there, it is the mean of both.", ramp_at(PLACES, plateaus)),
        Mistake("Your colour stays that of the last stop passed. Between two stops it should change "
                "evenly from one to the next.", ramp_at(PLACES, last_passed)),
        Mistake("Only the first and the last colour count in yours. A sky has more than two: "
                "interpolate between *neighbouring* stops.", ramp_at(PLACES, ends_alone)),
        Mistake("You spread the stops evenly from 0 to 1. Each has a position of its own.",
                ramp_at(PLACES, tents, positions=even)),
        Mistake("Your colours go on changing before the first stop and after the last one. There "
                "they stay as they are at that stop; carried on, they would soon leave [0, 1].",
                ramp_at(PLACES, carried_on)),
        Mistake("Your places stop short of 1. There are LEVELS of them from 0 to 1 and both ends "
                "are included, so neighbours are 1 / (LEVELS − 1) apart.",
                ramp_at(np.arange(sky.LEVELS) / sky.LEVELS, tents)),
        Mistake("Your ramp runs the wrong way: position 0 is row 0.",
                ramp_at(PLACES[::-1], tents)),
        Mistake("The axes are swapped: one row for each place, one column for each of red, green "
                "and blue.", lambda stops: ramp_by_tents(stops).T),
        Mistake("All three columns are red's. Interpolate each channel on its own.",
                lambda stops: ramp_by_tents(stops)[:, [0, 0, 0]]),
    ],
    alternatives=[ramp_by_tents, ramp_by_loop],
    hints=[
        "One channel at a time: NumPy has a function for straight lines between given points.",
        "np.interp(at, where, values) with `at` the LEVELS places, `where` the positions and "
        "`values` the stops' reds; then the greens, then the blues.",
        "np.stack(three_columns, -1) puts them side by side.",
    ],
    run=run,
)  # fmt: skip


# --- ridge --------------------------------------------------------------------------------------


def ridge_of(size: int, rough: float, n: int, seed: int) -> Inputs:
    phases, heights = draws(n, seed=seed, dtype=torch.float64), draws(n, seed=seed + 1)
    return {"size": size, "rough": rough, "phases": phases * 6, "heights": heights.double() - 0.4}


def ridge_cases() -> list[Case]:
    quarter = torch.tensor([math.pi / 2], dtype=torch.float64)
    return [
        Case("one wave, at x = 0, ¼, ½ and ¾",
             {"size": 4, "rough": 2.0, "phases": quarter, "heights": torch.ones(1)}),
        Case("the same, upside down",
             {"size": 4, "rough": 2.0, "phases": quarter, "heights": -2 * torch.ones(1)}),
        Case("two waves", ridge_of(6, 1.0, 2, 0)),
        Case("waves that are all as high", ridge_of(12, 0.0, 5, 2)),
        Case("a rough ridge", ridge_of(40, 0.5, 16, 4)),
        Case("a smooth ridge of the scenery's 64 waves", ridge_of(50, 2.1, 64, 6)),
    ]  # fmt: skip


def stretched(curve: Array) -> Array:
    return (curve - curve.min()) / (curve.max() - curve.min())


def ridge_with(
    *,
    power: Answer = lambda k, rough: k**-rough,
    turn: Answer = lambda k, x: np.pi * k * x,
    first: int = 1,
    end: bool = False,
    finish: Answer = stretched,
) -> Answer:
    """A sum of waves with another law for their heights, their lengths, or what comes after."""

    def answer(size: int, rough: float, phases: Array, heights: Array) -> Array:
        x = np.linspace(0, 1, size, endpoint=end)
        curve = np.zeros(size)
        with np.errstate(divide="ignore", invalid="ignore"):
            for k, (phase, height) in enumerate(zip(phases, heights, strict=True), first):
                curve += height * power(np.float64(k), rough) * np.sin(turn(k, x) + phase)
            return np.asarray(finish(curve))

    return answer


def ridge_by_matrix(size: int, rough: float, phases: Array, heights: Array) -> Array:
    k = np.arange(len(phases)) + 1.0
    angle = np.outer(np.arange(size) / size, k) * np.pi + phases
    return stretched(np.sin(angle) @ (heights / k**rough))


def ridge_by_phasors(size: int, rough: float, phases: Array, heights: Array) -> Array:
    k = np.arange(1, len(phases) + 1)
    turning = np.exp(1j * np.pi * k[:, None] * np.arange(size) / size)
    return stretched(((heights * np.exp(1j * phases) / k**rough)[:, None] * turning).sum(0).imag)


def ridge_one_by_one(size: int, rough: float, phases: Array, heights: Array) -> Array:
    """Each wave stretched on its own."""
    one = ridge_with()
    parts = [
        heights[k] * (k + 1) ** -rough * one(size, 0.0, phases[k : k + 1], np.ones(1))
        for k in range(len(phases))
    ]
    return np.sum(parts, axis=0)


RIDGE = Exercise(
    fields.ridge,
    ridge_cases,
    mistakes=[
        Mistake("All your waves are as high as their heights say, the fine ones too: wave k is "
                "k^(−rough) times as high.", ridge_with(power=lambda k, rough: 1.0)),
        Mistake("Your fine waves grow with k. Wave k is k^(−rough) times as high: the power is "
                "negative.", ridge_with(power=lambda k, rough: k**rough)),
        Mistake("Your waves fall off by rough^(−k). It is the wave's number that is raised to the "
                "power −rough.",
                ridge_with(power=lambda k, rough: rough**-k if rough else np.inf)),
        Mistake("Your waves are numbered from 0. A wave of number 0 does not wave, and 0^(−rough) "
                "is infinite; count from 1.", ridge_with(first=0)),
        Mistake("Your waves are half as long as they should be: sin(π k x), not sin(2π k x). With "
                "2π the ridge would begin where it ends.",
                ridge_with(turn=lambda k, x: 2 * np.pi * k * x)),
        Mistake("The π is missing in the sine: wave k is sin(π k x + phase).",
                ridge_with(turn=lambda k, x: k * x)),
        Mistake("All your waves are equally long: the sine's angle is π *k* x + phase.",
                ridge_with(turn=lambda k, x: np.pi * x)),
        Mistake("The sum is not stretched: take away its lowest value and divide by what is then "
                "the highest.", ridge_with(finish=lambda curve: curve)),
        Mistake("You divide by the highest value and leave the lowest where it is. Take the lowest "
                "away first.", ridge_with(finish=lambda curve: curve / curve.max())),
        Mistake("You took the lowest value away and did not divide: the highest should be 1.",
                ridge_with(finish=lambda curve: curve - curve.min())),
        Mistake("Your x reaches 1. The columns stand at 0, 1/size, 2/size, …, the last one at "
                "1 − 1/size.", ridge_with(end=True)),
        Mistake("You stretch every wave on its own. Add them first, and stretch the sum.",
                ridge_one_by_one),
        Mistake("Valleys and summits have changed places.",
                ridge_with(finish=lambda curve: 1 - stretched(curve))),
    ],
    alternatives=[ridge_with(), ridge_by_matrix, ridge_by_phasors],
    hints=[
        "x is np.arange(size) / size; the waves' numbers are 1 … len(phases).",
        "Give x the shape (size, 1): then x * k is a table with a row for each column of the "
        "picture and a column for each wave. Sum it along axis 1.",
        "Stretch at the end: (curve − lowest) / (highest − lowest).",
    ],
    run=run,
)  # fmt: skip


# --- reflected ----------------------------------------------------------------------------------


def numbered(size: int) -> Tensor:
    """A picture in which the first channel is the row, the second the column, the third both."""
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    return torch.stack([rows, columns, rows + columns], -1) / 10


def still(rows: int, size: int) -> Tensor:
    """A lift without ripples: one row further for each row of the water."""
    return (torch.arange(rows)[:, None] / size).repeat(1, size)


def reflected_cases() -> list[Case]:
    rippled = still(6, 16) + (draws(6, 16) - 0.5) / 4
    return [
        Case("one row of water in a picture of 2 × 2; row 0 is seen in it",
             {"pixels": numbered(2), "top": 1, "lift": torch.zeros(1, 2),
              "sway": torch.zeros(1, 2)}),
        Case("two rows of still water",
             {"pixels": numbered(4), "top": 2, "lift": still(2, 4), "sway": torch.zeros(2, 4)}),
        Case("a lift that is negative in places",
             {"pixels": numbered(8), "top": 5, "lift": still(3, 8) - 0.125,
              "sway": torch.zeros(3, 8)}),
        Case("a sway of a quarter of the picture, to the right and to the left",
             {"pixels": numbered(8), "top": 6, "lift": still(2, 8),
              "sway": torch.tensor([[0.25], [-0.25]]).repeat(1, 8)}),
        Case("ripples that reach beyond the picture",
             {"pixels": numbered(16), "top": 7, "lift": rippled * 3, "sway": draws(6, 16, seed=1)}),
        Case("a picture of noise, and ripples",
             {"pixels": draws(16, 16, 3, seed=2), "top": 10, "lift": rippled,
              "sway": draws(6, 16, seed=3) / 4 - 0.1}),
    ]  # fmt: skip


def reflection(
    *,
    row: Answer = lambda top, up: top - 1 - up,
    column: Answer = lambda x, along: x + along,
    bounded: Answer = np.clip,
    lifted: Answer = np.abs,
    scale: Answer = lambda size: size,
) -> Answer:
    """The reflection with another rule for a row, a column, or what lies outside."""

    def answer(pixels: Array, top: int, lift: Array, sway: Array) -> Array:
        size = len(pixels)
        up, along = lifted(lift) * scale(size), sway * scale(size)
        y, x = row(top, up), column(np.arange(size), along)
        y = np.clip(np.floor(bounded(y, 0, top - 1)), -size, size - 1).astype(int)
        x = np.clip(np.floor(bounded(x, 0, size - 1)), -size, size - 1).astype(int)
        return np.asarray(pixels[y, x])

    return answer


def round_the_edge(index: Array, low: int, high: int) -> Array:
    return index % (high + 1)


def reflected_by_loop(pixels: Array, top: int, lift: Array, sway: Array) -> Array:
    size = len(pixels)
    out = np.empty((*lift.shape, 3), dtype=pixels.dtype)
    for i in range(len(lift)):
        for j in range(size):
            y = max(math.floor(top - 1 - abs(lift[i, j]) * size), 0)
            x = min(max(math.floor(j + sway[i, j] * size), 0), size - 1)
            out[i, j] = pixels[y, x]
    return out


def reflected_upside_down(pixels: Array, top: int, lift: Array, sway: Array) -> Array:
    """Turned over first: then the row is the distance, rounded up."""
    size, above = len(pixels), pixels[:top][::-1]
    y = np.minimum(np.ceil(np.abs(lift) * size), top - 1).astype(int)
    x = np.clip(np.floor(np.arange(size) + sway * size), 0, size - 1).astype(int)
    return np.asarray(above[y, x])


REFLECTED = Exercise(
    water.reflected,
    reflected_cases,
    mistakes=[
        Mistake("Your picture stands upright in the water: the further down, the further *up* the "
                "row that is seen, counted from row top − 1.",
                reflection(row=lambda top, up: up)),
        Mistake("You begin one row too low: row `top` is water itself. The first row above it is "
                "top − 1.", reflection(row=lambda top, up: top - up, bounded=lambda i, low, high: i)),
        Mistake("You begin at row `top` and push it back above the water: the first row is seen "
                "twice, and everything is one row too low.", reflection(row=lambda top, up: top - up)),
        Mistake("A ripple that is lifted below 0 looks into the water. Take |lift|: up is up.",
                reflection(lifted=lambda lift: lift, bounded=np.clip)),
        Mistake("You take lift and sway for pixels. They are in picture heights: times the size.",
                reflection(scale=lambda size: 1)),
        Mistake("Your sway goes to the left where it is positive.",
                reflection(column=lambda x, along: x - along)),
        Mistake("Your columns ignore the sway: the reflection does not waver.",
                reflection(column=lambda x, along: x + 0 * along)),
        Mistake("What would lie outside comes in again on the other side in yours. It should be the "
                "nearest row or column inside: clip.", reflection(bounded=round_the_edge)),
        Mistake("You have lift and sway the wrong way round: lift is for the row, sway for the "
                "column.", lambda pixels, top, lift, sway: reflection()(pixels, top, sway, lift)),
        Mistake("The reflection is turned sideways as well: water swaps up and down alone.",
                reflection(column=lambda x, along: len(x) - 1 - x + along)),
    ],
    alternatives=[reflection(), reflected_by_loop, reflected_upside_down],
    hints=[
        "For each pixel of the water, find the row and the column that it shows: two integer arrays "
        "of shape (rows, s).",
        "The row is top − 1 − |lift| · size, the column is np.arange(size) + sway · size; clip both "
        "and make them integers.",
        "pixels[y, x] with two integer arrays of one shape picks a colour for each of their places.",
    ],
    run=run,
)  # fmt: skip


# --- module_goals -------------------------------------------------------------------------------


def goals_case(label: str, n: int, strength: float, dtype: torch.dtype = torch.float32) -> Case:
    means, dark = draws(n, n, seed=n, dtype=dtype), draws(n, n, seed=n + 1) < 0.5
    return Case(label, {"means": means, "pattern": dark, "strength": strength})


def goals_cases() -> list[Case]:
    dark = torch.tensor([[True, False], [False, True]])
    return [
        Case("four grey modules, half of the way",
             {"means": torch.full((2, 2), 0.5), "pattern": dark, "strength": 0.5}),
        Case("all of the way",
             {"means": torch.full((2, 2), 0.3), "pattern": dark, "strength": 1.0}),
        goals_case("none of the way", 4, 0.0),
        goals_case("forty modules a side", 40, 0.6),
        goals_case("float64", 9, 0.25, torch.float64),
    ]  # fmt: skip


def goals_with(dark: float = 0.12, light: float = 0.88) -> Answer:
    """A weighted mean of what is there and of other goals."""

    def answer(means: Array, pattern: Array, strength: float) -> Array:
        wanted = np.where(pattern, dark, light)
        return np.asarray((1 - strength) * means + strength * wanted)

    return answer


def goals_in_place_of(means: Array, pattern: NDArray[np.bool_], strength: float) -> Array:
    out = means.copy()
    out[pattern] -= strength * (out[pattern] - 0.12)
    out[~pattern] += strength * (0.88 - out[~pattern])
    return out


def goals_by_loop(means: Array, pattern: Array, strength: float) -> Array:
    n = len(means)
    rows = [
        [means[i, j] + strength * ((0.12 if pattern[i, j] else 0.88) - means[i, j])
         for j in range(n)] for i in range(n)
    ]  # fmt: skip
    return np.array(rows)


MODULE_GOALS = Exercise(
    pattern.module_goals,
    goals_cases,
    mistakes=[
        Mistake("Dark and light have changed places: pattern is True where a module is *dark*, and "
                "dark is 0.12.", goals_with(0.88, 0.12)),
        Mistake("You go all the way at every strength. It is the share of the way from the module's "
                "own luminance to the goal.",
                lambda means, pattern, strength: goals_with()(means, pattern, 1.0)),
        Mistake("Your goals are 0 and 1. Pure black and white would leave no room for colour and "
                "texture; the goals are 0.12 and 0.88.", goals_with(0.0, 1.0)),
        Mistake("You add a share of the goal to the luminance. Add a share of the *difference* "
                "between them, or a bright module becomes brighter than white.",
                lambda means, pattern, strength:
                means + strength * np.where(pattern, 0.12, 0.88)),
        Mistake("Strength works backwards in yours: 0 should leave the picture as it is.",
                lambda means, pattern, strength: goals_with()(means, pattern, 1 - strength)),
        Mistake("That is the step a module has to take. Add it to where the module is.",
                lambda means, pattern, strength:
                strength * (np.where(pattern, 0.12, 0.88) - means)),
        Mistake("You forget the picture: each module should set out from its own mean luminance, "
                "not from a middle grey.",
                lambda means, pattern, strength: goals_with()(0 * means + 0.5, pattern, strength)),
        Mistake("Your light modules alone are changed. The dark ones have a goal too.",
                lambda means, pattern, strength:
                np.where(pattern, means, goals_with()(means, pattern, strength))),
    ],
    alternatives=[goals_with(), goals_in_place_of, goals_by_loop],
    hints=[
        "Where should a module end at strength 1? np.where(pattern, …, …) says so for all at once.",
        "From a towards b by a share s of the way: a + s · (b − a).",
    ],
    run=run,
)  # fmt: skip


EXERCISES = [RAMP, RIDGE, REFLECTED, MODULE_GOALS]

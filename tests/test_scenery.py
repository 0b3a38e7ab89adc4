"""The scenery: the same from the same seed, true to its attributes, in words and in pixels."""

import hashlib
import subprocess
import sys
import time
from collections import Counter
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from course.scenery import (
    ATTRIBUTES,
    caption,
    contact_sheet,
    draw,
    meaning,
    module_mask,
    sample,
    scene,
    vocabulary,
)
from course.scenery.captions import PHRASES
from course.scenery.stamps import gap, profile
from course.scenery.world import PLANS, odds, possible

KINDS = [str(kind) for kind in ATTRIBUTES["kind"]]


@lru_cache(maxsize=512)
def _drawn(items: tuple[tuple[str, str | bool], ...], seed: int, size: int) -> Image.Image:
    return draw(dict(items), seed, size)


def pixels(seed: int, **attributes: Any) -> NDArray[np.float64]:
    """A scene as (64, 64, 3) in [0, 1]."""
    return np.asarray(_drawn(tuple(sorted(attributes.items())), seed, 64)) / 255


def luma(image: NDArray[np.float64]) -> NDArray[np.float64]:
    return image @ np.array([0.299, 0.587, 0.114])


# --- determinism ----------------------------------------------------------------------------


def test_same_seed_same_bytes() -> None:
    first, second = scene(5, 48), scene(5, 48)
    assert first.image.tobytes() == second.image.tobytes()
    assert (first.caption, first.attributes) == (second.caption, second.attributes)


def test_another_process_paints_the_same_bytes() -> None:
    seeds = range(8)
    code = (
        "import hashlib; from course.scenery import scene\n"
        f"for s in {list(seeds)}: print(hashlib.sha256(scene(s, 32).image.tobytes()).hexdigest())"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    # Backwards here: what was painted before must not matter.
    here = {s: hashlib.sha256(scene(s, 32).image.tobytes()).hexdigest() for s in reversed(seeds)}
    assert run.stdout.split() == [here[s] for s in seeds]


def test_different_seeds_paint_different_scenes() -> None:
    assert len({scene(seed, 16).image.tobytes() for seed in range(40)}) == 40


def test_draw_repaints_a_scene_from_its_attributes() -> None:
    one = scene(11, 32)
    assert draw(one.attributes, 11, 32).tobytes() == one.image.tobytes()
    assert one.image.mode == "RGB"
    assert one.image.size == (32, 32)


@pytest.mark.parametrize("seed", range(16))
def test_the_same_picture_at_every_size(seed: int) -> None:
    large, small = scene(seed, 128), scene(seed, 64)
    assert large.caption == small.caption
    shrunk = np.asarray(large.image.reduce(2), dtype=float)
    other, stranger = (np.asarray(scene(s, 64).image, dtype=float) for s in (seed, seed + 100))
    assert np.abs(shrunk - other).mean() < 0.25 * np.abs(shrunk - stranger).mean()
    flat = [(image - image.mean()).ravel() for image in (shrunk, other)]
    assert flat[0] @ flat[1] / np.sqrt((flat[0] @ flat[0]) * (flat[1] @ flat[1])) > 0.93


def test_odd_and_smallest_sizes() -> None:
    for size in (16, 33, 50):
        assert scene(3, size).image.size == (size, size)


# --- attributes -----------------------------------------------------------------------------


def test_every_value_occurs_often_enough_to_learn() -> None:
    rng, count = np.random.default_rng(0), 6000
    seen: Counter[tuple[str, str | bool]] = Counter()
    for _ in range(count):
        seen.update(sample(rng).items())
    shares = {(name, v): seen[name, v] / count for name in ATTRIBUTES for v in ATTRIBUTES[name]}
    assert min(shares.values()) > 0.018, min(shares.items(), key=lambda item: item[1])
    assert sum(seen.values()) == count * len(ATTRIBUTES)


def test_sampled_values_follow_the_odds() -> None:
    rng, known = np.random.default_rng(1), {"kind": "seaside", "season": "summer"}
    expected = odds("time_of_day", known)
    drawn = Counter(sample(rng, known)["time_of_day"] for _ in range(4000))
    for value, p in expected.items():
        assert drawn[value] / 4000 == pytest.approx(p, abs=0.03)


def test_odds_sum_to_one_and_name_known_values() -> None:
    rng = np.random.default_rng(2)
    for _ in range(300):
        world = sample(rng)
        for name in ATTRIBUTES:
            table = odds(name, world)
            assert sum(table.values()) == pytest.approx(1)
            assert set(table) <= set(ATTRIBUTES[name])
            assert table[world[name]] > 0


@pytest.mark.parametrize("kind", KINDS)
def test_every_possible_value_can_be_asked_for(kind: str) -> None:
    rng = np.random.default_rng(3)
    for name in ATTRIBUTES:
        for value in possible(kind, name):
            if name != "kind":
                world = sample(rng, {"kind": kind, name: value})
                assert world[name] == value
                assert world["kind"] == kind


def test_physics() -> None:
    rng = np.random.default_rng(4)
    for _ in range(1500):
        world = sample(rng)
        if world["stars"] or world["aurora"]:
            assert (world["time_of_day"], world["weather"]) == ("night", "clear")
        assert world["weather"] != "snowy" or world["season"] == "winter"
        assert world["celestial"] != "sun" or world["time_of_day"] != "night"
        assert "moon" not in str(world["celestial"]) or world["time_of_day"] == "night"
        assert not world["smoke"] or world["building"] == "cabin"


# --- captions -------------------------------------------------------------------------------


def test_every_phrase_of_a_caption_holds() -> None:
    for seed in range(400):
        world = sample(np.random.default_rng([seed, 0]))
        text = caption(world, np.random.default_rng([seed, 1]))
        assert text[0].isupper()
        assert text.endswith(".")
        for phrase in text.removesuffix(".").split(", "):
            reasons = meaning(phrase)
            assert reasons, f"nobody knows what {phrase!r} means"
            assert any(why.items() <= world.items() for why in reasons), (phrase, world)


def test_meaning_does_not_hold_for_every_phrase() -> None:
    night = scene(0, 16).attributes | {"time_of_day": "night", "weather": "rainy"}
    for phrase in ("bright daylight", "clear sky", "golden sunset"):
        assert not any(why.items() <= night.items() for why in meaning(phrase))
    assert meaning("a purple elephant") == []


def test_captions_name_the_place_and_vary() -> None:
    world = sample(np.random.default_rng(6), {"kind": "winter wonderland", "aurora": True})
    texts = {caption(world, np.random.default_rng(k)) for k in range(50)}
    assert len(texts) > 40
    names = [text for text, why in PHRASES if why.get("kind") == world["kind"] and len(why) == 1]
    assert all(any(name.lower() in text.lower() for name in names) for text in texts)
    assert len({text.split(", ")[0] for text in texts}) > 5


def test_vocabulary_is_closed_small_and_used() -> None:
    words = vocabulary()
    assert words == sorted(set(words))
    assert len(words) <= 250
    said: set[str] = set()
    for seed in range(3000):
        rng = np.random.default_rng(seed)
        said |= set(caption(sample(rng), rng).lower().replace(",", "").removesuffix(".").split())
    assert said == set(words)


def test_phrases_speak_of_attributes_that_some_scene_has() -> None:
    rng = np.random.default_rng(7)
    for text, why in PHRASES:
        assert why.items() <= sample(rng, why).items(), text


# --- what is said is in the picture ---------------------------------------------------------


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "forest clearing"])
def test_night_is_darker_than_day(kind: str) -> None:
    for seed in range(3):
        day, night = (
            luma(pixels(seed, kind=kind, time_of_day=t, weather="clear", aurora=False))
            for t in ("day", "night")
        )
        assert night.mean() < 0.6 * day.mean()


def test_snow_whitens_the_ground() -> None:
    for seed in range(4):
        ground = {
            season: pixels(
                seed, kind="town square", season=season, time_of_day="day", weather="clear"
            )[56:]
            for season in ("summer", "winter")
        }
        assert luma(ground["winter"]).mean() > luma(ground["summer"]).mean() + 0.15


def test_aurora_is_green_and_in_the_sky() -> None:
    for seed in range(4):
        with_it, without = (
            pixels(seed, kind="winter wonderland", celestial="none", aurora=a, **CLEAR_NIGHT)
            for a in (True, False)
        )
        more = with_it - without
        assert more[:26, :, 1].mean() > 0.1
        assert more[:26, :, 1].mean() > more[:26, :, 0].mean() + 0.05
        assert np.abs(more[52:]).mean() < 0.02


CLEAR_NIGHT: dict[str, Any] = {"time_of_day": "night", "weather": "clear", "stars": True}


def test_the_sunset_is_warm_and_the_day_blue() -> None:
    for seed in range(4):
        sunset, day = (
            pixels(seed, kind="seaside", time_of_day=t, weather="clear")[:24].mean((0, 1))
            for t in ("sunset", "day")
        )
        assert sunset[0] > sunset[2]
        assert day[2] > day[0]


def test_trees_have_the_colour_of_their_season() -> None:
    for seed in range(3):
        green, red, pink = (
            pixels(seed, kind=kind, time_of_day="day", weather="clear", **more)[26:].mean((0, 1))
            for kind, more in (
                ("meadow", {"trees": "leafy", "flowers": False}),
                ("autumn hills", {}),
                ("cherry blossom festival", {}),
            )
        )
        assert green[1] > green[0] and green[1] > green[2]  # noqa: PT018
        assert red[0] > red[2] + 0.15
        assert pink[2] - pink[1] > green[2] - green[1] + 0.1


def test_lit_windows_shine_at_night() -> None:
    for seed in range(4):
        lit, unlit = (
            pixels(seed, kind="town square", lit_windows=w, lanterns=False, **CLEAR_NIGHT)
            for w in (True, False)
        )
        more = (lit - unlit).mean((0, 1))
        assert more[0] > 0.02
        assert more[0] > more[2]


# Every thing a caption can name, in the places that can have it: taken away, pixels change.
THINGS = [
    (kind, name, value)
    for kind in KINDS
    for name in list(ATTRIBUTES)[4:]
    for value in possible(kind, name)
    if value != possible(kind, name)[0]
]


@pytest.mark.parametrize(("kind", "name", "value"), THINGS)
def test_what_is_there_can_be_seen(kind: str, name: str, value: str | bool) -> None:
    for seed in range(2):
        world = sample(np.random.default_rng(seed), {"kind": kind, name: value})
        absent = possible(kind, name)[0]
        less = {k: v for k, v in world.items() if k not in NEEDED_BY.get(name, ())}
        less |= {name: absent} | {k: False for k in NEEDED_BY.get(name, ()) if k in world}
        there, gone = pixels(seed, **world), pixels(seed, **less)
        assert (np.abs(there - gone).max(-1) > 0.08).sum() >= 16


NEEDED_BY = {"building": ("lit_windows", "smoke", "beam"), "water": ("bridge",)}


def test_texture_everywhere() -> None:
    """No flat patch: a code's modules must find something to hide in, the sky included."""
    for seed in range(24):
        grey = luma(np.asarray(scene(seed, 128).image) / 255)
        patches = grey.reshape(16, 8, 16, 8).transpose(0, 2, 1, 3).reshape(256, 64)
        relative = patches.std(1) / np.maximum(patches.mean(1), 0.05)
        assert np.quantile(relative, 0.05) > 0.015


# --- patterns -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_pattern_is_in_the_luminance(kind: str) -> None:
    for seed, n in ((0, 32), (1, 40)):
        pattern = np.random.default_rng(seed).random((n, n)) < 0.5
        plain, image = (draw({"kind": kind}, seed, 160, p) for p in (None, pattern))
        assert (module_mask(image, n, 0.5) == pattern).mean() >= 0.97
        assert (module_mask(image, n) == pattern).mean() >= 0.97
        assert (module_mask(plain, n) == pattern).mean() < 0.6


def test_a_pattern_keeps_the_picture() -> None:
    """Scale for scale the painting shows through: hues agree, and so do its coarse forms."""
    for seed in range(4):
        pattern = np.random.default_rng(seed).random((40, 40)) < 0.5
        plain, coded = (
            np.asarray(draw({"time_of_day": "day"}, seed, 160, p), dtype=float)
            for p in (None, pattern)
        )
        chroma = [(image - image.mean(-1, keepdims=True)).ravel() for image in (plain, coded)]
        assert np.corrcoef(chroma)[0, 1] > 0.7


def test_strength_grows_the_contrast() -> None:
    pattern = np.random.default_rng(9).random((20, 20)) < 0.5
    gaps = []
    for strength in (0.0, 0.3, 0.6, 1.0):
        image = draw({"kind": "meadow"}, 2, 80, pattern, strength)
        means = np.asarray(image.convert("L").reduce(4), dtype=float)
        gaps.append(means[~pattern].mean() - means[pattern].mean())
    assert gaps == sorted(gaps)
    assert abs(gaps[0]) < 12
    assert gaps[-1] > 120


@pytest.mark.parametrize("value", [True, False])
def test_a_pattern_of_one_tone(value: bool) -> None:
    image = draw({}, 4, 64, np.full((8, 8), value))
    assert (module_mask(image, 8, 0.5) == value).all()


def test_module_mask_of_a_known_picture() -> None:
    pattern = np.indices((9, 9)).sum(0) % 2 == 0
    board = Image.fromarray(np.where(pattern, 40, 200).astype(np.uint8)).resize((90, 90), 0)
    assert (module_mask(board, 9) == pattern).all()
    assert module_mask(board, 9, 0.1).sum() == 0
    assert module_mask(board, 9, 0.9).all()


# --- the parts ------------------------------------------------------------------------------


def test_mountains_leave_a_gap_for_the_sun() -> None:
    for seed in range(20):
        x, width, reach = 0.3, 1.6, profile("peaks", 1)
        shift = gap("peaks", 1, x, width, np.random.default_rng(seed))
        columns = ((shift + np.linspace(x - 0.05, x + 0.05, 9) / width) % 1 * len(reach)).astype(
            int
        )
        assert reach[columns].max() <= np.quantile(reach, 0.85)


def test_contact_sheet_lays_scenes_out_in_rows() -> None:
    sheet = contact_sheet(range(5), size=32, columns=3)
    assert sheet.size == (96, 64)
    assert sheet.crop((32, 32, 64, 64)).tobytes() == scene(4, 32).image.tobytes()


def test_speed() -> None:
    for seed in range(30):
        scene(seed)  # draws the stamps
    start = time.process_time()
    for seed in range(30):
        scene(seed)
    assert time.process_time() - start < 6


# --- bad input ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"mood": "gay"}, "no attribute 'mood'; there are kind, season"),
        ({"kind": "desert"}, "kind cannot be 'desert'; it can be 'winter wonderland'"),
        ({"aurora": "yes"}, "aurora cannot be 'yes'; it can be False, True"),
        ({"aurora": 1}, "aurora cannot be 1; it can be False, True"),
        (
            {"kind": "meadow", "building": "lighthouse"},
            "a meadow scene cannot have building = 'lighthouse'; it can have 'none', 'windmill'",
        ),
        (
            {"aurora": True, "time_of_day": "day"},
            "aurora = True needs time_of_day to be 'night'",
        ),
        ({"trees": "oak", "water": "sea"}, "no scene holds these attributes together"),
    ],
)
def test_impossible_attributes_are_named(given: dict[str, str | bool], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        draw(given, 0, 16)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("seed", "size"), [(0, 15), (-1, 64)])
def test_bad_seed_and_size(seed: int, size: int) -> None:
    for call in (scene, lambda s, n: draw({}, s, n)):
        with pytest.raises(ValueError, match=r"size must be at least 16|seed must not be negative"):
            call(seed, size)


@pytest.mark.parametrize(
    ("pattern", "strength", "message"),
    [
        (np.zeros((4, 5), dtype=bool), 0.6, r"square boolean array .* not bool \(4, 5\)"),
        (np.zeros((4, 4)), 0.6, "square boolean array .* not float64"),
        (np.zeros((40, 40), dtype=bool), 0.6, "32 pixels cannot show 40 modules"),
        (np.zeros((4, 4), dtype=bool), 1.5, "strength must be between 0 and 1, not 1.5"),
    ],
)
def test_bad_patterns(pattern: NDArray[np.bool_], strength: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw({}, 0, 32, pattern, strength)


def test_bad_module_masks() -> None:
    image = Image.new("RGB", (32, 32))
    with pytest.raises(ValueError, match="n must be between 2 and the image's 32 pixels, not 33"):
        module_mask(image, 33)
    with pytest.raises(ValueError, match="threshold must be"):
        module_mask(image, 8, "otsu")


def test_unknown_attribute_in_a_caption() -> None:
    with pytest.raises(ValueError, match="no attribute 'wind'"):
        caption({"wind": "strong"}, np.random.default_rng(0))
    assert caption({}, np.random.default_rng(0)) == ""


def test_plans_know_only_attributes_and_values() -> None:
    for kind, plan in PLANS.items():
        assert set(plan) <= set(ATTRIBUTES), kind
        for name in ATTRIBUTES:
            assert possible(kind, name) or name == "kind"

"""The light of a scene: what it does to every colour, and the colours of the air."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Colour = NDArray[np.floating[Any]]


def rgb(*values: float) -> Colour:
    """A colour, sRGB in [0, 1]: (3,)."""
    return np.array(values, dtype=np.float32)


def mix(a: Colour, b: Colour, share: float) -> Colour:
    """a + share · (b − a)."""
    return a + np.float32(share) * (b - a)


@dataclass(frozen=True)
class Light:
    """What multiplies a colour in the sun and in the shade, and the colours of sky and distance."""

    sun: Colour
    shade: Colour
    zenith: Colour
    middle: Colour
    horizon: Colour
    haze: Colour
    orb: Colour  # the disc of the sun or the moon, and the glitter beneath it
    cloud_lit: Colour
    cloud_dark: Colour
    dark: float  # 0 by day … 1 at night: how strongly lamps and windows glow


LIGHTS = {
    "dawn": Light(
        sun=rgb(1.10, 0.94, 0.88),
        shade=rgb(0.56, 0.52, 0.68),
        zenith=rgb(0.47, 0.55, 0.80),
        middle=rgb(0.83, 0.70, 0.80),
        horizon=rgb(1.00, 0.86, 0.72),
        haze=rgb(0.92, 0.80, 0.82),
        orb=rgb(1.00, 0.93, 0.75),
        cloud_lit=rgb(1.00, 0.90, 0.86),
        cloud_dark=rgb(0.72, 0.62, 0.78),
        dark=0.35,
    ),
    "day": Light(
        sun=rgb(1.10, 1.06, 0.95),
        shade=rgb(0.47, 0.52, 0.66),
        zenith=rgb(0.20, 0.43, 0.77),
        middle=rgb(0.46, 0.67, 0.90),
        horizon=rgb(0.82, 0.90, 0.94),
        haze=rgb(0.73, 0.83, 0.91),
        orb=rgb(1.00, 0.98, 0.86),
        cloud_lit=rgb(1.00, 0.99, 0.96),
        cloud_dark=rgb(0.62, 0.69, 0.80),
        dark=0.0,
    ),
    "sunset": Light(
        sun=rgb(1.18, 0.82, 0.55),
        shade=rgb(0.42, 0.31, 0.44),
        zenith=rgb(0.22, 0.22, 0.45),
        middle=rgb(0.80, 0.40, 0.42),
        horizon=rgb(1.00, 0.70, 0.32),
        haze=rgb(0.88, 0.55, 0.42),
        orb=rgb(1.00, 0.86, 0.52),
        cloud_lit=rgb(1.00, 0.64, 0.40),
        cloud_dark=rgb(0.46, 0.28, 0.44),
        dark=0.55,
    ),
    "night": Light(
        sun=rgb(0.48, 0.58, 0.82),
        shade=rgb(0.15, 0.19, 0.34),
        zenith=rgb(0.03, 0.06, 0.19),
        middle=rgb(0.08, 0.14, 0.33),
        horizon=rgb(0.22, 0.32, 0.53),
        haze=rgb(0.17, 0.25, 0.44),
        orb=rgb(0.96, 0.96, 0.86),
        cloud_lit=rgb(0.42, 0.49, 0.66),
        cloud_dark=rgb(0.12, 0.16, 0.30),
        dark=1.0,
    ),
}


def _greyed(colour: Colour, share: float) -> Colour:
    return mix(colour, np.full(3, colour.mean() * 0.95, dtype=np.float32), share)


def _overcast(light: Light) -> Light:
    """Under a closed sky: softer contrast between sun and shade, greyer air."""
    return replace(
        light,
        sun=mix(_greyed(light.sun, 0.45), light.shade, 0.15),
        shade=mix(_greyed(light.shade, 0.3), light.sun, 0.12),
        zenith=_greyed(mix(light.zenith, light.horizon, 0.35), 0.6),
        middle=_greyed(mix(light.middle, light.horizon, 0.25), 0.5),
        horizon=_greyed(light.horizon, 0.45),
        haze=_greyed(light.haze, 0.45),
        cloud_lit=_greyed(light.cloud_lit, 0.55) * np.float32(0.94),
        cloud_dark=_greyed(light.cloud_dark, 0.5),
    )


def light_of(time_of_day: str, weather: str, rng: np.random.Generator) -> Light:
    """The light of that hour and weather, each sky a little different in hue."""
    light = LIGHTS[time_of_day]
    warm = rng.uniform(-1, 1) * rgb(0.035, 0.0, -0.035) * (0.5 if time_of_day == "night" else 1)
    light = replace(
        light,
        zenith=np.clip(light.zenith * rng.uniform(0.85, 1.18) + warm, 0, 1),
        middle=np.clip(light.middle * rng.uniform(0.94, 1.07) + warm, 0, 1),
        horizon=np.clip(light.horizon + warm, 0, 1),
    )
    light = replace(light, **{k: np.float32(1) * v for k, v in vars(light).items() if k != "dark"})
    return _overcast(light) if weather in ("rainy", "snowy") else light

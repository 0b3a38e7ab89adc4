"""Lesson 09: how much Qart controls, how like the picture it gets, and whether it scans."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from course import qr_codes, scenery
from course.qr_codes import Qart
from tests.benchmarks.row import Row

TEXT = "https://example.com/"  # 20 bytes
SCENES, FEW = 20, 6
AIMS = {"L": ("264", "≥ 76 %"), "M": ("176", "≥ 69 %")}


def pictures(count: int = SCENES) -> Iterator[Tensor]:
    """The first scenes of the painted world: (1, 3, 116, 116) in [0, 1]."""
    for seed in range(count):
        image = np.array(scenery.scene(seed, 116).image)
        yield torch.from_numpy(image).permute(2, 0, 1)[None] / 255


def share(read: list[bool]) -> str:
    return f"{sum(read)} of {len(read)}"


def by_level(level: str) -> list[Row]:
    """Version 3 with 20 bytes: every mask's code is scanned, the best one's agreement counts."""
    made: list[list[Qart]] = []
    for picture in tqdm(pictures(), total=SCENES, desc=f"level {level}"):
        made.append(qr_codes.qart_codes(TEXT, picture, version=3, level=level))
    controlled = {int(q.controlled.sum()) for codes in made for q in codes}
    agreement = sum(codes[0].agreement for codes in made) / len(made)
    texts = [qr_codes.scan(qr_codes.render(q.code, 4)) for codes in made for q in codes]
    aim, least = AIMS[level]
    where = f"Qart, version 3, 20 bytes, level {level}"
    return [
        Row(f"{where}: modules controlled", "–".join(map(str, sorted(controlled))), aim),
        Row(f"{where}: agreement of the data modules with the picture, mean of {SCENES} scenes",
            f"{100 * agreement:.1f} %", least),
        *(Row(f"{where}: read exactly by {name}, eight masks each",
              share([t[name] == TEXT for t in texts]), "all")
          for name in qr_codes.scanners()),
    ]  # fmt: skip


def qart_quality() -> list[Row]:
    return [*by_level("L"), *by_level("M")]


def qart_speed() -> list[Row]:
    """The least of five runs: what is above it is other processes."""

    def seconds(**how: Any) -> float:
        times = []
        for picture in pictures(5):
            start = time.process_time()
            qr_codes.qart(TEXT, picture, **how)
            times.append(time.process_time() - start)
        return min(times)

    seconds(version=3)
    return [
        Row("Qart, version 3, level L, eight masks: CPU seconds", f"{seconds(version=3):.2f}",
            "≤ 0.5"),
        Row("Qart, version 10, level L, eight masks: CPU seconds", f"{seconds(version=10):.2f}",
            "—"),
    ]  # fmt: skip


def traditional() -> list[Row]:
    """The traditional methods, on Qart codes and on plain ones, as they come out."""
    texts: dict[str, list[dict[str, str | None]]] = {}

    def add(method: str, image: Tensor) -> None:
        texts.setdefault(method, []).append(qr_codes.scan(image))

    for picture in tqdm(pictures(FEW), total=FEW, desc="traditional methods"):
        for name, code in [
            ("plain code", qr_codes.make_code(TEXT, 3, "L")),
            ("Qart code", qr_codes.qart(TEXT, picture, 3, "L")),
        ]:
            add(f"halftone, {name}", qr_codes.halftone(code, picture, module_size=9))
            *_, pixels = qr_codes.artcoder(code, picture, module_size=6, steps=40)
            add(f"optimised pixels, {name}", pixels)
    return [
        Row(f"{method}: read by {name}", share([t[name] == TEXT for t in read]), "—")
        for method, read in texts.items()
        for name in qr_codes.scanners()
    ]


MEASURES: dict[str, Callable[[], list[Row]]] = {
    "qart": qart_quality,
    "qart-speed": qart_speed,
    "qr-traditional": traditional,
}

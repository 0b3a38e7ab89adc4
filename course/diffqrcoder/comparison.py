"""The comparison: every method on the same cases, what reads them, and what was left to see.

`python -m course evaluate qr` runs it, and goes on where it stopped. No scanner has a say in how a
picture is made, and the first picture of each case's seed counts. The DiffQRCoder paper, with
Stable Diffusion 1.5 and 100 prompts, gives its own pictures an SSR of 99 % and ControlNet alone
60 %; those are the paper's numbers, with the paper's scanners, and nothing here measures them.
"""

import dataclasses
import functools
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from course.diffqrcoder.baselines import BASELINES, Case, Made, Method, picture_of
from course.diffqrcoder.distortions import DISTORTIONS, distort
from course.diffqrcoder.hiddenness import explained_variance
from course.errors import CourseError
from course.plots import to_uint8
from course.qr_codes import scan, scanners
from course.scenery import caption, meaning, sample
from course.scenery.world import Attributes
from course.scenery_models import clip_score, models_dir, perceptual_distance, seen_attributes
from course.weights import write_atomically

Record = dict[str, Any]
CLEAN = "clean"

# Seeds from here on are of scenes that no model was trained on.
FIRST_SCENE = 20_000_000
PROMPTS = 20
# Texts of several lengths, from a few bytes free to nearly all, at several levels of version 3.
TEXTS = (
    ("https://example.com/", "L"),
    ("https://example.com/", "M"),
    ("https://example.com/", "Q"),
    ("tea at five", "H"),
    ("tea at five", "M"),
    ("https://example.org/a/picture/first", "L"),
    ("https://example.org/a/picture/first", "M"),
    ("https://example.org/a/picture/first/a/code/second", "L"),
    ("WIFI:T:WPA;S:lake;P:moonlight;;", "M"),
    ("WIFI:T:WPA;S:lake;P:moonlight;;", "Q"),
    ("geo:25.0174,121.5397", "M"),
    ("Scenery, with a message in it.", "L"),
)


# --- Cases ---------------------------------------------------------------------------------------


def cases(n: int) -> list[Case]:
    """The first n cases: twelve texts and levels, twenty prompts, and a seed of its own for each.

    Raises ValueError for n < 1.
    """
    if n < 1:
        raise ValueError(f"There is at least 1 case, not {n}.")
    said = [scene_prompt(k) for k in range(min(n, PROMPTS))]
    return [Case(*TEXTS[k % len(TEXTS)], said[k % PROMPTS], k) for k in range(n)]


def scene_prompt(k: int) -> str:
    """The caption of an unseen scene: what it says can be looked for in a picture."""
    rng = np.random.default_rng([FIRST_SCENE + k, 0])
    return caption(sample(rng), rng)


def named_attributes(prompt: str) -> list[list[Attributes]]:
    """What each phrase of a prompt asks for: sets of attributes, any one of them being enough."""
    asked = (meaning(phrase) for phrase in prompt.split(","))
    return [sets for sets in asked if sets]


def attribute_accuracy(prompt: str, seen: Mapping[str, Any]) -> float:
    """The share of a prompt's phrases that are true of what was seen; NaN where none is known."""
    asked = named_attributes(prompt)
    true = [any(s.items() <= seen.items() for s in sets) for sets in asked]
    return sum(true) / len(true) if true else float("nan")


# --- One picture ---------------------------------------------------------------------------------


def measure(pipeline: Any, case: Case, made: Made, plain: Tensor) -> Record:
    """All that is measured of one picture. plain: the same without a code, (1, 3, h, h), [0, 1]."""
    image, h = made.image.float().clamp(0, 1), plain.shape[-1]
    # Scanners get every pixel; networks look at all methods at one size.
    looked_at, without = F.interpolate(image, (h, h), mode="area") * 2 - 1, plain * 2 - 1
    return {
        "read": readings(image, case),
        "distance": perceptual_distance(looked_at, without).item(),
        "clip": clip_score(pipeline, looked_at, [case.prompt]).item(),
        "attributes": attribute_accuracy(case.prompt, seen_attributes(looked_at)[0]),
        "r2": explained_variance(image, made.placed).item(),
        "r2_reference": None
        if made.reference is None
        else explained_variance(made.reference.float(), made.placed).item(),
    }


def readings(image: Tensor, case: Case) -> dict[str, dict[str, bool]]:
    """Which scanners read exactly the text, from the clean image and from each distortion."""
    seen = {CLEAN: image}
    seen |= {name: distort(image, name, case.seed) for name in DISTORTIONS}
    return {
        name: {scanner: text == case.text for scanner, text in scan(x).items()}
        for name, x in seen.items()
    }


# --- All pictures, kept --------------------------------------------------------------------------


def compare(
    pipeline: Any, methods: Mapping[str, Method], chosen: Sequence[Case], folder: Path
) -> dict[str, list[Record]]:
    """Every method's records, in the order of the cases; what is in the folder is not done again.

    Each record is a JSON file beside its picture, `METHOD/CASE.json` and `.png`. Raises CourseError
    where the folder was made with other models, and where the disk is full.
    """
    _check_models(folder)
    todo = [(k, name) for k in range(len(chosen)) for name in methods]
    records: dict[str, list[Record]] = {name: [] for name in methods}
    for k, name in (bar := tqdm(todo, desc="evaluate qr", unit="picture")):
        bar.set_postfix(method=name, case=k, refresh=False)
        path = folder / name / f"{k:03}.json"
        record = _kept(path, chosen[k])
        if record is None:
            record = _do(pipeline, methods[name], chosen[k], path)
        records[name].append(record)
    return records


def _do(pipeline: Any, method: Method, case: Case, path: Path) -> Record:
    """Make a picture, measure it, and keep both."""
    began = time.process_time()
    made = method(pipeline, case)
    seconds = time.process_time() - began
    measured = measure(pipeline, case, made, _plain(pipeline, case))
    record = {"case": case._asdict(), **measured, "cpu_seconds": seconds}
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(to_uint8(made.image.float() * 2 - 1)[0]).save(path.with_suffix(".png"))
    write_atomically(path, (json.dumps(record, ensure_ascii=False) + "\n").encode())
    return record


@functools.lru_cache(maxsize=2)
def _plain(pipeline: Any, case: Case) -> Tensor:
    return picture_of(pipeline, case)


def _kept(path: Path, case: Case) -> Record | None:
    """A record from an earlier run; None where there is none, or it is another case's."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        same = record["case"] == case._asdict() and path.with_suffix(".png").is_file()
        # A scanner may have been installed since.
        return record if same and record["read"][CLEAN].keys() == scanners().keys() else None
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _check_models(folder: Path) -> None:
    """Refuse to go on in a folder whose pictures other models made."""
    cards = sorted((models_dir() / "scenery").glob("*.json"))
    digest = hashlib.sha256(b"".join(card.read_bytes() for card in cards)).hexdigest()
    mark = folder / "models.sha256"
    if not mark.exists():
        write_atomically(mark, digest.encode())
    elif mark.read_text(encoding="utf-8") != digest:
        raise CourseError(f"{folder} holds pictures of other models; give another --out.")


# --- What it comes to ----------------------------------------------------------------------------


class Estimate(NamedTuple):
    """A mean with its 95 % interval."""

    mean: float
    low: float
    high: float


def bootstrap(values: Iterable[float], draws: int = 2000, seed: int = 0) -> Estimate:
    """The mean, and the middle 95 % of the means of resampled values; NaNs are left out.

    Raises ValueError where no value is left.
    """
    x = np.array([v for v in values if not np.isnan(v)], dtype=np.float64)
    if len(x) == 0:
        raise ValueError("There is no value to take a mean of.")
    picks = np.random.default_rng(seed).integers(0, len(x), (draws, len(x)))
    low, high = np.percentile(x[picks].mean(axis=1), [2.5, 97.5])
    return Estimate(float(x.mean()), float(low), float(high))


def rate(successes: Sequence[bool]) -> Estimate:
    """A share of yes among yes and no, with Wilson's interval (1927).

    The bootstrap of fifty times yes would have no width; this has. Raises ValueError for none.
    """
    n, z = len(successes), 1.959964
    if n == 0:
        raise ValueError("There is no trial to take a rate of.")
    p = sum(successes) / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    reach = z * ((p * (1 - p) + z * z / (4 * n)) / n) ** 0.5 / (1 + z * z / n)
    # Rounding can take an end that is 0 or 1 a hair beyond.
    return Estimate(p, min(p, max(0.0, middle - reach)), max(p, min(1.0, middle + reach)))


@dataclasses.dataclass(frozen=True)
class Summary:
    """A method's results over its cases."""

    cases: int
    clean: dict[str, Estimate]  # each scanner's SSR
    distorted: dict[str, Estimate]  # each scanner's, the mean over the distortions
    by_distortion: dict[str, dict[str, float]]  # SSR by distortion and scanner
    distance: Estimate
    clip: Estimate
    attributes: Estimate
    r2: Estimate
    r2_reference: Estimate | None
    cpu_seconds: Estimate

    @property
    def best_distorted(self) -> Estimate:
        """The better scanner's mean over the distortions."""
        return max(self.distorted.values())


def summarise(records: Sequence[Record]) -> Summary:
    """Means and intervals over cases, the cases being what is resampled."""
    names = list(records[0]["read"][CLEAN])
    means = {key: bootstrap(r[key] for r in records)
             for key in ("distance", "clip", "attributes", "r2", "cpu_seconds")}  # fmt: skip
    references = [r["r2_reference"] for r in records if r["r2_reference"] is not None]
    return Summary(
        cases=len(records),
        clean={s: rate([r["read"][CLEAN][s] for r in records]) for s in names},
        distorted={s: bootstrap(_survived(r, s) for r in records) for s in names},
        by_distortion={
            d: {s: sum(r["read"][d][s] for r in records) / len(records) for s in names}
            for d in DISTORTIONS
        },
        r2_reference=bootstrap(references) if references else None,
        **means,
    )


def _survived(record: Record, scanner: str) -> float:
    """The share of the distortions after which a scanner still reads a picture."""
    return sum(record["read"][d][scanner] for d in DISTORTIONS) / len(DISTORTIONS)


def table(summaries: Mapping[str, Summary]) -> str:
    """The summaries as a Markdown table: means, and 95 % intervals in brackets."""
    read_by = list(next(iter(summaries.values())).clean)
    head = ["method", *(f"SSR {s}" for s in read_by), "SSR distorted, better scanner",
            "distance", "R²", "R² of x̂", "CLIP", "attributes", "CPU s"]  # fmt: skip
    lines = [_line(head), _line(["---"] * len(head))]
    for name, s in summaries.items():
        rates = [*(s.clean[r] for r in read_by), s.best_distorted]
        lines.append(_line([
            name, *(_shown(r, 100, 0) for r in rates), _shown(s.distance), _shown(s.r2),
            "—" if s.r2_reference is None else _shown(s.r2_reference), _shown(s.clip),
            _shown(s.attributes, 100, 0), f"{s.cpu_seconds.mean:.1f}",
        ]))  # fmt: skip
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _shown(x: Estimate, factor: float = 1, digits: int = 2) -> str:
    mean, low, high = (f"{factor * v:.{digits}f}" for v in x)
    return f"{mean} [{low}, {high}]"


def dominates(a: Summary, b: Summary, cost: Callable[[Summary], float]) -> bool:
    """Whether a is nowhere worse than b, SSR against a cost, and somewhere better.

    The SSR is the better scanner's, clean.
    """
    gains = _best(a) - _best(b), cost(b) - cost(a)
    return min(gains) >= 0 < max(gains)


def _best(summary: Summary) -> float:
    return max(x.mean for x in summary.clean.values())


# --- The command ---------------------------------------------------------------------------------


def all_methods() -> dict[str, Method]:
    """DiffQRCoder, its ablations, and what it is compared with, by name."""
    from course.diffqrcoder.ablations import ablations

    return {**ablations(), **BASELINES}


def chosen_methods(names: Sequence[str]) -> dict[str, Method]:
    """Methods by name, or all of them. Raises CourseError for a name that there is not."""
    known = all_methods()
    if unknown := [name for name in names if name not in known]:
        raise CourseError(f"No method is named {unknown[0]!r}; there are {', '.join(known)}.")
    return {name: known[name] for name in names or known}


def evaluate(pipeline: Any, n: int, names: Sequence[str], folder: Path) -> Iterator[Path]:
    """Run the comparison and write results.json, table.md, planes.png and the contact sheets.

    The path of each file, as it is written.
    """
    from course.diffqrcoder.comparison_figures import planes, sheets

    methods = chosen_methods(names)
    records = compare(pipeline, methods, cases(n), folder)
    summaries = {name: summarise(rows) for name, rows in records.items()}
    found = {name: dataclasses.asdict(s) for name, s in summaries.items()}
    texts = {
        "results.json": json.dumps(found, indent=1, ensure_ascii=False),
        "table.md": table(summaries),
    }
    for name, text in texts.items():
        write_atomically(folder / name, (text + "\n").encode())
        yield folder / name
    yield planes(summaries, folder / "planes.png")
    yield from sheets(folder, list(methods), n)

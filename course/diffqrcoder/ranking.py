"""An Avg-rank study for a class: pictures in a hidden, random order, ranked by clicking.

Everybody opens `ranking_widget` in a notebook and ranks; each ranking is a line of one JSON file.
`average_ranks` sums them up. The logic is here without a browser; the widget only shows it.
"""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from course.diffqrcoder.comparison import Estimate, bootstrap
from course.errors import CourseError
from course.plots import to_uint8
from course.weights import write_atomically

Ranking = dict[str, Any]


# --- The logic -----------------------------------------------------------------------------------


@dataclass
class Ballot:
    """One person's ranking of k pictures, in the making: `shown` says who is at which place.

    Clicking a place gives it the next rank, 1 being the best; clicking it again takes its rank back
    and those given after it move up.
    """

    shown: list[str]
    clicked: list[int] = field(default_factory=list)

    def click(self, place: int) -> None:
        """Rank the picture at a place, or take its rank back. Raises ValueError for no place."""
        if not 0 <= place < len(self.shown):
            raise ValueError(f"place is one of 0…{len(self.shown) - 1}, not {place}.")
        if place in self.clicked:
            self.clicked.remove(place)
        else:
            self.clicked.append(place)

    def rank(self, place: int) -> int | None:
        """The rank of a place, from 1, or None."""
        return self.clicked.index(place) + 1 if place in self.clicked else None

    @property
    def complete(self) -> bool:
        """Whether every picture has its rank."""
        return len(self.clicked) == len(self.shown)

    def ranks(self) -> dict[str, int]:
        """Each method's rank. Raises ValueError before the ranking is complete."""
        if not self.complete:
            raise ValueError(f"Only {len(self.clicked)} of {len(self.shown)} pictures are ranked.")
        return {self.shown[place]: i for i, place in enumerate(self.clicked, start=1)}


def ballots(methods: Sequence[str], rounds: int, seed: int) -> list[Ballot]:
    """A ballot for each round, every one in an order of its own.

    Raises ValueError for fewer than two methods, one that is named twice, or no rounds.
    """
    if len(methods) < 2 or len(set(methods)) < len(methods) or rounds < 1:
        raise ValueError(
            f"A study has two methods or more, each once, and a round: not {list(methods)} and "
            f"{rounds}."
        )
    generator = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(len(methods), generator=generator).tolist() for _ in range(rounds)]
    return [Ballot([methods[i] for i in order]) for order in orders]


def read_rankings(path: Path) -> list[Ranking]:
    """The rankings of a file; none where there is no file. Raises CourseError for another file."""
    if not path.exists():
        return []
    try:
        rankings = json.loads(path.read_text(encoding="utf-8"))["rankings"]
        assert all(sorted(r["ranks"].values()) == [*range(1, len(r["ranks"]) + 1)]
                   for r in rankings)  # fmt: skip
        return list(rankings)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, AssertionError) as error:
        raise CourseError(
            f"{path} holds no rankings of this study; move it away, or give another file."
        ) from error


def add_ranking(path: Path, who: str, round_: int, ranks: Mapping[str, int]) -> None:
    """Add one person's ranking of one round to the file; the same person's earlier one goes.

    Raises CourseError as `read_rankings` does, and where the file cannot be written.
    """
    kept = [r for r in read_rankings(path) if (r["who"], r["round"]) != (who, round_)]
    rankings = [*kept, {"who": who, "round": round_, "ranks": dict(ranks)}]
    text = json.dumps({"rankings": rankings}, indent=1, ensure_ascii=False) + "\n"
    write_atomically(path, text.encode())


def average_ranks(rankings: Sequence[Ranking], seed: int = 0) -> dict[str, Estimate]:
    """Each method's average rank with its 95 % interval, the best first: 1 is the best there is.

    What is resampled are people, not their single rankings: one person's are of one taste. Raises
    ValueError for no rankings, or rankings of different methods.
    """
    if not rankings or len({frozenset(r["ranks"]) for r in rankings}) > 1:
        raise ValueError("There are no rankings, or they are not all of the same methods.")
    people = sorted({r["who"] for r in rankings})
    by_person = {
        method: [_mean_rank(rankings, who, method) for who in people]
        for method in rankings[0]["ranks"]
    }
    found = {method: bootstrap(means, seed=seed) for method, means in by_person.items()}
    return dict(sorted(found.items(), key=lambda item: item[1].mean))


def _mean_rank(rankings: Sequence[Ranking], who: str, method: str) -> float:
    return float(np.mean([r["ranks"][method] for r in rankings if r["who"] == who]))


# --- The widget ----------------------------------------------------------------------------------


def ranking_widget(
    pictures: Mapping[str, Tensor], path: Path | str, who: str, seed: int = 0, width: int = 200
) -> Any:
    """A widget in which one person ranks the methods' pictures, round by round.

    pictures: each method's, (rounds, 3, h, w) in [0, 1], all of one length; who: the person, as
    the file names them; seed: decides the orders, give everybody another. `width` is in pixels.
    Raises ValueError for pictures of different numbers, and as `ballots` does.
    """
    rounds = {len(images) for images in pictures.values()}
    if len(rounds) != 1:
        raise ValueError(f"Every method has as many pictures, not {sorted(rounds)}.")
    votes = ballots(list(pictures), rounds.pop(), seed)
    return _Study(pictures, votes, Path(path), who, width).box


class _Study:
    """The widget's parts, and which round it is at."""

    def __init__(
        self,
        pictures: Mapping[str, Tensor],
        votes: list[Ballot],
        path: Path,
        who: str,
        width: int,
    ) -> None:
        import ipywidgets as widgets

        self.pictures, self.votes, self.path, self.who = pictures, votes, path, who
        self.round = 0
        n = len(pictures)
        self.images = [widgets.Image(format="png", width=width) for _ in range(n)]
        self.buttons = [widgets.Button(layout=widgets.Layout(width=f"{width}px")) for _ in range(n)]
        self.next = widgets.Button(description="Save and go on", button_style="primary")
        self.said = widgets.HTML()
        for place, button in enumerate(self.buttons):
            button.on_click(lambda _, place=place: self.click(place))
        self.next.on_click(lambda _: self.save())
        columns = [widgets.VBox(pair) for pair in zip(self.images, self.buttons, strict=True)]
        row = widgets.HBox(columns, layout=widgets.Layout(flex_flow="row wrap"))
        self.box = widgets.VBox([self.said, row, self.next])
        self.show()

    @property
    def ballot(self) -> Ballot:
        return self.votes[self.round]

    def click(self, place: int) -> None:
        self.ballot.click(place)
        self.show_ranks()

    def save(self) -> None:
        """Keep this round's ranking, and show the next round or the thanks."""
        add_ranking(self.path, self.who, self.round, self.ballot.ranks())
        if self.round + 1 < len(self.votes):
            self.round += 1
            self.show()
        else:
            self.next.disabled = True
            self.said.value = f"Thank you. Your rankings are in {self.path.name}."

    def show(self) -> None:
        for image, method in zip(self.images, self.ballot.shown, strict=True):
            image.value = png(self.pictures[method][self.round])
        self.said.value = (
            f"Round {self.round + 1} of {len(self.votes)}: click the picture that you like best, "
            "then the second, and so on. Clicking again takes a rank back."
        )
        self.show_ranks()

    def show_ranks(self) -> None:
        for place, button in enumerate(self.buttons):
            rank = self.ballot.rank(place)
            button.description = "rank it" if rank is None else str(rank)
        self.next.disabled = not self.ballot.complete


def png(image: Tensor) -> bytes:
    """A picture as the bytes of a PNG file: (3, h, w) in [0, 1]."""
    file = io.BytesIO()
    Image.fromarray(to_uint8(image[None] * 2 - 1)[0]).save(file, "PNG")
    return file.getvalue()

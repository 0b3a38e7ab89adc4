"""How an answer is judged: run it beside the reference on every case, and name what differs."""

import copy
import functools
import inspect
import linecache
import traceback
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn

Inputs = dict[str, Any]
Answer = Callable[..., Any]


def call(answer: Answer, inputs: Inputs) -> Any:
    """Run an answer on one case's inputs, by name; a generator's values become a list."""
    out = answer(**inputs)
    return list(out) if isinstance(out, Iterator) else out


class UnusableError(Exception):
    """What a `run` says to a learner whose answer it cannot use; shown as it stands."""


def give_weights(module: Any, reference: type[nn.Module], settings: Inputs) -> nn.Module:
    """Fill a learner's module with weights under the names of the reference's, drawn at random.

    The reference is built with the same `settings`. Every weight is drawn, those that start at zero
    too, so that each line of `forward` shows in the output. Raises UnusableError where the module's
    weights have other names or shapes.
    """
    if not isinstance(module, nn.Module):
        raise UnusableError(f"{reference.__name__} must stay a class of its own: an nn.Module.")
    given = _drawn_weights(reference, tuple(settings.items()))  # type: ignore[arg-type]
    mine = module.state_dict()
    if missing := [key for key in given if key not in mine]:
        raise UnusableError(
            f"Your {reference.__name__} has no weight `{missing[0]}`: keep `__init__`."
        )
    if unlike := [
        key for key, x in mine.items() if key not in given or x.shape != given[key].shape
    ]:
        raise UnusableError(f"The weight `{unlike[0]}` is not one of those given: keep `__init__`.")
    module.load_state_dict(given)
    return module


@functools.lru_cache(maxsize=32)
def _drawn_weights(
    reference: type[nn.Module], settings: tuple[tuple[str, Any], ...]
) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    # Over √(inputs a weight has), so that no output grows with the size of the layer.
    return {
        key: torch.randn(x.shape, generator=generator) / x[0].numel() ** 0.5
        for key, x in reference(**dict(settings)).state_dict().items()
    }


@dataclass(frozen=True)
class Case:
    """One set of inputs. `label` says in a few words what is special about it.

    Where the reference raises, an answer has to raise the same kind of error.
    """

    label: str
    inputs: Inputs


@dataclass(frozen=True)
class Mistake:
    """A wrong answer that people give, runnable, and what to say to somebody who gave it."""

    message: str
    answer: Answer


@dataclass(frozen=True)
class Exercise:
    """What a right answer must satisfy, and how wrong ones are told apart.

    `cases()` makes fresh inputs each time. `run(answer, inputs)` is how an answer is used: a class,
    say, is built, given the reference's weights, and called. `may_change` names inputs that the
    answer changes in place by design.
    """

    reference: Answer
    cases: Callable[[], list[Case]]
    mistakes: Sequence[Mistake]
    alternatives: Sequence[Answer]
    hints: Sequence[str]
    run: Callable[[Answer, Inputs], Any] = call
    may_change: frozenset[str] = frozenset()
    rtol: float = 1e-4
    atol: float = 1e-5

    @property
    def name(self) -> str:
        return self.reference.__name__


@dataclass(frozen=True)
class Verdict:
    """What a check found: "right", "not done", "wrong" or "the reference", and the lines to show."""

    state: str
    lines: list[str] = field(default_factory=list)

    @property
    def right(self) -> bool:
        return self.state == "right"


@dataclass(frozen=True)
class Outcome:
    """One run of an answer: its output, or the exception; and the inputs it changed."""

    output: Any = None
    error: Exception | None = None
    changed: tuple[str, ...] = ()


def judge_answer(exercise: Exercise, answer: Answer) -> Verdict:
    """Compare an answer with the reference on every case; stop at the first difference."""
    if lines := _signature_problem(exercise, answer):
        return Verdict("wrong", lines)
    for case in exercise.cases():
        expected = _attempt(exercise, exercise.reference, case.inputs)
        got = _attempt(exercise, answer, case.inputs)
        if _is_stub(got.error):
            return Verdict("not done")
        if problem := _problem(exercise, expected, got, answer):
            named = _known_mistake(exercise, answer)
            return Verdict("wrong", [named] if named else [*_show(case), *problem])
    return Verdict("right")


def _attempt(exercise: Exercise, answer: Answer, inputs: Inputs) -> Outcome:
    """Run an answer on copies of the inputs; global randomness is the same each time."""
    given = copy.deepcopy(inputs)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            output = exercise.run(answer, given)
        except Exception as error:
            return Outcome(error=error)
    changed = [
        name
        for name, before in inputs.items()
        if name not in exercise.may_change and difference(before, given[name], 0, 0)
    ]
    return Outcome(output, changed=tuple(changed))


def _is_stub(error: Exception | None) -> bool:
    return isinstance(error, NotImplementedError)


def _problem(exercise: Exercise, expected: Outcome, got: Outcome, answer: Answer) -> list[str]:
    """Why an outcome is not the expected one, in lines to show; empty where it is."""
    if expected.error is not None:
        wanted = type(expected.error).__name__
        if isinstance(got.error, type(expected.error)):
            return []
        happened = "no error" if got.error is None else type(got.error).__name__
        return [f"expected: a {wanted} for this input", f"got:      {happened}"]
    if got.error is not None:
        return _show_error(got.error, answer)
    if got.changed:
        names = ", ".join(f"`{name}`" for name in got.changed)
        return [f"Your code changed its input {names} in place; work on a copy, or out of place."]
    return difference(expected.output, got.output, exercise.rtol, exercise.atol)


def _known_mistake(exercise: Exercise, answer: Answer) -> str | None:
    """The message of the known mistake that behaves like the answer on every case, if one does."""
    cases = exercise.cases()
    outcomes = [_attempt(exercise, answer, case.inputs) for case in cases]
    for mistake in exercise.mistakes:
        twins = (_attempt(exercise, mistake.answer, case.inputs) for case in cases)
        if all(_alike(exercise, a, b) for a, b in zip(outcomes, twins, strict=True)):
            return mistake.message
    return None


def _alike(exercise: Exercise, a: Outcome, b: Outcome) -> bool:
    if a.error is not None or b.error is not None:
        return type(a.error) is type(b.error)
    same = not difference(b.output, a.output, exercise.rtol, exercise.atol)
    return same and a.changed == b.changed


# --- Comparing two outputs ------------------------------------------------------------------


def difference(expected: Any, got: Any, rtol: float, atol: float, where: str = "") -> list[str]:
    """How `got` differs from `expected`, in lines to show; empty where it does not.

    Values are close when |got − expected| ≤ atol + rtol · |expected|, each on its own.
    """
    if isinstance(expected, Tensor):
        return _tensor_difference(expected, got, rtol, atol, where)
    if isinstance(expected, nn.Module):
        return difference(expected.state_dict(), _state(got), rtol, atol, where)
    if isinstance(expected, torch.Generator):
        return []
    if isinstance(expected, Mapping):
        return _mapping_difference(expected, got, rtol, atol, where)
    if isinstance(expected, list | tuple):
        return _sequence_difference(expected, got, rtol, atol, where)
    if isinstance(expected, bool | str) or expected is None or callable(expected):
        return [] if _same_object(expected, got) else _expected_got(expected, got, where)
    return _number_difference(expected, got, rtol, atol, where)


def _state(x: Any) -> Any:
    return x.state_dict() if isinstance(x, nn.Module) else x


def _same_object(expected: Any, got: Any) -> bool:
    # A copied closure is another object that does the same: functions are not compared.
    return callable(expected) or (type(expected) is type(got) and expected == got)


def _expected_got(expected: Any, got: Any, where: str) -> list[str]:
    return [f"expected{where}: {_brief(expected)}", f"got{where}:      {_brief(got)}"]


def _tensor_difference(
    expected: Tensor, got: Any, rtol: float, atol: float, where: str
) -> list[str]:
    if not isinstance(got, Tensor):
        kind = f"a tensor of shape {tuple(expected.shape)}"
        return [f"expected{where}: {kind}", f"got{where}:      {_brief(got)}"]
    for what in ("shape", "dtype", "device"):
        a, b = getattr(expected, what), getattr(got, what)
        if a != b:
            a, b = (tuple(a), tuple(b)) if what == "shape" else (a, b)
            return [f"expected{where}: {what} {a}", f"got{where}:      {what} {b}"]
    a, b = expected.detach().cpu().double(), got.detach().cpu().double()
    wrong = ~torch.isclose(b, a, rtol=rtol, atol=atol, equal_nan=True)
    if not wrong.any():
        return []
    index = tuple(torch.nonzero(wrong)[0].tolist())
    place = f"{where} at [{', '.join(map(str, index))}]" if index else where
    count = f"{int(wrong.sum())} of {wrong.numel()} values differ"
    nan = "; yours holds NaN" if b.isnan().any() and not a.isnan().any() else ""
    return [
        f"expected{place}: {a[index].item():.5g}",
        f"got{place}:      {b[index].item():.5g}",
        f"({count}{nan})",
    ]


def _number_difference(expected: Any, got: Any, rtol: float, atol: float, where: str) -> list[str]:
    if isinstance(got, Tensor) and got.ndim == 0:
        got = got.item()
    if not isinstance(got, Real) or isinstance(got, bool):
        return _expected_got(expected, got, where)
    a, b = (torch.tensor(float(x), dtype=torch.float64) for x in (expected, got))
    close = torch.isclose(b, a, rtol=rtol, atol=atol, equal_nan=True)
    return [] if close else _expected_got(expected, got, where)


def _mapping_difference(
    expected: Mapping[Any, Any], got: Any, rtol: float, atol: float, where: str
) -> list[str]:
    if not isinstance(got, Mapping) or list(expected) != list(got):
        return _expected_got(dict(expected), got, where)
    for key in expected:
        if lines := difference(expected[key], got[key], rtol, atol, f"{where}, {key}"):
            return lines
    return []


def _sequence_difference(
    expected: Sequence[Any], got: Any, rtol: float, atol: float, where: str
) -> list[str]:
    if not isinstance(got, list | tuple) or len(expected) != len(got):
        length = f"{len(got)} values" if isinstance(got, list | tuple) else _brief(got)
        return [f"expected{where}: {len(expected)} values", f"got{where}:      {length}"]
    for i, (a, b) in enumerate(zip(expected, got, strict=True)):
        if lines := difference(a, b, rtol, atol, f"{where}, value {i}"):
            return lines
    return []


# --- Saying it -------------------------------------------------------------------------------


def _brief(x: Any) -> str:
    """A value in at most a line."""
    if isinstance(x, Tensor):
        if x.numel() <= 6:
            return f"{[round(v, 5) for v in x.detach().flatten().tolist()]}, shape {tuple(x.shape)}"
        return f"a tensor of shape {tuple(x.shape)}, {x.dtype}"
    if isinstance(x, nn.Module):
        return f"a {type(x).__name__}"
    if isinstance(x, float):
        return f"{x:.5g}"
    if isinstance(x, Generator):
        return "a generator"
    if callable(x):
        return f"the function {getattr(x, '__name__', '…')}"
    text = repr(x)
    return text if len(text) <= 70 else f"{text[:67]}..."


def _show(case: Case) -> list[str]:
    """The case and its inputs, one a line."""
    given = [f"  {name} = {_brief(value)}" for name, value in case.inputs.items()]
    return [f"The first case that differs: {case.label}.", *given]


def _show_error(error: Exception, answer: Answer) -> list[str]:
    """An exception, with the learner's own last line on the way to it."""
    kind = "" if isinstance(error, UnusableError) else f"{type(error).__name__}: "
    lines = [f"{kind}{error}".split("\n")[0]]
    if file := _file_of(answer):
        frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == file]
        if frames:
            number = frames[-1].lineno or 0
            source = frames[-1].line or linecache.getline(file, number).strip()
            lines.append(f"raised from line {number} of your cell:  {source}")
    return lines


def _file_of(answer: Answer) -> str | None:
    try:
        return inspect.getfile(inspect.unwrap(answer))
    except (TypeError, OSError):
        # A class defined in a notebook has no file of its own; its methods do.
        methods = [m for m in vars(answer).values() if inspect.isfunction(m)]
        return methods[0].__code__.co_filename if methods else None


def _signature_problem(exercise: Exercise, answer: Answer) -> list[str]:
    """Parameters of the reference that the answer no longer has."""
    if not callable(answer):
        return [f"expected: a function named {exercise.name}", f"got:      {_brief(answer)}"]
    try:
        theirs = inspect.signature(answer).parameters
    except (TypeError, ValueError):
        return []
    if any(p.kind is p.VAR_KEYWORD for p in theirs.values()):
        return []
    ours = inspect.signature(exercise.reference).parameters
    missing = [name for name in ours if name not in theirs]
    if not missing:
        return []
    return [
        f"Your {exercise.name} has lost its parameter {', '.join(f'`{m}`' for m in missing)}; "
        f"its first line is `{exercise.name}({', '.join(ours)})`."
    ]

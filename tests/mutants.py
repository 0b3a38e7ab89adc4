"""Mutants of the references, made with cosmic-ray's operators: what slips past the checks?

`python -m tests.mutants` prints the share killed per exercise, and every survivor.
"""

import inspect
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

from course.checks import exercises
from course.checks.engine import Answer, Exercise, judge_answer

# Operators that only ever raise on tensors and floats (bit shifts, say) would flatter the result.
NONSENSE = ("Bit", "Shift", "_Is", "Mod", "FloorDiv", "Invert", "Variable", "Decorator")
OPERATORS = [n for n in operator_names() if not any(word in n for word in NONSENSE)]
SECONDS_PER_MUTANT = 10
BYTES_PER_MUTANT = 8 << 30  # of address space, of which torch alone takes half


def mutants(source: str) -> Iterator[str]:
    """Every different source that one operator makes of `source` by one change to its code."""
    seen = {source}
    for name in OPERATORS:
        occurrence = 0
        while mutant := mutate_code(source, get_operator(name)(), occurrence):
            occurrence += 1
            if mutant not in seen:
                seen.add(mutant)
                yield mutant


def changed_lines(source: str, mutant: str) -> str:
    """What a mutant did, as `old -> new` of the lines that differ."""
    pairs = zip(source.splitlines(), mutant.splitlines(), strict=False)
    return "; ".join(f"{a.strip()} -> {b.strip()}" for a, b in pairs if a != b)


def as_answer(exercise: Exercise, mutant: str) -> Answer:
    """The mutant in the place of the reference, among the names of the reference's module."""
    names: dict[str, Any] = dict(vars(sys.modules[exercise.reference.__module__]))
    exec(compile(mutant, f"<mutant of {exercise.name}>", "exec"), names)
    answer: Answer = names[exercise.name]
    return answer


@contextmanager
def time_limit() -> Iterator[None]:
    """Raise TimeoutError in a mutant that never ends (where the system has alarms)."""

    def on_alarm(number: int, frame: Any) -> None:
        raise TimeoutError

    if not hasattr(signal, "SIGALRM"):
        yield
        return
    before = signal.signal(signal.SIGALRM, on_alarm)
    signal.alarm(SECONDS_PER_MUTANT)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def memory_limit() -> Iterator[None]:
    """Make a mutant that builds a layer of 8^8 channels fail, not the machine (except Windows)."""
    try:
        import resource
    except ImportError:
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (BYTES_PER_MUTANT, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def survives(exercise: Exercise, mutant: str) -> bool:
    """Whether the exercise's check calls the mutant right."""
    try:
        with time_limit(), memory_limit(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return judge_answer(exercise, as_answer(exercise, mutant)).right
    except Exception:
        # The mutant does not even define the function, or never ends.
        return False


def census(exercise: Exercise) -> tuple[int, list[str]]:
    """How many mutants an exercise has, and what the surviving ones changed."""
    source = inspect.getsource(exercise.reference)
    made = list(mutants(source))
    return len(made), [changed_lines(source, m) for m in made if survives(exercise, m)]


def main() -> None:
    total, alive = 0, 0
    for exercise in exercises().values():
        made, survivors = census(exercise)
        total, alive = total + made, alive + len(survivors)
        print(f"{exercise.name:24} {made - len(survivors):4} of {made:4} killed")
        for survivor in survivors:
            print(f"    {survivor}")
    print(f"{'all':24} {total - alive:4} of {total:4} killed: {1 - alive / total:.1%}")


if __name__ == "__main__":
    main()

"""`check` tells whether an answer is right, and if not, what kind of mistake it is.

    q_sample = check(q_sample)

It returns what later cells should use: the learner's answer when it is right, else the reference.
"""

import difflib
import functools
import importlib
import pkgutil
from typing import Any

from course.checks.engine import Answer, Exercise, Verdict, judge_answer

_hints_given: dict[str, int] = {}


@functools.cache
def exercises() -> dict[str, Exercise]:
    """Every exercise of the course by its name, in the order of the lessons' modules."""
    found: dict[str, Exercise] = {}
    for module in pkgutil.iter_modules(__path__):
        lesson = importlib.import_module(f"{__name__}.{module.name}")
        for exercise in getattr(lesson, "EXERCISES", ()):
            if exercise.name in found:
                raise ValueError(f"Two exercises are named {exercise.name}.")
            found[exercise.name] = exercise
    return found


def find(name: str) -> Exercise:
    """The exercise of that name. Raises ValueError, with the nearest names, where there is none."""
    known = exercises()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3) or sorted(known)
        raise ValueError(f"No exercise is named {name!r}; did you mean {', '.join(near)}?")
    return known[name]


def check(answer: Answer) -> Any:
    """Judge an answer, say so, and return what later cells should use.

    The answer itself when it is right, else the reference. The exercise is found by the answer's
    own name; ValueError where there is none of that name.
    """
    exercise = find(_name(answer))
    # After an undone check the name holds the reference: that must not count as an answer.
    ours = answer is exercise.reference
    verdict = Verdict("the reference") if ours else judge_answer(exercise, answer)
    print(report(exercise.name, verdict))
    return answer if verdict.right else exercise.reference


def report(name: str, verdict: Verdict) -> str:
    """A verdict as the text that a learner reads."""
    if verdict.right:
        return f"✓ {name} is right. Later cells use yours."
    if verdict.state == "not done":
        return f"○ {name} is not done yet. Later cells use the reference until it is."
    if verdict.state == "the reference":
        return f"○ This {name} is the reference. Run the cell with your own, then this one."
    lines = "\n".join(f"  {line}" for line in verdict.lines)
    return f"✗ {name} is not right yet.\n{lines}\n  Later cells use the reference until it is."


def hint(answer: Answer | str) -> None:
    """Print the next hint for an exercise; each call says a little more.

    answer: the exercise's function or class, or its name.
    """
    exercise = find(answer if isinstance(answer, str) else _name(answer))
    given = _hints_given.get(exercise.name, 0)
    number = min(given, len(exercise.hints) - 1)
    _hints_given[exercise.name] = given + 1
    more = "" if number + 1 < len(exercise.hints) else " That was the last one."
    print(f"Hint {number + 1} of {len(exercise.hints)}: {exercise.hints[number]}{more}")


def _name(answer: Answer) -> str:
    name = getattr(answer, "__name__", None)
    if name is None:
        raise ValueError(
            "check takes the function or class that you wrote, as in "
            "`q_sample = check(q_sample)`, without calling it."
        )
    return name

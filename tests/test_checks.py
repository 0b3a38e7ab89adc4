"""Every exercise's check: mistakes are named, right answers pass, sabotage is caught."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from course.checks import check, exercises, find, hint
from course.checks.engine import Answer, Exercise, Mistake, judge_answer

ALL = list(exercises().values())
MISTAKES = [pytest.param(e, m, id=f"{e.name}-{i}") for e in ALL for i, m in enumerate(e.mistakes)]
ALTERNATIVES = [
    pytest.param(e, a, id=f"{e.name}-{i}") for e in ALL for i, a in enumerate(e.alternatives)
]
each_exercise = pytest.mark.parametrize("exercise", ALL, ids=lambda e: e.name)


def is_number(x: Any) -> bool:
    return isinstance(x, float | int) and not isinstance(x, bool)


def change_tensors(out: Any, change: Callable[[Tensor], Any]) -> Any:
    """An output with a change made to every tensor and number in it, or in what it gives."""
    if isinstance(out, Tensor):
        return change(out)
    if isinstance(out, np.ndarray):
        return change(torch.from_numpy(out)).numpy()
    if is_number(out):
        changed = change(torch.tensor(float(out)))
        return changed.item() if changed.ndim == 0 else changed
    if isinstance(out, dict):
        return {name: change_tensors(x, change) for name, x in out.items()}
    if isinstance(out, Iterator):
        return (change_tensors(x, change) for x in out)
    if isinstance(out, tuple) and hasattr(out, "_fields"):
        return type(out)(*(change_tensors(x, change) for x in out))
    if isinstance(out, list | tuple):
        return type(out)(change_tensors(x, change) for x in out)
    if isinstance(out, nn.Module):
        for part in out.modules():
            part.register_forward_hook(lambda _, __, given: change_tensors(given, change))
        return out
    if callable(out):
        return lambda *args, **names: change_tensors(out(*args, **names), change)
    return out


def sabotaged(exercise: Exercise, change: Callable[[Tensor], Any]) -> Answer:
    """The reference with its output changed, or what it changes in place where it returns none."""
    reference = exercise.reference

    def answer(**inputs: Any) -> Any:
        out = reference(**inputs)
        for name in exercise.may_change:
            for p in inputs[name].parameters():
                p.data = change(p.data)
        return change_tensors(out, change)

    if not isinstance(reference, type):
        return answer

    def forward(self: nn.Module, *args: Any) -> Any:
        return change_tensors(reference.forward(self, *args), change)  # type: ignore[attr-defined]

    return type(reference.__name__, (reference,), {"forward": forward})


def cancelling(x: Tensor) -> Tensor:
    """x with errors that add up to nothing."""
    if x.numel() < 2 or not x.is_floating_point():
        return x + 1
    error = torch.full_like(x.flatten(), 0.1)
    error[1::2] = -0.1
    error[-1] -= error.sum()
    return x + error.reshape(x.shape)


def test_the_course_has_its_exercises() -> None:
    assert len(ALL) >= 18


@each_exercise
def test_has_enough_to_teach_with(exercise: Exercise) -> None:
    assert len(exercise.mistakes) >= 3
    assert len(exercise.alternatives) >= 2
    assert len(exercise.hints) >= 2
    assert len(exercise.cases()) >= 2
    messages = [m.message for m in exercise.mistakes]
    assert len(set(messages)) == len(messages)


@each_exercise
def test_the_reference_is_right(exercise: Exercise) -> None:
    assert judge_answer(exercise, exercise.reference).right


@pytest.mark.parametrize(("exercise", "alternative"), ALTERNATIVES)
def test_right_answers_written_another_way_pass(exercise: Exercise, alternative: Answer) -> None:
    verdict = judge_answer(exercise, alternative)
    assert verdict.right, verdict.lines


@pytest.mark.parametrize(("exercise", "mistake"), MISTAKES)
def test_a_known_mistake_is_named(exercise: Exercise, mistake: Mistake) -> None:
    verdict = judge_answer(exercise, mistake.answer)
    assert (verdict.state, verdict.lines) == ("wrong", [mistake.message])


SABOTAGE: dict[str, Callable[[Tensor], Any]] = {
    "nan": lambda x: x * torch.nan,
    "another shape": lambda x: x.unsqueeze(0),
    "errors that cancel": cancelling,
    "detached zero": lambda x: x * 0,
    "another dtype": lambda x: x.to(torch.float16),
}


@each_exercise
@pytest.mark.parametrize("how", SABOTAGE)
def test_sabotage_is_caught(exercise: Exercise, how: str) -> None:
    output = exercise.run(exercise.reference, exercise.cases()[0].inputs)
    numbers = is_number(output) or (isinstance(output, list) and all(map(is_number, output)))
    if how == "another dtype" and numbers:
        pytest.skip("a plain number has no dtype")
    assert judge_answer(exercise, sabotaged(exercise, SABOTAGE[how])).state == "wrong"


def first_tensor(inputs: dict[str, Any]) -> Any:
    return next((x for x in inputs.values() if isinstance(x, Tensor)), 0)


@each_exercise
@pytest.mark.parametrize("what", ["0", "None", "the first input"])
def test_lazy_answers_are_caught(exercise: Exercise, what: str) -> None:
    value = {"0": lambda _: 0, "None": lambda _: None, "the first input": first_tensor}[what]

    def forward(self: nn.Module, *args: Any) -> Any:
        return value({"x": args[0]})

    def function(**inputs: Any) -> Any:
        return value(inputs)

    reference, lazy = exercise.reference, function
    if isinstance(reference, type):
        lazy = type("Lazy", (reference,), {"forward": forward})
    assert judge_answer(exercise, lazy).state == "wrong"


@each_exercise
def test_a_changed_input_is_caught(exercise: Exercise) -> None:
    def spoil(inputs: dict[str, Any]) -> None:
        for name, x in inputs.items():
            if isinstance(x, Tensor) and name not in exercise.may_change:
                x.copy_(~x if x.dtype == torch.bool else x + 1)

    cases = exercise.cases()
    kept = [x for case in cases for n, x in case.inputs.items() if n not in exercise.may_change]
    spoilable = [x for x in kept if isinstance(x, Tensor)]
    if not spoilable:
        pytest.skip("no input is a tensor")

    def run(answer: Answer, inputs: dict[str, Any]) -> Any:
        out = exercise.run(exercise.reference, inputs)
        if answer is not exercise.reference:
            spoil(inputs)
        return out

    spied = Exercise(
        exercise.reference, exercise.cases, (), (), (), run, exercise.may_change, 1e-4, 1e-5
    )
    verdict = judge_answer(spied, lambda **inputs: None)
    assert verdict.state == "wrong"
    assert "changed its input" in verdict.lines[-1]


# --- What a learner reads -------------------------------------------------------------------------


def test_not_done_yet_gives_the_reference(capsys: pytest.CaptureFixture[str]) -> None:
    def q_sample(x0, t, eps, alpha_bars):  # type: ignore[no-untyped-def]
        raise NotImplementedError

    assert check(q_sample) is find("q_sample").reference
    assert "not done yet" in capsys.readouterr().out


def test_a_right_answer_is_what_later_cells_use(capsys: pytest.CaptureFixture[str]) -> None:
    def snr(alpha_bars):  # type: ignore[no-untyped-def]
        return alpha_bars / (1 - alpha_bars)

    assert check(snr) is snr
    assert "✓ snr is right" in capsys.readouterr().out


def test_the_reference_itself_does_not_count(capsys: pytest.CaptureFixture[str]) -> None:
    check(find("snr").reference)
    assert "is the reference" in capsys.readouterr().out


def test_a_wrong_value_is_shown_with_its_inputs(capsys: pytest.CaptureFixture[str]) -> None:
    def snr(alpha_bars):  # type: ignore[no-untyped-def]
        return alpha_bars * 7

    check(snr)
    out = capsys.readouterr().out
    for part in ("alpha_bars = [0.9, 0.5, 0.2]", "expected at [0]: 9", "got at [0]:      6.3"):
        assert part in out


def test_an_exception_is_shown_with_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    def snr(alpha_bars):  # type: ignore[no-untyped-def]
        return alpha_bars.no_such_thing

    check(snr)
    out = capsys.readouterr().out
    assert "AttributeError" in out
    assert "return alpha_bars.no_such_thing" in out


def test_a_lost_parameter_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    def snr(abar):  # type: ignore[no-untyped-def]
        return abar

    check(snr)
    assert "`alpha_bars`" in capsys.readouterr().out


def test_unknown_names_get_the_nearest() -> None:
    def q_sampel():  # type: ignore[no-untyped-def]
        pass

    with pytest.raises(ValueError, match="q_sample"):
        check(q_sampel)


def test_a_result_instead_of_a_function_is_explained() -> None:
    with pytest.raises(ValueError, match="without calling it"):
        check(torch.zeros(3))  # type: ignore[arg-type]


def test_hints_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(5):
        hint("cosine_schedule")
    out = capsys.readouterr().out.splitlines()
    assert [line[:6] for line in out] == ["Hint 1", "Hint 2", "Hint 3", "Hint 3", "Hint 3"]
    assert out[0] != out[1]


@each_exercise
def test_no_message_shows_the_reference(exercise: Exercise) -> None:
    import inspect

    body = [
        line.strip()
        for line in inspect.getsource(exercise.reference).splitlines()
        if line.strip().startswith("return ") and len(line.strip()) > 25
    ]
    said = [m.message for m in exercise.mistakes] + list(exercise.hints)
    assert not [line for line in body for text in said if line.removeprefix("return ") in text]

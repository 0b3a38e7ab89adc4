"""An exercise's text, cut from the package's source file: no module is imported for it."""

import ast
from pathlib import Path

from course.authoring.fingerprint import module_file
from course.errors import CourseError

Function = ast.FunctionDef | ast.AsyncFunctionDef
Definition = Function | ast.ClassDef


def solution(name: str, root: Path) -> str:
    """The source of the function or class `course.<name>`, its decorators included.

    Raises CourseError where there is no such definition.
    """
    lines, node = _find(name, root)
    return "\n".join(lines[_first_line(node) - 1 : node.end_lineno])


def marked(name: str, root: Path, stub: str = "", lines: int | None = None) -> str:
    """The same source with nbgrader's solution marks around each body that a learner writes.

    stub: which methods of a class, as "forward" or "encode, decode" (all but `__init__` when
    empty); lines: the length to announce where there is one body (counted when None). Raises
    CourseError for a method that is not there, or a body that cannot be cut out.
    """
    text, node = _find(name, root)
    bodies = _to_write(name, node, stub)
    if lines is not None and len(bodies) > 1:
        raise CourseError(f"{name}: `lines` is for one body, but {len(bodies)} are stubbed.")
    for function in reversed(bodies):
        start, end = _body(name, function, text)
        about = lines or sum(_is_code(line) for line in text[start:end])
        indent = " " * function.body[0].col_offset
        hint = f"{indent}# about {about} line{'s' if about > 1 else ''}"
        text[end:end] = [f"{indent}### END SOLUTION"]
        text[start:start] = [hint, f"{indent}### BEGIN SOLUTION"]
    assert node.end_lineno is not None
    return "\n".join(text[_first_line(node) - 1 : node.end_lineno + 3 * len(bodies)])


def _find(name: str, root: Path) -> tuple[list[str], Definition]:
    """The lines of the file that defines `course.<name>`, and the definition's node."""
    module, _, symbol = name.rpartition(".")
    path = module_file(f"course.{module}", root) if module else None
    if path is None:
        raise CourseError(
            f'"{name}" is no exercise: there is no module course.{module}; an exercise is named '
            '"module.function" or "module.Class".'
        )
    text = path.read_text(encoding="utf-8")
    for node in ast.parse(text).body:
        if isinstance(node, Definition) and node.name == symbol:
            return text.split("\n"), node
    raise CourseError(
        f'"{name}" is no exercise: {path.relative_to(root).as_posix()} defines no function or '
        f"class {symbol}."
    )


def _to_write(name: str, node: Definition, stub: str) -> list[Function]:
    """The functions whose bodies are left to the learner, in the order of the file."""
    if not isinstance(node, ast.ClassDef):
        if stub:
            raise CourseError(f"{name} is a function: `stub` is for the methods of a class.")
        return [node]
    methods = {f.name: f for f in node.body if isinstance(f, Function)}
    wanted = (
        [m.strip() for m in stub.split(",")] if stub else [m for m in methods if m != "__init__"]
    )
    for method in wanted:
        if method not in methods:
            raise CourseError(f"{name} has no method {method}; it has {', '.join(methods)}.")
    if not wanted:
        raise CourseError(f"{name} has no method to write but __init__; name it with `stub`.")
    return [f for f in methods.values() if f.name in wanted]


def _body(name: str, function: Function, lines: list[str]) -> tuple[int, int]:
    """Where a body stands among the lines, as a half-open range: after its docstring, if any.

    Comments above the first statement belong to the body: they may give the answer away.
    """
    first, end = function.body[0], function.end_lineno
    assert first.end_lineno is not None
    assert end is not None
    if lines[first.lineno - 1][: first.col_offset].strip():
        raise CourseError(f"{name}: the body of {function.name} must begin on a line of its own.")
    if ast.get_docstring(function) is None:
        start = _first_line(first) - 1
        while not _is_code(lines[start - 1]):
            start -= 1
        return start, end
    if len(function.body) == 1:
        raise CourseError(f"{name}: {function.name} has a docstring alone, so nothing to write.")
    return first.end_lineno, end


def _first_line(node: ast.stmt) -> int:
    """The line a statement begins on, counted from 1; a decorator is its beginning."""
    decorators = node.decorator_list if isinstance(node, Definition) else []
    return min([node.lineno, *(d.lineno for d in decorators)])


def _is_code(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("#")

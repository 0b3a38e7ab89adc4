"""What a lesson's outputs depend on, as one hash: an unchanged lesson need not run again."""

import ast
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def fingerprint(cells: Iterable[str], source: str, modules: Iterable[str], root: Path) -> str:
    """The SHA-256, in hex, of everything that decides what a lesson's cells print.

    cells: the text of its code cells, exercises filled in; source: the lesson's Python text, whose
    imports are followed; modules: dotted names that count as imported too. Comments, layout and
    docstrings of modules do not matter, and neither does the version of Python.
    """
    lesson = ast.parse(source)
    reached = _reached([*_imports(lesson, ""), *modules], root)
    parts = [f"cell {cell}" for cell in cells]
    parts += [f"module {name} {canonical(tree)}" for name, tree in sorted(reached.items())]
    parts += [f"weights {card}" for card in _cards([lesson, *reached.values()], root)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def module_file(module: str, root: Path) -> Path | None:
    """The file of a dotted module name under `root`, or None where there is none."""
    base = root.joinpath(*module.split("."))
    candidates = [base / "__init__.py", base.with_name(base.name + ".py")]
    return next((path for path in candidates if path.is_file()), None)


def canonical(node: object) -> str:
    """A syntax tree as text: `ast.dump` without docstrings, the same on every Python 3.11+.

    `ast.dump` itself shows empty fields on some versions and hides them on others.
    """
    if isinstance(node, list):
        return "[" + ",".join(canonical(item) for item in node) + "]"
    if not isinstance(node, ast.AST):
        return ascii(node)
    fields = dict(ast.iter_fields(node))
    if isinstance(node, Documented) and ast.get_docstring(node, clean=False) is not None:
        fields["body"] = node.body[1:]
    if isinstance(node, ast.JoinedStr):  # Python 3.12 puts empty texts into some f-strings.
        fields["values"] = [v for v in node.values if getattr(v, "value", None) != ""]
    told = (
        f"{name}={canonical(value)}" for name, value in fields.items() if value not in (None, [])
    )
    return f"{type(node).__name__}({','.join(told)})"


def _reached(names: Iterable[str], root: Path) -> dict[str, ast.Module]:
    """The course's modules that these names import, directly or not, each as a syntax tree."""
    found: dict[str, ast.Module] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        path = module_file(name, root) if name.split(".")[0] == "course" else None
        if path is None or name in found:
            continue
        found[name] = ast.parse(path.read_text(encoding="utf-8"))
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        waiting += _imports(found[name], package)
    return found


def _imports(tree: ast.AST, package: str) -> Iterator[str]:
    """The names that a tree imports, each with the packages it lies in.

    `from a import b` gives a.b too: b may be a module. package: where relative imports start.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            up = (
                package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            )
            start = ".".join([*up, *([node.module] if node.module else [])])
            names = [f"{start}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            yield from (".".join(parts[: i + 1]) for i in range(len(parts)))


def _cards(trees: Iterable[ast.Module], root: Path) -> list[str]:
    """The cards of the shipped weights that the code names: each holds its weights' SHA-256."""
    nodes = (node for tree in trees for node in ast.walk(tree))
    texts = {node.value for node in nodes if isinstance(node, ast.Constant)}
    paths = sorted((root / "data" / "weights").glob("*.json"))
    return [path.read_text(encoding="utf-8") for path in paths if path.stem in texts]

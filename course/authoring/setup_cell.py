"""The first cell of every notebook, and the Colab badge: how a learner gets to the code."""

import tomllib
from pathlib import Path

from course.errors import CourseError

FIND = """\
# Run me first: I find the course's code in this folder or one above it.
{imports}
from pathlib import Path

# VS Code says where the notebook lies; elsewhere it lies in the working folder.
here = Path(globals().get("__vsc_ipynb_file__", "notebook")).resolve()
root = next((p for p in here.parents if (p / "course" / "__init__.py").is_file()), None)
if root is None:
{otherwise}
sys.path.insert(0, str(root))"""

GIVE_UP = """\
    raise SystemExit("The course's code is not here: open this notebook inside its repository.")"""

CLONE = """\
    root, url = Path("{name}").resolve(), "{repository}"
    clone = ["git", "clone", "--quiet", "--depth=1", "--branch={tag}", url, str(root)]
    if not root.exists() and subprocess.call(clone):
        raise SystemExit(f"git could not fetch {{url}}: check the network, then run me again.")"""

BADGE = (
    "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
    "(https://colab.research.google.com/github/{path}/blob/{tag}/notebooks/{lesson}.ipynb)"
)


def public_address(root: Path) -> tuple[str, str]:
    """The repository's public address ("" where unset) and tag: `[tool.course]` in pyproject.toml.

    Raises CourseError for an address that git cannot clone over https, or one without a tag.
    """
    file = root / "pyproject.toml"
    settings = tomllib.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    chosen = settings.get("tool", {}).get("course", {})
    repository = chosen.get("repository", "").removesuffix("/").removesuffix(".git")
    tag = chosen.get("tag", "")
    if repository and not (repository.startswith("https://") and tag):
        raise CourseError(
            "pyproject.toml, [tool.course]: repository is an https:// address and comes with a tag."
        )
    return repository, tag


def setup_cell(root: Path) -> str:
    """The text of the "Run me first" cell; it can clone only where the public address is set."""
    repository, tag = public_address(root)
    if not repository:
        return FIND.format(imports="import sys", otherwise=GIVE_UP)
    name = repository.rpartition("/")[2]
    clone = CLONE.format(name=name, repository=repository, tag=tag)
    return FIND.format(imports="import subprocess\nimport sys", otherwise=clone)


def with_badge(markdown: str, lesson: str, root: Path) -> str:
    """The lesson's first text with the Colab badge under its title; Colab opens GitHub alone."""
    repository, tag = public_address(root)
    host, path = "https://github.com/", repository.removeprefix("https://github.com/")
    if not repository.startswith(host):
        return markdown
    title, _, rest = markdown.partition("\n")
    return f"{title}\n\n{BADGE.format(path=path, tag=tag, lesson=lesson)}\n{rest}".rstrip("\n")

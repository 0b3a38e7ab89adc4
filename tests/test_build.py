"""The builder, on a toy course in a temporary folder; then: are this repository's lessons fresh?"""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbgrader.nbgraderformat import MetadataValidator

from course.authoring import build as builder
from course.authoring import execute
from course.authoring.build import build, build_all, solved_notebook, stale, student_notebook
from course.authoring.exercises import marked, solution
from course.authoring.fingerprint import canonical, fingerprint
from course.authoring.lesson import ROOT, lessons, source_hash
from course.authoring.setup_cell import public_address, setup_cell
from course.errors import CourseError

LESSON = "01_toy"

SOURCE = """\
# %% [markdown]
# # 01 · A toy
#
# Prose with √ᾱ in it.

# %%
import functools
import sys

from course.checks import check
from course.toy import OFFSET

# %% exercise="toy.shifted" lines=2

# %%
shifted = check(shifted)
### BEGIN HIDDEN TESTS
assert shifted(0) == OFFSET
### END HIDDEN TESTS

# %% exercise="toy.Scale" stub="forward"

# %%
Scale = check(Scale)

# %% inline="toy.shown"

# %%
print(shifted(1), Scale(3).forward(2), shown())
object()

# %%
OFFSET;

# %% tags=["nbval-ignore-output"]
print("a progress bar", file=sys.stderr)
"""

TOY = '''\
"""The toy's reference."""

import functools

from .ground import OFFSET


@functools.lru_cache
def shifted(x: int) -> int:
    """x, moved.

    x: any integer.
    """
    # The answer, in a comment.
    y = x + OFFSET

    return y


class Scale:
    """Multiplies."""

    def __init__(self, by: int) -> None:
        self.by = by

    def forward(self, x: int) -> int:
        # Also the answer.
        return x * self.by

    def backward(self, x: int) -> int:
        """The way back."""
        return x // self.by


def shown() -> str:
    return "shown"


def talk() -> None:
    """Only words."""


def short() -> int: return 1
'''

CHECKS = '''\
"""A check that knows the reference."""

import course.toy


def check(answer):
    return getattr(course.toy, answer.__name__)
'''

SHIFTED = '''\
@functools.lru_cache
def shifted(x: int) -> int:
    """x, moved.

    x: any integer.
    """
    # The answer, in a comment.
    y = x + OFFSET

    return y'''

SHIFTED_STUB = '''\
@functools.lru_cache
def shifted(x: int) -> int:
    """x, moved.

    x: any integer.
    """
    # about 2 lines
    raise NotImplementedError'''

SCALE_STUB = '''\
class Scale:
    """Multiplies."""

    def __init__(self, by: int) -> None:
        self.by = by

    def forward(self, x: int) -> int:
        # about 1 line
        raise NotImplementedError

    def backward(self, x: int) -> int:
        """The way back."""
        return x // self.by'''


def write(root: Path, name: str, text: str) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")
    return path


def alter(root: Path, name: str, old: str, new: str) -> None:
    text = (root / name).read_text(encoding="utf-8")
    assert old in text
    write(root, name, text.replace(old, new))


def set_address(root: Path, repository: str = "https://github.com/someone/toys") -> None:
    write(root, "pyproject.toml", f'[tool.course]\nrepository = "{repository}"\ntag = "v0.1.0"\n')


def make_course(root: Path) -> Path:
    """A course of one lesson, not built."""
    write(root, "course/__init__.py", '"""A toy course."""\n')
    write(root, "course/ground.py", '"""What lessons stand on."""\n\nOFFSET = 10\n')
    write(root, "course/toy.py", TOY)
    write(root, "course/checks/__init__.py", CHECKS)
    write(root, f"solutions/{LESSON}.py", SOURCE)
    return root


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    return make_course(tmp_path / "toys")


@pytest.fixture(scope="module")
def built_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy course, built; shared, so only copied from."""
    root = make_course(tmp_path_factory.mktemp("built") / "toys")
    build(LESSON, root=root)
    return root


@pytest.fixture
def built(built_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The toy course, built, where nothing may be executed again."""

    def refuse(*_: object) -> None:
        raise AssertionError("executed")

    monkeypatch.setattr(builder, "run", refuse)
    return Path(shutil.copytree(built_once, tmp_path / "toys"))


def read(root: Path, folder: str) -> nbformat.NotebookNode:
    return nbformat.read(root / folder / f"{LESSON}.ipynb", as_version=4)


def sources(nb: nbformat.NotebookNode) -> list[str]:
    return [cell.source for cell in nb.cells]


# --- Sources to notebooks --------------------------------------------------------------------


def test_solved_notebook_holds_the_reference_exactly(toy: Path) -> None:
    cells = solved_notebook(LESSON, toy).cells
    assert cells[3].source == SHIFTED
    assert cells[3].source in TOY
    assert cells[7].source == 'def shown() -> str:\n    return "shown"'


def test_student_notebook_leaves_the_bodies_open(toy: Path) -> None:
    cells = student_notebook(LESSON, toy).cells
    assert cells[3].source == SHIFTED_STUB
    assert cells[5].source == SCALE_STUB
    assert cells[7].source == 'def shown() -> str:\n    return "shown"'


def test_student_notebook_gives_no_answer_away(toy: Path) -> None:
    text = "\n".join(sources(student_notebook(LESSON, toy)))
    for secret in ("nswer", "x + OFFSET", "SOLUTION", "HIDDEN", "assert"):
        assert secret not in text


def test_solved_and_student_agree_everywhere_else(toy: Path) -> None:
    pairs = zip(
        sources(solved_notebook(LESSON, toy)), sources(student_notebook(LESSON, toy)), strict=True
    )
    assert [i for i, (solved, student) in enumerate(pairs) if solved != student] == [3, 4, 5]


def test_all_methods_but_init_are_open_without_stub(toy: Path) -> None:
    text = marked("toy.Scale", toy)
    assert text.count("### BEGIN SOLUTION") == text.count("### END SOLUTION") == 2
    assert text.index("self.by = by") < text.index("### BEGIN SOLUTION")


def test_lines_are_counted_without_comments_and_blanks(toy: Path) -> None:
    assert "    # about 2 lines\n    ### BEGIN" in marked("toy.shifted", toy)
    assert "    # about 7 lines\n    ### BEGIN" in marked("toy.shifted", toy, lines=7)


def test_comment_above_the_first_statement_is_part_of_the_body(toy: Path) -> None:
    before, _, body = marked("toy.Scale", toy, "forward").partition("### BEGIN SOLUTION")
    assert "Also the answer" not in before
    assert "Also the answer" in body


@pytest.mark.parametrize("make", [solved_notebook, student_notebook])
def test_notebooks_are_valid_and_the_same_each_time(toy: Path, make) -> None:
    nb = make(LESSON, toy)
    nbformat.validate(nb)
    MetadataValidator().validate_nb(nb)
    assert (nb.nbformat, nb.nbformat_minor) == (4, 5)
    assert [cell.id for cell in nb.cells] == [f"01_toy-{i:02d}" for i in range(len(nb.cells))]
    assert "version" not in nb.metadata.language_info
    assert builder.to_bytes(nb) == builder.to_bytes(make(LESSON, toy))
    assert b"\r" not in builder.to_bytes(nb)


def test_exercises_and_checks_are_marked_for_nbgrader(toy: Path) -> None:
    cells = student_notebook(LESSON, toy).cells
    exercise, check = cells[3].metadata, cells[4].metadata
    assert exercise.exercise == "toy.shifted"
    assert exercise.nbgrader.grade_id == "toy-shifted"
    assert (exercise.nbgrader.solution, exercise.nbgrader.grade) == (True, False)
    assert not exercise.nbgrader.locked
    assert check.nbgrader.grade_id == "toy-shifted-check"
    assert (check.nbgrader.solution, check.nbgrader.grade) == (False, True)
    assert (check.nbgrader.locked, check.nbgrader.points) == (True, 1)
    assert (exercise.deletable, check.deletable, check.editable) == (False, False, False)
    assert "editable" not in exercise


def test_only_known_metadata_reaches_the_notebook(toy: Path) -> None:
    cells = solved_notebook(LESSON, toy).cells
    assert cells[10].metadata == {"tags": ["nbval-ignore-output"]}
    assert cells[7].metadata == {}
    assert set(cells[3].metadata) == {"exercise", "nbgrader"}


def test_windows_line_ends_change_nothing(toy: Path) -> None:
    before = builder.to_bytes(student_notebook(LESSON, toy))
    digest = source_hash(LESSON, toy)
    for path in toy.rglob("*.py"):
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert builder.to_bytes(student_notebook(LESSON, toy)) == before
    assert source_hash(LESSON, toy) == digest


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("toy.shifted", "toy.missing", r"cell 3: .*course/toy.py defines no .*missing"),
        ("toy.shifted", "nowhere.shifted", r"cell 3: .*no module course.nowhere"),
        ("toy.shifted", "shifted", r'cell 3: .*named "module.function"'),
        (
            "toy.shifted",
            "toy.shown",
            r"cell 3: the cell after toy.shown must hold `shown = check\(shown\)`",
        ),
        ("shifted = check(shifted)", "shifted", r"cell 3: .*must hold `shifted = check\(shifted\)"),
        ("shifted = check(shifted)", "# %%bash\n# ls", r"cell 3: .*must hold `shifted = check"),
        (' stub="forward"', ' stub="forwards"', r"cell 5: .*no method forwards; it has __init__"),
        (' stub="forward"', " lines=3", r"cell 5: .*`lines` is for one body, but 2"),
        (" lines=2", ' stub="forward"', r"cell 3: .*is a function"),
        (" lines=2", ' inline="toy.shown"', r"cell 3: .*not both"),
        ("exercise=", "exercize=", r"cell 3: unknown metadata 'exercize'"),
        (" lines=2\n", " lines=2\nx = 1\n", r"cell 3: the cell of toy.shifted holds code"),
    ],
)
def test_a_source_that_breaks_a_rule_is_refused(
    toy: Path, old: str, new: str, message: str
) -> None:
    alter(toy, f"solutions/{LESSON}.py", old, new)
    with pytest.raises(CourseError, match=r"solutions/01_toy.py, " + message):
        student_notebook(LESSON, toy)


def test_a_body_that_cannot_be_cut_out_is_refused(toy: Path) -> None:
    with pytest.raises(CourseError, match="docstring alone"):
        marked("toy.talk", toy)
    with pytest.raises(CourseError, match="on a line of its own"):
        marked("toy.short", toy)
    assert solution("toy.short", toy) == "def short() -> int: return 1"


def test_an_exercise_stands_once_in_a_lesson(toy: Path) -> None:
    again = '# %% exercise="toy.shifted"\n# %%\nshifted = check(shifted)\n'
    write(toy, f"solutions/{LESSON}.py", SOURCE + again)
    with pytest.raises(CourseError, match=r"has the exercise toy\.shifted twice"):
        solved_notebook(LESSON, toy)


def test_a_source_that_is_not_python_is_refused(toy: Path) -> None:
    write(toy, f"solutions/{LESSON}.py", "# %%\n%matplotlib inline\n")
    with pytest.raises(CourseError, match=r"solutions/01_toy.py, line 2 is not Python .* magic"):
        student_notebook(LESSON, toy)


def test_hidden_tests_stand_in_checks_alone(toy: Path) -> None:
    alter(toy, f"solutions/{LESSON}.py", "OFFSET;", "### BEGIN HIDDEN TESTS\n### END HIDDEN TESTS")
    with pytest.raises(CourseError, match=r"solutions/01_toy.py: Hidden test region"):
        student_notebook(LESSON, toy)


def test_an_unknown_lesson_is_named(toy: Path) -> None:
    with pytest.raises(CourseError, match=r"no lesson '02_toy' .* the lessons are: 01_toy"):
        build("02_toy", root=toy)


# --- The setup cell --------------------------------------------------------------------------


def run_setup(root: Path, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The setup cell in a Python of its own, followed by a look at where `course` came from."""
    code = setup_cell(root) + "\nimport course\nprint(course.__file__)"
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=folder,
        env={**clean, **environment},
        text=True,
        encoding="utf-8",
        capture_output=True,
    )


@pytest.mark.parametrize("address", ["", "https://github.com/someone/toys"])
def test_setup_cell_is_short_and_comes_after_the_title(toy: Path, address: str) -> None:
    set_address(toy, address)
    cells = student_notebook(LESSON, toy).cells
    assert [cell.cell_type for cell in cells[:2]] == ["markdown", "code"]
    assert cells[1].source.startswith("# Run me first")
    assert len(cells[1].source.split("\n")) <= 15
    assert max(map(len, cells[1].source.split("\n"))) <= 100


@pytest.mark.parametrize("folder", ["", "notebooks", "notebooks/deep/er"])
def test_setup_cell_finds_the_code_above(toy: Path, folder: str) -> None:
    (toy / folder).mkdir(parents=True, exist_ok=True)
    done = run_setup(toy, toy / folder)
    assert done.stdout.strip() == str(toy / "course" / "__init__.py"), done.stderr


def test_setup_cell_believes_vs_code(toy: Path, tmp_path: Path) -> None:
    names = {"__vsc_ipynb_file__": str(toy / "notebooks" / "01_toy.ipynb")}
    path = list(sys.path)
    try:
        exec(setup_cell(toy), names)
        assert sys.path[0] == str(toy)
    finally:
        sys.path[:] = path


def test_setup_cell_without_code_and_address_says_what_to_do(toy: Path, tmp_path: Path) -> None:
    done = run_setup(toy, tmp_path)
    assert done.returncode == 1
    assert done.stderr.strip() == (
        "The course's code is not here: open this notebook inside its repository."
    )


def git(folder: Path, *arguments: str) -> None:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)


def test_setup_cell_clones_at_the_tag_once(toy: Path, tmp_path: Path) -> None:
    set_address(toy)
    git(toy, "init", "-q")
    git(toy, "add", ".")
    git(toy, "commit", "-qm", "one")
    git(toy, "tag", "v0.1.0")
    colab = tmp_path / "content"
    colab.mkdir()
    redirect = {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{toy.as_uri()}.insteadOf",
        "GIT_CONFIG_VALUE_0": "https://github.com/someone/toys",
    }
    done = run_setup(toy, colab, **redirect)
    assert done.stdout.strip() == str(colab / "toys" / "course" / "__init__.py"), done.stderr
    shutil.rmtree(toy / ".git")
    assert run_setup(toy, colab, **redirect).stdout == done.stdout, "it cloned again"

    (colab / "empty").mkdir()
    failed = run_setup(toy, colab / "empty", **redirect)
    assert failed.stderr.strip().endswith(
        "git could not fetch https://github.com/someone/toys: check the network, then run me again."
    )
    assert "Traceback" not in failed.stderr


def test_badge_and_clone_are_written_where_the_address_is_set(toy: Path) -> None:
    for unset in (student_notebook(LESSON, toy), solved_notebook(LESSON, toy)):
        assert not any(word in s for s in sources(unset) for word in ("git", "colab", "badge"))
    set_address(toy)
    title, _, badge, _, prose = student_notebook(LESSON, toy).cells[0].source.split("\n")
    assert title == "# 01 · A toy"
    assert "(https://colab.research.google.com/github/someone/toys/blob/v0.1.0/notebooks/" in badge
    assert prose == "Prose with √ᾱ in it."


def test_colab_opens_github_alone(toy: Path) -> None:
    set_address(toy, "https://example.org/someone/toys.git")
    first, setup, *_ = sources(student_notebook(LESSON, toy))
    assert "colab" not in first
    assert '"https://example.org/someone/toys"' in setup


def test_an_address_that_cannot_be_cloned_is_refused(toy: Path) -> None:
    set_address(toy, "git@github.com:someone/toys")
    with pytest.raises(CourseError, match=r"\[tool.course\]: repository is an https:// address"):
        public_address(toy)


# --- Building --------------------------------------------------------------------------------


def test_build_runs_the_solved_notebook(built: Path) -> None:
    cells = read(built, "solutions").cells
    assert cells[8].outputs[0].text == "11 6 shown\n"
    assert cells[8].outputs[1].data["text/plain"] == "<object at 0x0>"
    assert cells[9].outputs == []
    assert cells[10].outputs[0].name == "stderr"
    counts = [cell.execution_count for cell in cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))
    assert not any("execution" in cell.metadata for cell in cells)


def test_build_writes_what_the_lesson_says(built: Path) -> None:
    path = built / "notebooks" / f"{LESSON}.ipynb"
    assert path.read_bytes() == builder.to_bytes(student_notebook(LESSON, built))
    stored = read(built, "solutions")
    nbformat.validate(stored)
    assert sources(stored) == sources(solved_notebook(LESSON, built))
    assert stored.metadata.language_info == solved_notebook(LESSON, built).metadata.language_info
    assert stored.metadata.course == {"lesson": LESSON, "source_hash": source_hash(LESSON, built)}


def test_an_untouched_student_notebook_runs_to_its_end(toy: Path) -> None:
    done = execute.run(student_notebook(LESSON, toy), LESSON, toy)
    assert done.cells[8].outputs[0].text == "11 6 shown\n"


def test_an_unchanged_lesson_is_left_alone(built: Path) -> None:
    before = [p.stat().st_mtime_ns for p in built.rglob("*.ipynb")]
    assert stale(LESSON, built) == []
    assert build(LESSON, root=built) == []
    assert build_all(root=built) == {LESSON: []}
    assert [p.stat().st_mtime_ns for p in built.rglob("*.ipynb")] == before


def test_new_prose_keeps_the_outputs(built: Path) -> None:
    outputs = [cell.get("outputs") for cell in read(built, "solutions").cells]
    alter(built, f"solutions/{LESSON}.py", "Prose", "Better prose")
    assert stale(LESSON, built) == [
        "notebooks/01_toy.ipynb is not what its source builds",
        "solutions/01_toy.ipynb is not what its source builds",
    ]
    build(LESSON, root=built)
    assert stale(LESSON, built) == []
    assert [cell.get("outputs") for cell in read(built, "solutions").cells] == outputs
    assert read(built, "solutions").cells[0].source.endswith("Better prose with √ᾱ in it.")


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        (f"solutions/{LESSON}.py", "shifted(1)", "shifted(2)"),
        ("course/toy.py", "y = x + OFFSET", "y = OFFSET + x"),
        ("course/ground.py", "10", "11"),  # Reached through a relative import of course.toy.
        ("course/checks/__init__.py", "(course.toy, ", "(course.toy,  *[], "),
        ("course/__init__.py", '"""A toy course."""\n', '"""A toy course."""\nX = 1\n'),
    ],
)
def test_new_code_makes_a_lesson_run_again(built: Path, file: str, old: str, new: str) -> None:
    alter(built, file, old, new)
    assert "solutions/01_toy.ipynb was not run since its code changed" in stale(LESSON, built)
    with pytest.raises(AssertionError, match="executed"):
        build(LESSON, root=built)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("course/ground.py", "OFFSET = 10", "OFFSET  =  10  # A comment."),
        ("course/ground.py", "What lessons", "All that lessons"),
        ("course/toy.py", "Only words", "Words alone"),
    ],
)
def test_comments_and_docstrings_of_modules_do_not_matter(
    built: Path, file: str, old: str, new: str
) -> None:
    alter(built, file, old, new)
    assert stale(LESSON, built) == []


def test_other_modules_do_not_matter(built: Path) -> None:
    write(built, "course/other.py", "x = 1\n")
    assert stale(LESSON, built) == []


def test_the_checks_and_module_of_an_exercise_count_as_imported(tmp_path: Path) -> None:
    path = write(tmp_path, "course/checks/toy.py", "x = 1\n")
    before = fingerprint([], "import os", ["course.checks.toy"], tmp_path)
    path.write_text("x = 2\n", encoding="utf-8")
    assert fingerprint([], "import os", ["course.checks.toy"], tmp_path) != before


def test_new_weights_make_the_lessons_that_use_them_run_again(tmp_path: Path) -> None:
    def hashes() -> list[str]:
        lines = ('load("digits")', "import course.judge", 'load("others")')
        return [fingerprint([], line, [], tmp_path) for line in lines]

    write(tmp_path, "course/judge.py", 'JUDGE = "digits"\n')
    write(tmp_path, "data/weights/digits.json", '{"sha256": "a"}')
    first = hashes()
    write(tmp_path, "data/weights/digits.json", '{"sha256": "b"}')
    assert [a == b for a, b in zip(first, hashes(), strict=True)] == [False, False, True]


def test_the_hash_is_the_same_on_every_python() -> None:
    signature = 'async def f(x, *, y=None, z=1.5) -> "é":'
    code = f'"""Doc."""\n@a\n{signature}\n    """D."""\n    return f"{{x!r}}"'
    assert canonical(ast.parse(code)) == (
        "Module(body=[AsyncFunctionDef(name='f',args=arguments(args=[arg(arg='x')],"
        "kwonlyargs=[arg(arg='y'),arg(arg='z')],kw_defaults=[Constant(),Constant(value=1.5)]),"
        "body=[Return(value=JoinedStr(values=[FormattedValue(value=Name(id='x',ctx=Load()),"
        "conversion=114)]))],decorator_list=[Name(id='a',ctx=Load())],"
        "returns=Constant(value='\\xe9'))])"
    )


def test_a_missing_or_spoilt_notebook_is_stale(built: Path) -> None:
    solved, student = built / "solutions/01_toy.ipynb", built / "notebooks/01_toy.ipynb"
    student.unlink()
    for spoilt in ("", "{", "[]", "{}", '{"cells": 3}', "\x00"):
        solved.write_text(spoilt, encoding="utf-8")
        assert stale(LESSON, built) == [
            "notebooks/01_toy.ipynb is missing",
            "solutions/01_toy.ipynb is missing or unreadable",
        ]


@pytest.mark.parametrize("what", ["outputs", "extra cell", "source"])
def test_a_solved_notebook_changed_by_hand_is_stale(built: Path, what: str) -> None:
    nb = read(built, "solutions")
    if what == "outputs":
        nb.cells[8].outputs, nb.cells[8].execution_count = [], None
    elif what == "extra cell":
        nb.cells.append(nbformat.v4.new_code_cell("1", execution_count=12, id="new"))
    else:
        nb.cells[8].source += "\n1 + 1"
    nbformat.write(nb, built / "solutions" / f"{LESSON}.ipynb")
    assert stale(LESSON, built) == ["solutions/01_toy.ipynb was not run since its code changed"]


def test_without_execute_the_solved_notebook_stays_stale(toy: Path) -> None:
    assert len(build(LESSON, execute=False, root=toy)) == 2
    assert all(not cell.get("outputs") for cell in read(toy, "solutions").cells)
    assert stale(LESSON, toy) == ["solutions/01_toy.ipynb was not run since its code changed"]


@pytest.mark.parametrize("spoil", ["outputs", "unreadable"])
def test_a_notebook_somebody_worked_in_is_not_overwritten(built: Path, spoil: str) -> None:
    path = built / "notebooks" / f"{LESSON}.ipynb"
    nb = read(built, "notebooks")
    nb.cells[4].execution_count = 1
    path.write_text("{" if spoil == "unreadable" else nbformat.writes(nb), encoding="utf-8")
    mine = path.read_bytes()
    with pytest.raises(CourseError, match=r"^notebooks/01_toy.ipynb holds .*build with force\.$"):
        build(LESSON, execute=False, root=built)
    assert path.read_bytes() == mine
    build(LESSON, execute=False, force=True, root=built)
    assert path.read_bytes() == builder.to_bytes(student_notebook(LESSON, built))


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("# %nosuchmagic", r"UsageError: Line magic function `%nosuchmagic` not found\."),
        ("import os; os._exit(1)", r"the kernel died\."),
        ("import time; time.sleep(60)", r"it took more than 2 s\."),
        ("import pathlib; pathlib.Path.cwd()", "the output holds '.*toys', which differs else"),
        ("import warnings; warnings.warn('w')", "the output holds 'ipykernel_', which differs"),
    ],
)
def test_a_cell_that_fails_is_named_and_the_old_notebooks_stay(
    toy: Path, monkeypatch: pytest.MonkeyPatch, code: str, message: str
) -> None:
    monkeypatch.setattr(execute, "CELL_TIMEOUT", 2)
    write(toy, f"solutions/{LESSON}.py", f"# %%\n1\n# %%\n{code}\n")
    build(LESSON, execute=False, root=toy)
    before = [path.read_bytes() for path in toy.rglob("*.ipynb")]
    with pytest.raises(CourseError, match=r"^01_toy, cell 3 \(.*\): " + message):
        build(LESSON, root=toy)
    assert [path.read_bytes() for path in toy.rglob("*.ipynb")] == before


def test_pictures_stay_and_widgets_go() -> None:
    picture = nbformat.v4.new_output("display_data", {"image/png": "at 0xff", "text/plain": "P"})
    widget = nbformat.v4.new_output("display_data", {execute.WIDGET: {"model_id": "1"}})
    assert execute._clean([picture, widget]) == [picture]


def test_kernels_compute_and_draw_the_same_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    monkeypatch.setenv("MPLBACKEND", "agg")
    environment = execute.kernel_environment()
    assert environment["OMP_NUM_THREADS"] == "1"
    assert "MPLBACKEND" not in environment
    assert environment["PATH"] == os.environ["PATH"]


# --- This repository's lessons ---------------------------------------------------------------


@pytest.mark.parametrize("lesson", lessons())
def test_student_notebooks_are_fresh(lesson: str) -> None:
    stored = builder.student_path(lesson).read_bytes()
    assert stored == builder.to_bytes(student_notebook(lesson)), "run `python -m course build`"


@pytest.mark.parametrize("lesson", lessons())
def test_solved_notebooks_are_fresh(lesson: str) -> None:
    reasons = [reason for reason in stale(lesson) if reason.startswith("solutions/")]
    assert not reasons, "run `python -m course build`"


@pytest.mark.parametrize("folder", ["solutions", "notebooks"])
def test_every_notebook_has_a_source_and_every_source_a_notebook(folder: str) -> None:
    assert sorted(path.stem for path in (ROOT / folder).glob("*.ipynb")) == lessons()

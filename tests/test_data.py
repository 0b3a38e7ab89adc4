"""MNIST as the course gives it, beside another reader; and what happens to damaged files."""

import gzip
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torchvision.datasets.mnist import read_image_file, read_label_file

from course.data import MNIST_FILES, data_dir, mnist
from course.errors import CourseError

ROOT = Path(__file__).parents[1]
IMAGES, LABELS = "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The test split in a data folder of its own, which COURSE_DATA names."""
    (tmp_path / "mnist").mkdir()
    for name in (IMAGES, LABELS):
        shutil.copy(ROOT / "data" / "mnist" / name, tmp_path / "mnist")
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    return tmp_path / "mnist"


@pytest.mark.parametrize(("split", "n"), [("train", 60_000), ("test", 10_000)])
def test_shapes_dtypes_and_range(split: str, n: int) -> None:
    images, labels = mnist(split)  # type: ignore[arg-type]
    assert (images.shape, images.dtype) == ((n, 1, 28, 28), torch.float32)
    assert (labels.shape, labels.dtype) == ((n,), torch.int64)
    assert (images.min().item(), images.max().item()) == (-1, 1)


def test_every_digit_is_there_as_often_as_its_authors_say() -> None:
    counts = torch.bincount(mnist("train")[1]).tolist()
    assert counts == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]


@pytest.mark.parametrize(("split", "prefix"), [("train", "train"), ("test", "t10k")])
def test_agrees_with_torchvisions_reader(split: str, prefix: str, tmp_path: Path) -> None:
    images, labels = mnist(split)  # type: ignore[arg-type]
    pixels = read_image_file(str(unpacked(f"{prefix}-images-idx3-ubyte", tmp_path)))
    digits = read_label_file(str(unpacked(f"{prefix}-labels-idx1-ubyte", tmp_path)))
    assert torch.equal(images.add(1).mul(127.5).round().to(torch.uint8).squeeze(1), pixels)
    assert torch.equal(images.squeeze(1), pixels / 127.5 - 1)
    assert torch.equal(labels, digits)


def unpacked(name: str, folder: Path) -> Path:
    packed = (ROOT / "data" / "mnist" / f"{name}.gz").read_bytes()
    (folder / name).write_bytes(gzip.decompress(packed))
    return folder / name


def test_loads_in_under_two_seconds() -> None:
    started = time.process_time()
    mnist("train")
    assert time.process_time() - started < 2


def test_each_call_gives_tensors_of_its_own() -> None:
    mnist("test")[0].fill_(7)
    assert mnist("test")[0].max() == 1


def test_readme_lists_the_same_hashes() -> None:
    text = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
    assert dict(re.findall(r"`(\S+\.gz)` \| `([0-9a-f]{64})`", text)) == MNIST_FILES


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def alter(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def repack(path: Path) -> None:
    """What is not the file at all, but unpacks well."""
    path.write_bytes(gzip.compress(b"\0\0\x08\x01\0\0\0\x01\x05"))


@pytest.mark.parametrize("damage", [truncate, alter, repack])
@pytest.mark.parametrize("name", [IMAGES, LABELS])
def test_a_damaged_file_is_named_with_its_remedy(
    copied: Path, damage: Callable[[Path], None], name: str
) -> None:
    damage(copied / name)
    with pytest.raises(CourseError) as caught:
        mnist("test")
    expect_line(str(caught.value), copied / name, "is damaged")


@pytest.mark.parametrize("name", [IMAGES, LABELS])
def test_a_missing_file_is_named_with_its_remedy(copied: Path, name: str) -> None:
    (copied / name).unlink()
    with pytest.raises(CourseError) as caught:
        mnist("test")
    expect_line(str(caught.value), copied / name, "is missing")


def test_a_file_that_cannot_be_read_is_named(copied: Path) -> None:
    (copied / IMAGES).unlink()
    (copied / IMAGES).mkdir()
    with pytest.raises(CourseError) as caught:
        mnist("test")
    expect_line(str(caught.value), copied / IMAGES, "cannot be read")


def expect_line(message: str, path: Path, reason: str) -> None:
    assert message.startswith(f"{path} {reason}")
    assert f"`git checkout -- data/mnist/{path.name}`" in message
    assert "COURSE_DATA" in message  # That folder is not the repository's: git alone is no remedy.
    assert "\n" not in message


def test_the_copied_folder_is_read(copied: Path) -> None:
    assert len(mnist("test")[0]) == 10_000
    with pytest.raises(CourseError, match="train-images"):
        mnist("train")


@pytest.mark.parametrize("split", ["val", "", None, 0])
def test_another_split_is_refused(split: object) -> None:
    with pytest.raises(ValueError, match='"train" or "test"'):
        mnist(split)  # type: ignore[arg-type]


def test_course_data_that_names_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(CourseError, match=r"COURSE_DATA names .*nowhere"):
        mnist()


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that was installed away from its repository."""
    tmp_path = tmp_path.resolve()
    monkeypatch.delenv("COURSE_DATA", raising=False)
    monkeypatch.setattr("course.data.__file__", str(tmp_path / "lib" / "course" / "data.py"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_an_installed_package_finds_the_clone_that_it_runs_in(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (elsewhere / "clone" / "data" / "mnist").mkdir(parents=True)
    (elsewhere / "clone" / "notebooks").mkdir()
    monkeypatch.chdir(elsewhere / "clone" / "notebooks")
    assert data_dir() == elsewhere / "clone" / "data"


def test_no_data_folder_anywhere(elsewhere: Path) -> None:
    if any((parent / "data" / "mnist").is_dir() for parent in elsewhere.parents):
        pytest.skip("a data folder lies above the temporary one")
    with pytest.raises(CourseError, match=r"git checkout -- data.*COURSE_DATA"):
        data_dir()

"""Weights are written whole or not at all, and never read where they are not what they were."""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from course import recipes
from course.errors import CourseError
from course.recipes.base import channels_last
from course.training import UNet
from course.weights import (
    available,
    card,
    check_writable,
    copy_weights,
    load_weights,
    read_weights,
    save_weights,
    weights_dir,
    write_atomically,
)

ABOUT = {"command": "python -m course train net", "config": {}}


def net(width: int = 5, seed: int = 0) -> nn.Module:
    """A network with parameters, float buffers and an integer one."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Conv2d(1, width, 3), nn.BatchNorm2d(width), nn.Conv2d(width, 2, 1))


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder of its own, with nothing in it yet: its folder of weights."""
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    return tmp_path / "weights"


def no_space(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


# --- Saving and loading ------------------------------------------------------------------------


def test_float32_comes_back_bit_for_bit(data: Path) -> None:
    model = net()
    save_weights(model, "net", ABOUT, torch.float32)
    loaded = load_weights(net(seed=1), "net")
    for key, x in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], x), key
    assert not loaded.training


def test_float16_comes_back_rounded_in_the_models_own_dtypes(data: Path) -> None:
    model = net()
    save_weights(model, "net", ABOUT, torch.float16)
    for key, x in load_weights(net(seed=1), "net").state_dict().items():
        before = model.state_dict()[key]
        assert x.dtype == before.dtype, key
        assert torch.equal(x, before.half().float() if x.is_floating_point() else before), key
    assert any((x != x.half().float()).any() for x in model.parameters())


def test_channels_last_is_saved_and_kept(data: Path) -> None:
    model = channels_last(net())
    save_weights(model, "net", ABOUT, torch.float32)
    loaded = load_weights(channels_last(net(seed=1)), "net")
    assert torch.equal(loaded[2].weight, model[2].weight)  # type: ignore[index]
    assert loaded[2].weight.stride() == model[2].weight.stride()  # type: ignore[index]


def test_saving_twice_gives_the_same_bytes(data: Path) -> None:
    files = [save_weights(net(), "net", ABOUT, torch.float16).read_bytes() for _ in range(2)]
    assert files[0] == files[1]


def test_a_card_tells_what_it_was_given_and_the_hash(data: Path) -> None:
    path = save_weights(net(), "net", {**ABOUT, "note": "ᾱ"}, torch.float16)
    assert card("net") == {
        **ABOUT,
        "note": "ᾱ",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }


def test_a_folder_of_ones_own(tmp_path: Path, data: Path) -> None:
    save_weights(net(), "net", ABOUT, torch.float32, tmp_path / "run")
    assert load_weights(net(seed=1), "net", tmp_path / "run")
    assert available() == []


@pytest.mark.parametrize(("value", "dtype"), [(float("nan"), torch.float32), (1e5, torch.float16)])
def test_weights_that_are_not_finite_are_refused_and_the_old_ones_stay(
    data: Path, value: float, dtype: torch.dtype
) -> None:
    save_weights(net(), "net", ABOUT, torch.float32)
    diverged = net()
    with torch.no_grad():
        diverged[0].weight[0, 0, 0, 0] = value  # type: ignore[index]
    with pytest.raises(ValueError, match=r"0\.weight is not finite"):
        save_weights(diverged, "net", ABOUT, dtype)
    assert torch.equal(read_weights("net")["0.weight"], net().state_dict()["0.weight"])


# --- What is wrong with the files --------------------------------------------------------------


def complaint(name: str, folder: Path | None = None, model: nn.Module | None = None) -> str:
    with pytest.raises(CourseError) as caught:
        load_weights(model or net(), name, folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_unknown_name_gets_the_nearest(data: Path) -> None:
    save_weights(net(), "mnist-ddpm", ABOUT, torch.float16)
    assert "did you mean 'mnist-ddpm'?" in complaint("mnist-dppm")
    assert "there are mnist-ddpm." in complaint("cifar")


def test_an_unknown_name_where_a_run_has_written_nothing_yet(tmp_path: Path, data: Path) -> None:
    save_weights(net(), "net", ABOUT, torch.float16)
    folder = tmp_path / "run"
    assert (
        complaint("net", folder) == f"No weights are named 'net' in {folder}; there are none yet."
    )


@pytest.mark.parametrize("where", [0, 0.5, -1])
def test_one_altered_byte_is_noticed(data: Path, where: float) -> None:
    path = save_weights(net(), "net", ABOUT, torch.float16)
    content = bytearray(path.read_bytes())
    content[int(where * len(content)) if where > 0 else int(where)] ^= 1
    path.write_bytes(content)
    message = complaint("net")
    assert message.startswith(f"{path} is damaged")
    assert "`git checkout -- data/weights/net.safetensors`" in message


def test_a_truncated_file_is_noticed(data: Path) -> None:
    path = save_weights(net(), "net", ABOUT, torch.float16)
    path.write_bytes(path.read_bytes()[:100])
    assert complaint("net").startswith(f"{path} is damaged")


@pytest.mark.parametrize("suffix", [".safetensors", ".json"])
def test_a_missing_file_is_named_with_its_remedy(data: Path, suffix: str) -> None:
    path = save_weights(net(), "net", ABOUT, torch.float16).with_suffix(suffix)
    path.unlink()
    message = complaint("net")
    assert message.startswith(f"{path} is missing")
    assert f"`git checkout -- data/weights/net{suffix}`" in message
    assert available() == ["net"]  # So that `doctor` looks at it.


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"sha256": 3}', '"sha256"', "\xff"])
def test_a_damaged_card_is_named_with_its_remedy(data: Path, text: str) -> None:
    path = save_weights(net(), "net", ABOUT, torch.float16).with_suffix(".json")
    path.write_bytes(text.encode("latin-1"))
    message = complaint("net")
    assert message.startswith(f"{path} is damaged")
    assert "`git checkout -- data/weights/net.json`" in message


def test_the_remedy_for_a_runs_own_file_is_another(tmp_path: Path, data: Path) -> None:
    path = save_weights(net(), "net", ABOUT, torch.float16, tmp_path / "run")
    path.unlink()
    message = complaint("net", tmp_path / "run")
    assert "git" not in message
    assert f"`python -m course train net --out {tmp_path / 'run'}`" in message


@pytest.mark.parametrize("model", [net(width=6), nn.Linear(2, 2), nn.Sequential(net(), net())])
def test_another_architecture_is_refused_and_left_as_it_was(data: Path, model: nn.Module) -> None:
    save_weights(net(), "net", ABOUT, torch.float16)
    before = {k: x.clone() for k, x in model.state_dict().items()}
    assert "another architecture" in complaint("net", model=model)
    assert all(torch.equal(x, before[k]) for k, x in model.state_dict().items())


# --- What may go wrong in writing --------------------------------------------------------------


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_full_disk_leaves_the_old_weights(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_weights(net(), "net", ABOUT, torch.float16)
    before = contents(data)
    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(CourseError, match=r"net\.safetensors could not be written \(No space left"):
        save_weights(net(seed=1), "net", ABOUT, torch.float16)
    assert contents(data) == before


def test_a_disk_full_at_the_card_leaves_the_old_weights_as_well(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_weights(net(), "net", ABOUT, torch.float16)
    before, calls = contents(data), iter([lambda _: None, no_space])
    monkeypatch.setattr(os, "fsync", lambda number: next(calls)(number))
    with pytest.raises(CourseError, match=r"net\.json could not be written"):
        save_weights(net(seed=1), "net", ABOUT, torch.float16)
    assert contents(data) == before


def test_ctrl_c_while_writing_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    path = tmp_path / "file"
    write_atomically(path, b"old")
    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, b"new")
    assert contents(tmp_path) == {"file": b"old"}


def test_what_a_kill_left_behind_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(b"half of someth")
    write_atomically(tmp_path / "file", b"new")
    assert contents(tmp_path) == {"file": b"new"}


@pytest.mark.parametrize("write", [check_writable, lambda path: write_atomically(path, b"new")])
def test_places_where_nothing_can_be_written(tmp_path: Path, write: Callable[[Path], None]) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "plain").write_text("a file")
    for path in (tmp_path / "folder", tmp_path / "plain" / "below.png"):
        with pytest.raises(CourseError) as caught:
            write(path)
        assert str(caught.value).startswith(f"{path} could not be written (")
        assert "None" not in str(caught.value)
    assert list((tmp_path / "folder").iterdir()) == []


def test_check_writable_leaves_no_trace(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.png"
    check_writable(path)
    assert list(path.parent.iterdir()) == []
    path.write_text("old")
    check_writable(path)
    assert contents(path.parent) == {"file.png": b"old"}


def test_publishing_copies_weights_and_card(tmp_path: Path, data: Path) -> None:
    save_weights(net(), "net", ABOUT, torch.float16)
    save_weights(net(seed=1), "net", ABOUT, torch.float16, tmp_path / "run")
    copy_weights("net", tmp_path / "run")
    assert contents(data) == contents(tmp_path / "run")


def test_damaged_weights_are_not_published(tmp_path: Path, data: Path) -> None:
    save_weights(net(), "net", ABOUT, torch.float16)
    before = contents(data)
    save_weights(net(seed=1), "net", ABOUT, torch.float16, tmp_path / "run").write_bytes(b"")
    with pytest.raises(CourseError, match="damaged"):
        copy_weights("net", tmp_path / "run")
    assert contents(data) == before


# --- The shipped weights -----------------------------------------------------------------------

SHIPPED = available()


def test_each_shipped_weights_has_a_recipe_and_each_recipe_its_weights() -> None:
    assert set(SHIPPED) == set(recipes.RECIPES)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_weights_are_small(name: str) -> None:
    assert (weights_dir() / f"{name}.safetensors").stat().st_size <= 2 * 2**20


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_card_is_complete(name: str) -> None:
    about = card(name)
    kinds = {"about": str, "command": str, "config": dict, "parameters": int, "seed": int}
    kinds |= {"steps": int, "batch_size": int, "lr": float, "ema_decay": float}
    kinds |= {"cpu_minutes": float, "metrics": dict, "sha256": str}
    assert {key: type(about.get(key)) for key in kinds} == kinds
    assert about["command"].startswith(f"python -m course train {name}")
    assert about["cpu_minutes"] <= 60
    assert about["metrics"]


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_card_is_that_of_todays_recipe(name: str) -> None:
    about, recipe = card(name), recipes.recipe(name)
    assert about["config"] == json.loads(json.dumps(recipe.config))
    settings = ("seed", "batch_size", "lr", "ema_decay", "about")
    assert {k: about[k] for k in settings} == {k: getattr(recipe, k) for k in settings}
    assert about["steps"] == recipe.steps or f"--steps {about['steps']}" in about["command"]


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_weights_load_into_the_network_of_their_recipe(name: str) -> None:
    model = load_weights(recipes.recipe(name).build(), name)
    assert sum(p.numel() for p in model.parameters()) == card(name)["parameters"]


def test_the_ddpms_card_builds_its_network() -> None:
    load_weights(UNet(**card("mnist-ddpm")["config"]), "mnist-ddpm")


def test_another_size_of_the_same_network_is_refused() -> None:
    with pytest.raises(
        CourseError, match=r"another architecture: .*Build the model from their card"
    ):
        load_weights(UNet(channels=(16, 16)), "mnist-ddpm")


def test_a_copied_data_folder_serves_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(weights_dir(), tmp_path / "weights")
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    assert available() == SHIPPED

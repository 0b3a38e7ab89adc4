"""Who edits: pixel-domain diffusion models, as predicted noise and as features by layer name."""

import contextlib
import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from course.forward_process import alpha_bars_from_betas, cosine_schedule
from course.sampling import EpsModel, Kind, as_eps_model
from course.scenery_models import load_ddpm
from course.training import UNet
from course.weights import card, load_weights

MNIST = "mnist-ddpm"
KINDS: dict[str, Kind] = {"epsilon": "eps", "v_prediction": "v", "sample": "x0"}


@dataclass(frozen=True)
class Victim:
    """A pixel-domain diffusion model: what an editor runs, and what a protector attacks.

    `network` (xt, t) -> its prediction; `eps_model` (xt, t) -> ε̂; images are (b, channels, size,
    size) in [−1, 1]; `layers` names the modules whose output is attacked.
    """

    name: str
    network: nn.Module
    eps_model: EpsModel
    alpha_bars: Tensor
    size: int
    channels: int
    layers: tuple[str, ...]


class AllHeardError(Exception):
    """Every layer that was asked for has spoken: the rest of the network need not run."""


def layer_outputs(
    network: nn.Module, layers: Sequence[str], run: Callable[[], object]
) -> dict[str, Tensor]:
    """What some layers of a network put out while `run()` calls it, by name, in `layers`' order.

    layers: names as `network.named_modules()` gives them; of a module that puts out a tuple, its
    first element is kept. The call is cut short when the last of them has put out. No hook is left
    behind, whatever happens. Raises ValueError, with the names there are, for a name that is none.
    """
    modules = dict(network.named_modules())
    if unknown := [name for name in layers if name not in modules]:
        raise ValueError(f"There is no layer {unknown[0]!r}; there are {outer_layers(modules)}.")
    found: dict[str, Tensor] = {}

    def keep(name: str, output: Any) -> None:
        found[name] = output[0] if isinstance(output, tuple) else output
        if len(found) == len(layers):
            raise AllHeardError

    hooks = [
        modules[name].register_forward_hook(lambda _, __, output, name=name: keep(name, output))
        for name in layers
    ]
    try:
        with contextlib.suppress(AllHeardError):
            run()
    finally:
        for hook in hooks:
            hook.remove()
    return {name: found[name] for name in layers}


def outer_layers(modules: dict[str, nn.Module]) -> str:
    """The names of a network's outer layers: all of them would fill a page."""
    return ", ".join(name for name in modules if name and name.count(".") < 2)


def features(victim: Victim, xt: Tensor, t: Tensor) -> dict[str, Tensor]:
    """What the victim's attacked layers make of x_t: each a map (b, c, h, w), by name."""
    return layer_outputs(victim.network, victim.layers, lambda: victim.eps_model(xt, t))


def load_victim(name: str = "scenery-pixel-a", layers: Sequence[str] | None = None) -> Victim:
    """A victim by name: "mnist-ddpm", a shipped DDPM of pixels, a folder's, or one of the hub.

    `layers` are by default the middle block. Raises CourseError as `load_ddpm` does, and ValueError
    for a layer that does not exist.
    """
    victim = _mnist_victim() if name == MNIST else _diffusers_victim(name)
    if layers is None:
        return victim
    layer_outputs(victim.network, layers, lambda: _try_out(victim))
    return replace(victim, layers=tuple(layers))


@torch.no_grad()
def _try_out(victim: Victim) -> None:
    x = torch.zeros(1, victim.channels, victim.size, victim.size).to(victim.alpha_bars)
    victim.eps_model(x, torch.zeros(1, dtype=torch.int64, device=x.device))


def _mnist_victim() -> Victim:
    network = load_weights(UNet(**card(MNIST)["config"]), MNIST).requires_grad_(False)
    alpha_bars = alpha_bars_from_betas(cosine_schedule())
    return Victim(MNIST, network, as_eps_model(network, alpha_bars), alpha_bars, 28, 1, ("middle",))


def _diffusers_victim(name: str) -> Victim:
    pipeline = load_ddpm(name)
    return as_victim(name, pipeline.unet, pipeline.scheduler)


def as_victim(name: str, unet: Any, scheduler: Any) -> Victim:
    """A diffusers UNet2DModel and its scheduler as a victim whose middle block is attacked."""
    unet.eval().requires_grad_(False)
    kind, alpha_bars = KINDS[scheduler.config.prediction_type], scheduler.alphas_cumprod
    eps_model = as_eps_model(lambda xt, t: unet(xt, t).sample, alpha_bars, kind)
    size, channels = unet.config.sample_size, unet.config.in_channels
    return Victim(name, unet, eps_model, alpha_bars, size, channels, ("mid_block",))


def random_twin(victim: Victim, seed: int = 0) -> Victim:
    """The same architecture with weights that nothing has trained: a surrogate that knows nothing.

    `eps_model` stays the trained one's: the twin is for its features alone.
    """
    network = copy.deepcopy(victim.network)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in network.modules():
            if callable(draw_anew := getattr(module, "reset_parameters", None)):
                draw_anew()
    call = lambda xt, t: network(xt, t)  # noqa: E731 - its output is thrown away
    return replace(victim, name=f"{victim.name}, untrained", network=network, eps_model=call)

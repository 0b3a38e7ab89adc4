"""Lessons 03 and 04: how good the DDPM is, for how much computing, beside diffusers."""

import time
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, DDIMPipeline, DDIMScheduler, DDPMScheduler, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.unets.unet_2d import UNet2DModel, UNet2DOutput
from torch import Tensor, nn
from tqdm import tqdm

from course.data import mnist
from course.forward_process import alpha_bars_from_betas, cosine_schedule
from course.metrics import distance_floor, distance_to_mnist, noise_ceiling
from course.recipes import recipe
from course.sampling import EpsModel, as_eps_model, sample
from course.training import TrainState, UNet, batch_indices, step_generator, train
from course.weights import card, load_weights
from tests.benchmarks.row import Row

N = 1000
BUDGET = 5 * 60.0  # CPU seconds
ALPHA_BARS = alpha_bars_from_betas(cosine_schedule())


def noise(n: int = N) -> Tensor:
    return torch.randn(n, 1, 28, 28, generator=torch.Generator().manual_seed(1))


def draw(network: EpsModel, steps: int, eta: float = 0.0, n: int = N) -> Tensor:
    """n samples of a network that predicts v under the course's schedule."""
    walk = sample(
        as_eps_model(network, ALPHA_BARS),
        noise(n),
        ALPHA_BARS,
        steps=steps,
        eta=eta,
        generator=torch.Generator().manual_seed(2),
    )
    for x in tqdm(walk, total=steps, desc=f"{n} samples"):  # noqa: B007 - the last is used
        pass
    return x


def shipped() -> UNet:
    return load_weights(UNet(**card("mnist-ddpm")["config"]), "mnist-ddpm")


# --- Equal computing: 5 CPU minutes each --------------------------------------------------------


def seconds_per_step(walk: Iterator[object], warm_up: int = 3, counted: int = 20) -> float:
    """The CPU time of one training step."""
    for _ in range(warm_up):
        next(walk)
    start = time.process_time()
    for _ in range(counted):
        next(walk)
    return (time.process_time() - start) / counted


def train_ours(name: str = "mnist-ddpm") -> nn.Module:
    """The course's recipe with as many steps as fit the budget; its average's weights."""
    made = recipe(name)

    def walk(state: TrainState, steps: int) -> Iterator[object]:
        return train(state, made.draw, made.loss_fn, steps=steps, lr=made.lr, ema_decay=0.995)

    torch.manual_seed(0)
    each = seconds_per_step(walk(TrainState.start(made.build()), 100))
    state = TrainState.start(made.build())
    spend(walk(state, round(BUDGET / each)), "ours")
    return state.ema.eval()


def train_theirs() -> tuple[nn.Module, int]:
    """A plain diffusers recipe in the same time: predicts ε, batch 128, Adam at 1e-3."""
    images, _ = mnist("train")
    torch.manual_seed(0)
    network = UNet2DModel(
        sample_size=28,
        in_channels=1,
        out_channels=1,
        layers_per_block=2,
        block_out_channels=(32, 64, 64),
        down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
    )
    scheduler, optimizer = DDPMScheduler(), torch.optim.Adam(network.parameters(), lr=1e-3)

    def walk() -> Iterator[float]:
        step = 0
        while True:
            generator = step_generator(0, step)
            x0 = images[batch_indices(len(images), 128, step)]
            t = torch.randint(1000, (128,), generator=generator)
            eps = torch.randn(x0.shape, generator=generator)
            loss = F.mse_loss(network(scheduler.add_noise(x0, eps, t), t).sample, eps)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            yield loss.item()

    steps = spend(walk(), "diffusers")
    return network.eval(), steps


def spend(walk: Iterator[object], name: str) -> int:
    """Train until the CPU budget is spent or the walk ends; returns the steps taken."""
    start, steps = time.process_time(), 0
    with tqdm(total=round(BUDGET), desc=name, unit="CPU s") as bar:
        for _ in walk:
            steps += 1
            spent = time.process_time() - start
            bar.update(min(round(spent), bar.total) - bar.n)
            if spent > BUDGET:
                break
    return steps


def budget() -> list[Row]:
    """(a): 5 CPU minutes on one thread for each recipe, 50 DDIM calls for both."""
    theirs, steps = train_theirs()
    pipeline = DDIMPipeline(theirs, DDIMScheduler())
    pipeline.set_progress_bar_config(desc="1000 samples of diffusers")
    generator = torch.Generator().manual_seed(1)
    drawn = pipeline(N, generator, num_inference_steps=50, output_type="np").images
    other = distance_to_mnist(torch.from_numpy(drawn).permute(0, 3, 1, 2) * 2 - 1)
    ours = distance_to_mnist(draw(train_ours(), 50))
    parameters = sum(p.numel() for p in theirs.parameters())
    return [
        Row("Fréchet distance after 5 CPU-minutes of training, the course's DDPM, N = 1,000",
            f"{ours:.0f}", "—"),
        Row(f"the same, a plain diffusers recipe ({parameters / 1e6:.1f} M parameters, "
            f"{steps} steps)", f"{other:.0f}", "—"),
        Row("ratio, ours to diffusers'", f"{ours / other:.2f}", "≤ 0.4"),
    ]  # fmt: skip


# --- The shipped weights --------------------------------------------------------------------------


def quality() -> list[Row]:
    """(b): the shipped weights between the floor and the ceiling, at N = 1,000."""
    floor, network = distance_floor(N), shipped()
    ours, noisy = (distance_to_mnist(draw(network, 50, eta)) for eta in (0.0, 1.0))
    minutes = card("mnist-ddpm")["cpu_minutes"]
    return [
        Row("Fréchet distance floor: 1,000 test images, mean of ten draws", f"{floor:.1f}", "—"),
        Row("noise ceiling: 1,000 images of noise", f"{noise_ceiling(N):,.0f}", "—"),
        Row(f"shipped `mnist-ddpm` ({minutes:.0f} CPU-minutes), 50 DDIM calls, N = 1,000",
            f"{ours:.1f}", "—"),
        Row("ratio of shipped to floor", f"{ours / floor:.1f}", "≤ 5"),
        Row("the same with η = 1", f"{noisy:.1f}, ratio {noisy / floor:.1f}", "—"),
    ]  # fmt: skip


def steps() -> list[Row]:
    """25 DDIM calls beside all 1,000 ancestral steps, above the floor, N = 1,000."""
    floor, network = distance_floor(N), shipped()
    few, many = distance_to_mnist(draw(network, 25)), distance_to_mnist(draw(network, 1000, eta=1))
    return [
        Row("25 DDIM calls, N = 1,000", f"{few:.1f}", "—"),
        Row("1,000 ancestral steps, N = 1,000", f"{many:.1f}", "—"),
        Row("ratio of the two, each above the floor", f"{(few - floor) / (many - floor):.2f}",
            "≤ 1.3"),
    ]  # fmt: skip


# --- Speed ----------------------------------------------------------------------------------------


class AsUNet2D(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """The course's network in the form in which DDIMPipeline calls one."""

    @register_to_config
    def __init__(self, sample_size: int = 28, in_channels: int = 1) -> None:
        super().__init__()
        self.network = shipped()

    def forward(self, x: Tensor, t: Tensor) -> UNet2DOutput:
        return UNet2DOutput(sample=self.network(x, t.expand(len(x))))


def speed() -> list[Row]:
    """The course's sampler beside DDIMPipeline on the same network, interleaved; CPU time."""
    network = shipped()
    scheduler = DDIMScheduler(
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
    )
    pipeline = DDIMPipeline(AsUNet2D(), scheduler)
    pipeline.set_progress_bar_config(disable=True)

    def ours() -> None:
        *_, _x0 = sample(as_eps_model(network, ALPHA_BARS), noise(64), ALPHA_BARS, steps=10)

    def theirs() -> None:
        pipeline(64, torch.Generator().manual_seed(1), num_inference_steps=10, output_type="np")

    for work in (ours, theirs):
        work()
    pairs = []
    for turn in tqdm(range(24), desc="rounds"):
        # Who goes first changes, and the least time counts: what is above it is other processes.
        order = (ours, theirs) if turn % 2 else (theirs, ours)
        spent = {work: cpu_seconds(work) for work in order}
        pairs.append((spent[ours], spent[theirs]))
    a, b = (min(times) for times in zip(*pairs, strict=True))
    return [
        Row("64 digits, 10 calls: the course's sampler, CPU seconds", f"{a:.2f}", "—"),
        Row("the same network driven by DDIMPipeline, CPU seconds", f"{b:.2f}", "—"),
        Row("ratio, ours to diffusers'", f"{a / b:.2f}", "≤ 1"),
    ]


def cpu_seconds(work: Callable[[], None]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


MEASURES: dict[str, Callable[[], list[Row]]] = {
    "budget": budget,
    "quality": quality,
    "steps": steps,
    "speed": speed,
}

"""DiffQRCoder as a pipeline of diffusers: prompt and text in, a picture that scans out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import ControlNetModel, DDIMScheduler, StableDiffusionControlNetPipeline
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from course.diffqrcoder.codes import PlacedCode, Unmet, report, unmet
from course.diffqrcoder.guidance import (
    Network,
    controlled,
    decoded,
    loss_gradient,
    predicted_z0,
    srpg_term,
    step_length,
)
from course.diffqrcoder.objective import Perceptual, Weights, objective, perceptual_here
from course.diffqrcoder.refinement import refine
from course.errors import CourseError
from course.forward_process import q_sample
from course.qr_codes import ScanReport, make_code, qart, version_of
from course.sampling import Kind, ddim_step
from course.scenery_models import control_image

KINDS: dict[str, Kind] = {"epsilon": "eps", "v_prediction": "v"}

# One pixel's share of a mean is less than half precision can hold on its way back through the
# decoder. A power of two takes it there and back and changes no digit.
LOSS_SCALE = 2.0**12


@dataclass(frozen=True)
class Guidance:
    """Everything about stage 2 that is not a prompt, a text or a seed."""

    weights: Weights = field(default_factory=Weights)
    strength: float = 0.6  # the share of the way back to noise that stage 2 starts from
    control_scale: float = 0.6  # of stage 2's ControlNet, which is shown ỹ
    step: float = 0.25  # how far one guided step moves z̃_0, as a root mean square
    ease: float = 0.5  # the loss below which steps get shorter
    budget: float = 0.5  # the share of the error budget that may stay spent
    slack: float = 0.05  # how far from grey a module's centre must be to count as right
    pattern_slack: float = 0.12  # the same for modules of function patterns
    jacobian: bool = True  # gradients through the network, or past it
    qart: bool = True
    stage_two: bool = True
    refine_steps: int = 40
    refine_eta: float = 100.0


DEFAULT = Guidance()


@dataclass
class DiffQRCoderOutput(BaseOutput):  # type: ignore[misc]
    """What the pipeline gives for each of b prompts."""

    images: Any  # (b, 3, h, w) in [0, 1], or b Pillow images
    stage1: Tensor  # x̂: (b, 3, h, w) in [0, 1]
    codes: list[PlacedCode]  # ỹ, in its place
    reports: list[ScanReport]
    errors: list[Tensor] = field(default_factory=list)  # guided step by step: module errors, (b,)
    refined: Tensor | None = None  # SR-MPGD steps taken, (b,) int64
    trajectory: list[Tensor] | None = None  # z̃_0 of each step, decoded; where asked for


class DiffQRCoderPipeline(StableDiffusionControlNetPipeline):  # type: ignore[misc]
    """Two stages and a refinement (Liao et al., DiffQRCoder), on any Stable Diffusion + ControlNet.

    Stage 1 paints x̂ under the ControlNet; its code's padding is then chosen to look like x̂ (Qart);
    stage 2 noises x̂ and walks back under scanning-robust perceptual guidance; SR-MPGD repairs what
    is left.
    """

    @classmethod
    def from_pretrained(cls, name: Any, controlnet: Any = None, **kwargs: Any) -> Any:
        """The shipped tiny pipeline's folder; or, by hub names, a full-size one.

        `controlnet` is a loaded network, or the hub name of one. Raises CourseError where the hub
        cannot be reached, naming the tiny models.
        """
        dtype = {k: kwargs[k] for k in ("torch_dtype",) if k in kwargs}
        try:
            if isinstance(controlnet, str):
                controlnet = ControlNetModel.from_pretrained(controlnet, **dtype)
            parts = {} if controlnet is None else {"controlnet": controlnet}
            return super().from_pretrained(name, **parts, **kwargs)
        except OSError as error:
            if Path(str(name)).is_dir():
                raise
            raise CourseError(
                f"{name} could not be had from the model hub ({type(error).__name__}). Without a "
                "network, use the tiny models that are shipped: data/models/scenery."
            ) from error

    def save_memory(self) -> None:
        """Recompute activations rather than keep them, and decode one picture at a time.

        The networks are frozen: nothing is kept for gradients by their weights.
        """
        for part in (self.unet, self.controlnet, self.vae):
            part.requires_grad_(False)
            part.enable_gradient_checkpointing()
        self.vae.enable_slicing()

    # --- Stages --------------------------------------------------------------------------------

    def decode(self, z: Tensor) -> Tensor:
        """Scaled latents as pictures, in [0, 1] but not clamped: (b, c, h, w) -> (b, 3, H, W)."""
        return decoded(self.vae, z)

    def encode(self, image: Tensor) -> Tensor:
        """Pictures as scaled latents, the posterior's mean: (b, 3, H, W) in [0, 1] -> as `z`."""
        z = self.vae.encode((2 * image - 1).to(self.vae.dtype)).latent_dist.mean
        return z * self.vae.config.scaling_factor

    def network(
        self, words: Tensor, condition: Tensor, guidance_scale: float, control_scale: float
    ) -> Network:
        """`guidance.controlled` with this pipeline's UNet and ControlNet."""
        return controlled(
            self.unet, self.controlnet, words, condition, guidance_scale, control_scale
        )

    @torch.no_grad()
    def __call__(  # type: ignore[override]
        self,
        prompt: str | Sequence[str],
        text: str | Sequence[str],
        *,
        version: int = 3,
        level: str = "M",
        module_size: int | None = None,
        grid: int = 40,
        negative_prompt: str | Sequence[str] | None = None,
        num_inference_steps: int = 25,
        guidance_scale: float = 4.0,
        controlnet_conditioning_scale: float = 0.6,
        guidance: Guidance = DEFAULT,
        perceptual: Perceptual | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        keep_trajectory: bool = False,
        output_type: str = "pil",
        callback_on_step_end: Callable[[Any, int, int, dict[str, Any]], dict[str, Any]]
        | None = None,
    ) -> DiffQRCoderOutput:
        """A picture of each prompt that scans as its text.

        text: one for all prompts, or one each. version, level: of the code; grid: modules along a
        side of the picture, quiet zone included; module_size: pixels a module [what fits the UNet's
        own size]. `guidance`: all of stage 2's settings. `controlnet_conditioning_scale`: stage
        1's. `perceptual`: L_LPIPS [`perceptual_here`]. generator: one, or one each, which then
        makes each picture independent of those beside it. Raises ValueError for a text that does
        not fit, or sizes that do not.
        """
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        texts = [text] * len(prompts) if isinstance(text, str) else list(text)
        if len(texts) != len(prompts):
            raise ValueError(f"{len(texts)} texts for {len(prompts)} prompts; one each, or one.")
        size = module_size or self.unet.config.sample_size * self.vae_scale_factor // grid
        codes = [PlacedCode(make_code(x, version, level), grid, size) for x in texts]
        if codes[0].side % self.vae_scale_factor:
            raise ValueError(
                f"{grid} modules of {size} pixels are not whole latent cells of "
                f"{self.vae_scale_factor} pixels."
            )

        device = self._execution_device
        told, untold = self.encode_prompt(prompts, device, 1, True, negative_prompt=negative_prompt)
        words = torch.cat([untold, told])
        reference = (
            super()
            .__call__(
                prompt_embeds=told,
                negative_prompt_embeds=untold,
                image=conditions(codes).to(device, told.dtype),
                num_inference_steps=num_inference_steps,
                guidance_scale=guidance_scale,
                controlnet_conditioning_scale=controlnet_conditioning_scale,
                generator=generator,
                output_type="pt",
            )
            .images.float()
        )

        if guidance.qart:
            codes = [
                _painted(x, code, reference[i : i + 1], level)
                for i, (x, code) in enumerate(zip(texts, codes, strict=True))
            ]
        walk = _Walk(
            codes,
            reference,
            guidance,
            perceptual or perceptual_here(),
            self.scheduler.alphas_cumprod.to(device),
            KINDS[self.scheduler.config.prediction_type],
        )
        out = DiffQRCoderOutput(
            images=None,
            stage1=reference,
            codes=codes,
            reports=[],
            trajectory=[] if keep_trajectory else None,
        )
        z = self.encode(reference).float()
        if guidance.stage_two:
            shown = conditions(codes).to(device)
            network = self.network(words, shown, guidance_scale, guidance.control_scale)
            z = self._walk(
                network, z, walk, num_inference_steps, generator, out, callback_on_step_end
            )
        with torch.enable_grad():
            z, out.refined = refine(
                z,
                lambda x: LOSS_SCALE * walk.losses(self.decode(x)),
                lambda x: walk.needs_work(self.decode(x.detach())),
                guidance.refine_eta / LOSS_SCALE,
                guidance.refine_steps,
            )
        images = self.decode(z).clamp(0, 1)
        # A file has 256 levels; what is reported on has them too.
        images = images.mul(255).round().div(255)
        out.reports = [report(images[i : i + 1].cpu(), code) for i, code in enumerate(codes)]
        out.images = images
        if output_type == "pil":
            out.images = self.image_processor.numpy_to_pil(images.permute(0, 2, 3, 1).cpu().numpy())
        self.maybe_free_model_hooks()
        return out

    def _walk(
        self,
        network: Network,
        z0: Tensor,
        walk: "_Walk",
        steps: int,
        generator: Any,
        out: DiffQRCoderOutput,
        callback: Any,
    ) -> Tensor:
        """Stage 2: x̂'s latents noised, and back under SRPG; writes what it sees into `out`."""
        scheduler: Any = DDIMScheduler.from_config(self.scheduler.config)
        scheduler.set_timesteps(steps)
        skipped = steps - min(steps, max(1, round(steps * walk.guidance.strength)))
        times = scheduler.timesteps[skipped:].to(z0.device)
        noise = randn_tensor(z0.shape, generator=generator, device=z0.device, dtype=z0.dtype)
        z = q_sample(z0, times[:1].repeat(len(z0)), noise, walk.alpha_bars)
        for i, t in enumerate(self.progress_bar(times)):
            now = t.repeat(len(z))
            after = times[i + 1].repeat(len(z)) if i + 1 < len(times) else torch.full_like(now, -1)
            eps_hat, image = self._guided(network, z, now, walk)
            z = ddim_step(z, now, eps_hat, walk.alpha_bars, after, clip=False)
            out.errors.append(walk.errors(image))
            if out.trajectory is not None:
                out.trajectory.append(image.clamp(0, 1).cpu())
            if callback is not None:
                z = callback(self, i, t, {"latents": z}).get("latents", z)
        return z

    def _guided(
        self, network: Network, z: Tensor, t: Tensor, walk: "_Walk"
    ) -> tuple[Tensor, Tensor]:
        """ε̂ with SRPG's term in it, and the picture of the z̃_0 that it had without."""
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            eps_hat, z0 = predicted_z0(
                network, z, t, walk.alpha_bars, walk.kind, walk.guidance.jacobian
            )
            image = self.decode(z0)
            work = walk.needs_work(image)
            if not work.any():
                return eps_hat.detach(), image.detach()
            scaled, gradient = loss_gradient(lambda x: LOSS_SCALE * walk.losses(x), image, z)
        losses = scaled / LOSS_SCALE
        step = step_length(losses, walk.guidance.step, walk.guidance.ease) * work.to(losses)
        return eps_hat.detach() + srpg_term(
            gradient / LOSS_SCALE, t, walk.alpha_bars, step
        ), image.detach()


@dataclass(frozen=True)
class _Walk:
    """What every step of stage 2 and of SR-MPGD needs to know."""

    codes: list[PlacedCode]
    reference: Tensor
    guidance: Guidance
    perceptual: Perceptual
    alpha_bars: Tensor
    kind: Kind

    def losses(self, images: Tensor) -> Tensor:
        """λ1 L_SR + λ2 L_LPIPS of each picture, given its own code and reference: (b,)."""
        each = zip(images.split(1), self.codes, self.reference.split(1), strict=True)
        return torch.cat(
            [objective(x, c, r, self.guidance.weights, self.perceptual) for x, c, r in each]
        )

    def unmet(self, images: Tensor, slack: float) -> list[Unmet]:
        """What is wrong with each picture."""
        return [unmet(x, c, slack) for x, c in zip(images.split(1), self.codes, strict=True)]

    def errors(self, images: Tensor) -> Tensor:
        """The share of each picture's modules that a threshold of one half misreads: (b,)."""
        return torch.cat([u.modules for u in self.unmet(images, 0.0)])

    def needs_work(self, images: Tensor) -> Tensor:
        """Which pictures spend more of the error budget than they may, or break a pattern: (b,)."""
        spent = torch.cat([u.spent for u in self.unmet(images, self.guidance.slack)])
        broken = torch.cat([u.patterns for u in self.unmet(images, self.guidance.pattern_slack)])
        return (spent > self.guidance.budget) | (broken > 0)


def as_qr_pipeline(pipeline: Any) -> DiffQRCoderPipeline:
    """The parts of a StableDiffusionControlNetPipeline under DiffQRCoder."""
    return DiffQRCoderPipeline(**pipeline.components, requires_safety_checker=False)


def conditions(codes: Sequence[PlacedCode]) -> Tensor:
    """What the ControlNet is shown of each code: (b, 3, H, W) in [0, 1]."""
    return control_image(torch.stack([code.modules for code in codes]), codes[0].side)


def _painted(text: str, code: PlacedCode, reference: Tensor, level: str) -> PlacedCode:
    """The code whose padding looks like the picture behind it: ỹ = Qart(x̂, y)."""
    picture = code.crop(reference).cpu().clamp(0, 1)
    return PlacedCode(
        qart(text, picture, version_of(code.code), level), code.grid, code.module_size
    )

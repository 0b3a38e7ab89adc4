"""DiffQRCoder itself as a method of the comparison, whole and with one thing changed at a time."""

import functools
from dataclasses import replace
from typing import Any

from course.diffqrcoder.baselines import VERSION, Case, Made, Method
from course.diffqrcoder.pipeline import DEFAULT, Guidance, as_qr_pipeline
from course.scenery_models import perceptual_distance, seeded, token_ids


def diffqrcoder(pipeline: Any, case: Case, guidance: Guidance = DEFAULT) -> Made:
    """Both stages and SR-MPGD, from the noise that the case's seed gives all methods."""
    token_ids(pipeline.tokenizer, [case.prompt])
    ours = as_qr_pipeline(pipeline)
    ours.set_progress_bar_config(disable=True)
    made = ours(
        case.prompt,
        case.text,
        version=VERSION,
        level=case.level,
        guidance=guidance,
        perceptual=perceptual_distance,
        generator=[seeded(case.seed)],
        output_type="pt",
    )
    return Made(made.images, made.codes[0], made.stage1)


def changes() -> dict[str, Guidance]:
    """What each ablation changes, by name."""
    weights = DEFAULT.weights
    return {
        "half-scan-weight": replace(DEFAULT, weights=replace(weights, scan=weights.scan / 2)),
        "double-scan-weight": replace(DEFAULT, weights=replace(weights, scan=weights.scan * 2)),
        "no-perceptual": replace(DEFAULT, weights=replace(weights, perceptual=0.0)),
        "triple-perceptual": replace(
            DEFAULT, weights=replace(weights, perceptual=3 * weights.perceptual)
        ),
        "no-qart": replace(DEFAULT, qart=False),
        "no-stage-2": replace(DEFAULT, stage_two=False),
        "no-refinement": replace(DEFAULT, refine_steps=0),
        "no-jacobian": replace(DEFAULT, jacobian=False),
    }


def ablations() -> dict[str, Method]:
    """The whole method, and each ablation, by name."""
    changed = {
        f"diffqrcoder-{name}": functools.partial(diffqrcoder, guidance=guidance)
        for name, guidance in changes().items()
    }
    return {"diffqrcoder": diffqrcoder, **changed}

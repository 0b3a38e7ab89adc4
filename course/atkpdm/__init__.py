"""Lesson 12: AtkPDM, protecting an image against editing by a pixel-domain diffusion model."""

from course.atkpdm.attack import Budget, atkpdm, feature_loss
from course.atkpdm.budgets import at_psnr, project, ssim
from course.atkpdm.distance import wasserstein2
from course.atkpdm.evaluation import bootstrap_interval, evaluate
from course.atkpdm.latent_attack import atkpdm_plus
from course.atkpdm.victims import Victim, load_victim

__all__ = [
    "Budget",
    "Victim",
    "at_psnr",
    "atkpdm",
    "atkpdm_plus",
    "bootstrap_interval",
    "evaluate",
    "feature_loss",
    "load_victim",
    "project",
    "ssim",
    "wasserstein2",
]

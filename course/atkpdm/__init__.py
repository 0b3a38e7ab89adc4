"""Lesson 12: AtkPDM, protecting an image against editing by a pixel-domain diffusion model."""

from course.atkpdm.distance import wasserstein2

__all__ = ["wasserstein2"]

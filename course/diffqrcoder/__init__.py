"""Lesson 10: DiffQRCoder, pictures first and codes second."""

from course.diffqrcoder.scan_loss import scanning_robust_loss

__all__ = ["scanning_robust_loss"]

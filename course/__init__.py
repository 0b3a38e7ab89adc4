"""Diffusion models, built by hand: the reference solutions that the course's notebooks use.

Importing the package loads torch at most; a capstone's heavier libraries are imported where
they are used.
"""

__version__ = "0.1.0"

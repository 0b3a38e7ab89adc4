"""The guards of tests/conftest.py hold as well where notebooks are tested alone."""

from tests.conftest import pytest_configure

__all__ = ["pytest_configure"]

"""The guards of tests/conftest.py hold as well where notebooks are tested without the tests."""

from tests.conftest import pytest_collectstart, pytest_configure, pytest_runtest_call

__all__ = ["pytest_collectstart", "pytest_configure", "pytest_runtest_call"]

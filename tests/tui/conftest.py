"""Fixtures of the app's tests."""

from conftest_tui import make_run, own_settings  # noqa: F401

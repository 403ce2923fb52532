"""Fixtures that tests of this folder share."""

from tests.fake_hub import fake_hub, hurried, tiny  # noqa: F401

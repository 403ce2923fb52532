"""The commands: options as dataclasses, `run` calls functions and prints; no logic."""

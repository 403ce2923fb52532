"""The project's experiments: each module states its question and runs on its own."""

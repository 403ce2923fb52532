"""Parameter trees by leaf path ("blocks/attention/qkv/kernel")."""

from collections.abc import Callable
from typing import Any

import jax


def _path_string(path: tuple) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def leaf_paths(tree: Any) -> dict[str, Any]:
    """Every leaf under its path, keys joined by `/`, in the tree's own (sorted) order.

    Args:
        tree: nested dicts.

    Returns:
        Leaf path -> leaf.

    >>> leaf_paths({"mlp": {"up": 1, "down": 2}})
    {'mlp/down': 2, 'mlp/up': 1}
    """
    return {_path_string(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def map_leaves(function: Callable[..., Any], tree: Any, *rest: Any) -> Any:
    """A tree of `function(path, leaf, *leaves of rest)`, with the structure of `tree`.

    Args:
        function: called once per leaf, with the leaf's path string first.
        tree: nested dicts.
        rest: trees of the same structure.

    Returns:
        Nested dicts of the results.

    Raises:
        ValueError: the structures differ.

    >>> map_leaves(lambda path, a, b: f"{path}={a + b}", {"up": 1}, {"up": 2})
    {'up': 'up=3'}
    """
    return jax.tree_util.tree_map_with_path(
        lambda path, *leaves: function(_path_string(path), *leaves), tree, *rest
    )

from jaxprotect.trees import leaf_paths, map_leaves


def test_paths_and_map():
    tree = {"b": {"c": 1, "d": 2}, "a": 3}
    assert leaf_paths(tree) == {"a": 3, "b/c": 1, "b/d": 2}
    assert map_leaves(lambda p, x, y: (p, x + y), tree, tree)["b"]["d"] == ("b/d", 4)

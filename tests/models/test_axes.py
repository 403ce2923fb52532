"""The axis table against the shapes of every architecture."""

import itertools

import pytest

from jaxprotect.models import axes
from jaxprotect.models.config import ModelConfig
from jaxprotect.models.transformer import parameter_shapes
from jaxprotect.trees import leaf_paths, map_leaves

SIZES = {"layer": 2, "embed": 12, "heads": 4, "key_heads": 2, "head_dim": 5, "mlp": 20}
SIZES |= {"vocab": 31, "qkv": 3, "type": 2, "transformed": 12}


def all_configs():
    switches = ("fused_qkv", "attention_bias", "mlp_bias", "embedding_norm", "final_norm")
    for positions in ("learned", "rotary", "alibi"):
        for tied, *chosen in itertools.product((False, True), repeat=1 + len(switches)):
            yield ModelConfig(
                family="gpt2",
                layers=2,
                width=12,
                heads=4,
                queries_per_key=2,
                own_head_size=5,
                norm="rms" if positions == "rotary" else "layer",
                gated_mlp=positions == "rotary",
                out_bias=tied,
                masked=tied and positions == "learned",
                token_types=2 if positions == "learned" else 0,
                mlp_width=20,
                vocab_size=31,
                context=7,
                positions=positions,
                position_offset=2,
                tied_head=tied,
                **dict(zip(switches, chosen, strict=True)),
            )


def test_every_leaf_of_every_architecture_is_named_with_its_true_sizes():
    seen = set()
    for config in all_configs():
        for path, leaf in leaf_paths(parameter_shapes(config)).items():
            expected = tuple(SIZES.get(name, 9) for name in axes.AXES[path])
            assert leaf.shape == expected, path
            seen.add(path)
    assert seen == set(axes.AXES)


def test_contracted_axes_are_the_inputs_of_each_matrix():
    expected = {
        "blocks/attention/qkv/kernel": (1,),
        "blocks/attention/q/kernel": (1,),
        "blocks/attention/k/kernel": (1,),
        "blocks/attention/v/kernel": (1,),
        "blocks/attention/out/kernel": (1, 2),
        "blocks/mlp/up/kernel": (1,),
        "blocks/mlp/gate/kernel": (1,),
        "blocks/mlp/down/kernel": (1,),
        "embed/tokens": (1,),
        "embed/positions": (1,),
        "embed/types": (1,),
        "head/transform/kernel": (0,),
        "head/kernel": (0,),
    }
    assert {path for path in axes.AXES if axes.is_matrix(path)} == set(expected)
    for path in axes.AXES:
        assert axes.contracted_axes(path) == expected.get(path, ()), path


def test_layer_and_head_axes():
    assert axes.layer_axis("blocks/mlp/down/bias") == 0
    assert axes.layer_axis("embed/tokens") is None
    assert axes.head_axis("blocks/attention/qkv/kernel") == 3
    assert axes.head_axis("blocks/attention/out/kernel") == 1
    assert axes.head_axis("blocks/attention/v/kernel") == 2
    assert axes.head_axis("blocks/attention/out/bias") is None
    for path in axes.AXES:
        assert (axes.layer_axis(path) == 0) == path.startswith("blocks/")


def test_components_cover_every_leaf():
    assert {axes.component(path) for path in axes.AXES} == set(axes.COMPONENTS)
    assert axes.component("embed/norm/scale") == "norms"
    assert axes.component("norm/bias") == "norms"
    assert axes.component("blocks/norm_attention/scale") == "norms"
    assert axes.component("blocks/attention/out/bias") == "attention"
    assert axes.component("blocks/mlp/up/bias") == "mlp"
    assert axes.component("head/kernel") == "head"
    assert axes.component("embed/positions") == "position_embedding"
    assert axes.component("embed/types") == "position_embedding"
    assert axes.component("head/transform/bias") == axes.component("head/bias") == "head"


def test_weights_are_the_matrices_and_the_norm_scales():
    scales = {path for path in axes.AXES if path.endswith("/scale")}
    matrices = {path for path in axes.AXES if axes.is_matrix(path)}
    assert {path for path in axes.AXES if axes.is_weight(path)} == scales | matrices
    assert not scales & matrices


def test_map_leaves_keeps_the_structure_and_passes_paths():
    tree = {"b": {"c": 1}, "a": 2}
    mapped = map_leaves(lambda path, x, y: (path, x + y), tree, {"a": 10, "b": {"c": 20}})
    assert mapped == {"a": ("a", 12), "b": {"c": ("b/c", 21)}}
    assert leaf_paths(tree) == {"a": 2, "b/c": 1}


def test_map_leaves_refuses_another_structure():
    with pytest.raises(ValueError):
        map_leaves(lambda path, x, y: x, {"a": 1}, {"b": 1})

import numpy as np
import pytest

from jaxprotect.models.axes import component, head_axis, layer_axis
from jaxprotect.models.census import KNOWN_MODELS, census_of
from jaxprotect.models.parts import counts_by_place, part_tree
from jaxprotect.models.transformer import parameter_shapes
from jaxprotect.trees import leaf_paths
from tests.models.tiny_models import CONFIGS


def nested(part):
    yield part
    for inner in part.parts:
        yield from nested(inner)


@pytest.mark.parametrize("name", KNOWN_MODELS)
def test_parts_are_the_whole(name):
    counted = census_of(name)
    config, whole = counted.config, part_tree(counted.config, name)
    assert (whole.name, whole.size) == (name, counted.total)
    for part in nested(whole):
        assert part.size > 0
        assert (part.place is None) == bool(part.parts)
        if part.parts:
            assert part.size == sum(inner.size for inner in part.parts)
    layers = [part.name for part in whole.parts if part.parts]
    assert layers == [f"layer {layer}" for layer in range(config.layers)]
    for kind, count in counted.components.items():
        assert count.total == sum(leaf.size for leaf in whole.leaves() if leaf.place[1] == kind)
    heads = [leaf.size for leaf in whole.leaves() if leaf.is_head]
    assert len(heads) == config.layers * config.heads
    if config.key_heads == config.heads:  # else what heads share is counted once, beside them
        assert set(heads) == {counted.attention_head.total}


@pytest.mark.parametrize("family", CONFIGS)
def test_flags_are_counted_where_they_lie(family):
    config, generator = CONFIGS[family], np.random.default_rng(0)
    for path, leaf in leaf_paths(parameter_shapes(config)).items():
        flags = generator.random(leaf.shape) < 0.5
        counts = counts_by_place(path, leaf.shape, flags, config)
        assert sum(counts.values()) == np.count_nonzero(flags)
        layers, heads = layer_axis(path), head_axis(path)
        if heads is not None and leaf.shape[heads] != config.heads:
            heads = None
        for (layer, kind, head), count in counts.items():
            index = [slice(None)] * flags.ndim
            if layers is not None:
                index[layers] = layer
            if heads is not None:
                index[heads] = head
            assert kind == component(path)
            assert (layer is None, head is None) == (layers is None, heads is None)
            assert count == np.count_nonzero(flags[tuple(index)])
        narrow = flags[..., :1]  # stands for the whole last axis
        wide = np.broadcast_to(narrow, leaf.shape)
        short, long = (counts_by_place(path, leaf.shape, of, config) for of in (narrow, wide))
        assert short == long

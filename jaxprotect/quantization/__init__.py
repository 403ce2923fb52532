"""(params, mask, spec) -> quantized params."""

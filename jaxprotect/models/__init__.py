"""Checkpoint -> Model(config, params, tokenizer); tokens -> logits."""

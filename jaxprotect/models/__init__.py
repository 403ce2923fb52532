"""Checkpoint -> Model(config, params, tokenizer); tokens -> logits."""

import logging

# transformers says on import that its models need PyTorch; here they need none.
logging.getLogger("transformers").addFilter(
    lambda record: not record.getMessage().startswith("PyTorch was not found")
)

"""(model, texts) -> nats per sentence -> damage, disparity, intervals."""

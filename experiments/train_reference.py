"""Train the reference model that ships with jaxprotect.

Question: how good a 25-language model fits in 6 MB and two hours of two CPU cores, so that the
toolkit can be tried, tested and measured on a model that really was trained?

    python -m experiments.train_reference --data DIR --work DIR

DIR holds `<language>.txt`, one line of natural text per row. The stages (tokenizer, encoding,
training) each leave their result in the work folder and are skipped when it is there; training
resumes from its last checkpoint. `--steps` may be lowered on resume to end a run early: the
learning rate is constant until it falls linearly over the last `--decay-steps`.

Hardware: 2 CPU cores; about 2,000 steps of 8,192 tokens in 1.5 hours. Result: see the model card
in `jaxprotect/reference/model`.
"""

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from optax.contrib import MuonDimensionNumbers, muon
from orbax.checkpoint import v1 as ocp
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from jaxprotect.evaluation.loss import token_nats
from jaxprotect.models.checkpoint import load_params, save_model_folder
from jaxprotect.models.config import ModelConfig
from jaxprotect.models.transformer import Params, init_params
from jaxprotect.progress import progress

START = "<|endoftext|>"
WORDS = r" ?[\p{L}\p{M}]+|\p{N}{1,3}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s+(?!\S)|\s+"
"""Pre-tokens: GPT-2's rule, but combining marks stay inside words (Hindi, Tamil, Thai)."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Train the reference model.

    Args:
        data: folder of `<language>.txt` training text.
        work: folder for the tokenizer, the encoded text and the checkpoints.
        layers: blocks.
        width: residual width.
        heads: attention heads.
        vocab_size: byte-level BPE vocabulary, start token included.
        context: window length in tokens.
        tokenizer_temperature: languages weigh bytes**this when merges are learnt.
        temperature: languages weigh bytes**this when windows are drawn.
        steps: optimizer steps.
        decay_steps: last steps, over which the learning rate falls to 0.
        warmup_steps: first steps, over which it rises.
        batch: windows per step.
        muon_rate: learning rate of the block matrices (Muon).
        adam_rate: learning rate of everything else (Adam).
        checkpoint_every: steps between checkpoints.
        seed: random seed of weights and windows.
        initial: begin at the weights of this Hugging Face folder, not at random ones; its
            tokenizer.json belongs in the work folder.
        export: after training, write the Hugging Face folder here (fp16).
    """

    data: Path
    work: Path
    layers: int = 4
    width: int = 192
    heads: int = 4
    vocab_size: int = 6144
    context: int = 256
    tokenizer_temperature: float = 0.5
    temperature: float = 0.6
    steps: int = 2000
    decay_steps: int = 800
    warmup_steps: int = 40
    batch: int = 32
    muon_rate: float = 0.02
    adam_rate: float = 0.004
    checkpoint_every: int = 100
    seed: int = 0
    initial: Path | None = None
    export: Path | None = None


def language_shares(folder: Path, temperature: float) -> dict[str, float]:
    """Each language's share of the training windows: bytes**temperature, normalised."""
    sizes = {path.stem: path.stat().st_size for path in sorted(folder.glob("*.txt"))}
    weights = {language: size**temperature for language, size in sizes.items()}
    return {language: weight / sum(weights.values()) for language, weight in weights.items()}


def train_tokenizer(config: Config) -> Tokenizer:
    """Byte-level BPE learnt from a temperature-weighted sample of the languages."""
    path = config.work / "tokenizer.json"
    if path.exists():
        return Tokenizer.from_file(str(path))
    shares = language_shares(config.data, config.tokenizer_temperature)
    scale = min((config.data / f"{name}.txt").stat().st_size / s for name, s in shares.items())

    def sample():
        for language, share in shares.items():
            lines = (config.data / f"{language}.txt").read_text(encoding="utf-8").splitlines()
            order = np.random.default_rng(config.seed).permutation(len(lines))
            budget = share * scale
            for index in order:
                if budget <= 0:
                    break
                budget -= len(lines[index].encode())
                yield lines[index]

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocab_size,
        special_tokens=[START],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sample(), trainer)
    tokenizer.save(str(path))
    return tokenizer


def encode(config: Config, tokenizer: Tokenizer) -> dict[str, np.ndarray]:
    """Each language as one uint16 array: every line after a start token."""
    start = tokenizer.token_to_id(START)
    folder = config.work / "tokens"
    folder.mkdir(exist_ok=True)
    streams = {}
    for source in progress(sorted(config.data.glob("*.txt")), desc="encode", unit="language"):
        path = folder / f"{source.stem}.npy"
        if not path.exists():
            lines = source.read_text(encoding="utf-8").splitlines()
            encoded = (e.ids for e in tokenizer.encode_batch_fast(lines))
            np.save(path, np.concatenate([np.asarray([start, *ids], np.uint16) for ids in encoded]))
        streams[source.stem] = np.load(path)
    return streams


def draw_batch(streams: dict, starts: dict, shares: dict, config: Config, step: int) -> np.ndarray:
    """The windows of one step, a pure function of (seed, step), so that a resume continues it.

    Half of the windows begin at a line, as sentences are scored; half anywhere, behind a start
    token, so that the ends of long lines are seen too.
    """
    generator = np.random.default_rng((config.seed, step))
    languages = generator.choice(list(shares), size=config.batch, p=list(shares.values()))
    windows = np.empty((config.batch, config.context + 1), np.int32)
    for row, language in enumerate(languages):
        stream = streams[language]
        limit = len(stream) - config.context - 1
        if generator.random() < 0.5:
            lines = starts[language]
            at = lines[generator.integers(np.searchsorted(lines, limit))]
        else:
            at = generator.integers(limit)
        windows[row] = stream[at : at + config.context + 1]
        windows[row, 0] = stream[0]
    return windows


def make_optimizer(config: Config) -> optax.GradientTransformation:
    """Muon on the block matrices (q, k and v each on its own), Adam on all else."""

    def schedule(peak: float) -> optax.Schedule:
        constant = config.steps - config.warmup_steps - config.decay_steps
        pieces = [
            optax.linear_schedule(0.0, peak, config.warmup_steps),
            optax.constant_schedule(peak),
            optax.linear_schedule(peak, 0.0, config.decay_steps),
        ]
        return optax.join_schedules(pieces, [config.warmup_steps, config.warmup_steps + constant])

    axes = {
        "qkv": MuonDimensionNumbers(reduction_axis=1, output_axis=(3, 4)),
        "out": MuonDimensionNumbers(reduction_axis=(1, 2), output_axis=3),
        "up": MuonDimensionNumbers(reduction_axis=1, output_axis=2),
        "down": MuonDimensionNumbers(reduction_axis=1, output_axis=2),
    }

    def dimensions(params: Params) -> Params:
        def one(path: tuple, leaf: jax.Array) -> MuonDimensionNumbers | None:
            names = [entry.key for entry in path]
            return axes.get(names[-2]) if names[-1] == "kernel" else None

        return jax.tree.map_with_path(one, params)

    return optax.chain(
        optax.clip_by_global_norm(1.0),
        muon(
            schedule(config.muon_rate),
            adam_learning_rate=schedule(config.adam_rate),
            adam_b2=0.99,
            muon_weight_dimension_numbers=cast(Any, dimensions),
            weight_decay=0.01,
        ),
    )


def train(config: Config, model: ModelConfig, streams: dict[str, np.ndarray]) -> Params:
    """Run the optimizer from the last checkpoint, or from scratch, to `config.steps`."""
    optimizer = make_optimizer(config)
    if config.initial is None:
        params = init_params(jax.random.key(config.seed), model)
    else:
        params, _ = load_params(config.initial, model)
    state = {
        "params": params,
        "optimizer": optimizer.init(params),
        "step": jnp.zeros((), jnp.int32),
    }
    shares = language_shares(config.data, config.temperature)
    start_token = next(iter(streams.values()))[0]
    starts = {language: np.flatnonzero(s == start_token) for language, s in streams.items()}

    @jax.jit
    def update(state: dict, windows: jax.Array) -> tuple[dict, jax.Array]:
        def loss_fn(params: Params) -> jax.Array:
            return jnp.mean(token_nats(params, windows, model))

        loss, gradient = jax.value_and_grad(loss_fn)(state["params"])
        updates, memory = optimizer.update(gradient, state["optimizer"], state["params"])
        params = optax.apply_updates(state["params"], updates)
        return {"params": params, "optimizer": memory, "step": state["step"] + 1}, loss

    keep: Any = ocp.training.preservation_policies.LatestN(2)
    folder = str((config.work / "checkpoints").resolve())
    with ocp.training.Checkpointer(folder, preservation_policy=keep) as checkpointer:
        if checkpointer.latest is not None:
            state = checkpointer.load(abstract_state=jax.eval_shape(lambda: state))
        first = int(state["step"])
        log = (config.work / "log.jsonl").open("a")
        smoothed = None
        bar = progress(range(first, config.steps), initial=first, total=config.steps, unit="step")
        for step in bar:
            state, loss = update(state, draw_batch(streams, starts, shares, config, step))
            smoothed = float(loss) if smoothed is None else 0.98 * smoothed + 0.02 * float(loss)
            bar.set_postfix(nats=f"{smoothed:.3f}")
            log.write(json.dumps({"step": step, "nats": float(loss), "time": time.time()}) + "\n")
            log.flush()
            if (step + 1) % config.checkpoint_every == 0 or step + 1 == config.steps:
                checkpointer.save(step + 1, state)
    return state["params"]


def run(config: Config) -> None:
    """Tokenizer, encoding, training, export."""
    config.work.mkdir(parents=True, exist_ok=True)
    (config.work / "config.json").write_text(json.dumps(asdict(config), default=str, indent=1))
    tokenizer = train_tokenizer(config)
    streams = encode(config, tokenizer)
    model = ModelConfig(
        family="gpt2",
        layers=config.layers,
        width=config.width,
        heads=config.heads,
        mlp_width=4 * config.width,
        vocab_size=tokenizer.get_vocab_size(),
        context=config.context,
    )
    params = train(config, model, streams)
    if config.export is not None:
        save_model_folder(
            config.export,
            params,
            model,
            tokenizer_file=config.work / "tokenizer.json",
            dtype="float16",
        )


if __name__ == "__main__":
    run(tyro.cli(Config))

"""Exp-019, activation caching: what do a few cached keys and values give back, per byte?

    python -m experiments.exp_019 [--quantizers int3-channel] [--steps 100]

Question: the keys and values of the tokens before a text can be kept in full precision while all
weights are quantized. How much of each language's damage does that undo, for the start token alone,
for the start token and others chosen for it, and for a prefix that is trained? A trained prefix
also adapts a model to the texts, so the original model gets one too, trained as hard: what is left
against that control is recovery.
Hardware and runtime: reference model and shipped texts, 2 CPU cores: about half an hour, most of it
training.
Expected (mean over languages): at INT4 per channel caching the start token undoes nothing and does
harm in some languages; at INT3 per channel and INT4 per tensor it undoes 9 and 17 % of the damage,
more tokens chosen for it undo no more, and one trained position undoes 40 and 48 %, of which 30 and
36 % are no adaptation.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from experiments.command_line import main
from experiments.common import Setup, load_model_of, manifest
from experiments.exp_009 import QUANTIZERS
from experiments.exp_019_page import write_prefixes
from experiments.prefix_tables import print_prefixes, tabulate
from experiments.prefix_variants import PrefixMaker, PrefixVariant, plan
from experiments.splits import load_splits
from jaxprotect.errors import InputError, refuse_unknown, unknown_name
from jaxprotect.evaluation.disparity import disparity
from jaxprotect.evaluation.encoding import Encoded
from jaxprotect.evaluation.evaluate import encode, evaluate_encoded
from jaxprotect.evaluation.evaluation import Evaluation
from jaxprotect.evaluation.recovery import recovery
from jaxprotect.models.model import Model
from jaxprotect.models.prefix import Prefix, check_prefix_length, prefix_bytes
from jaxprotect.models.transformer import Params
from jaxprotect.progress import progress
from jaxprotect.quantization.quantize import quantize_tree
from jaxprotect.quantization.size import original_size, protected_size
from jaxprotect.runs.results import ORIGINAL, Run, append_variant, open_run, write_csv
from jaxprotect.runs.summary import write_summary
from jaxprotect.runs.sweep import measure_original
from jaxprotect.selection import masks
from jaxprotect.selection.prefix_choice import OBJECTIVES
from jaxprotect.selection.prefix_learning import PrefixLearning

Flat = tyro.conf.arg(name="")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Cached, chosen and learned prefixes under several quantizers.

    Args:
        setup: model, texts and output folder (its quantizer and split are not used).
        quantizers: of those of Exp-009.
        chosen: numbers of tokens added to the start token.
        learned: lengths of learned prefixes.
        candidates: how many frequent, and as many pivot tokens are tried.
        choose_sentences: select sentences by which tokens are chosen.
        objective: what the choice makes small: `mean` or `worst` relative damage.
        learning: how prefixes are trained.
    """

    setup: Setup = Setup()
    quantizers: tuple[str, ...] = ("int4-channel", "int3-channel", "int4-tensor")
    chosen: tuple[int, ...] = (1, 2, 4)
    learned: tuple[int, ...] = (1, 4, 8)
    candidates: int = 6
    choose_sentences: int = 10
    objective: str = "mean"
    learning: Annotated[PrefixLearning, Flat] = PrefixLearning()

    def __post_init__(self) -> None:
        """Refuse what no run can do."""
        refuse_unknown("quantizers", self.quantizers, QUANTIZERS)
        for option in ("chosen", "learned"):
            low = [size for size in getattr(self, option) if size < 1]
            if low:
                raise InputError(f"`{option}` has {low[0]}; lengths are at least 1")
        for option in ("candidates", "choose_sentences"):
            if getattr(self, option) < 1:
                raise InputError(f"`{option}` is {getattr(self, option)}; it must be at least 1")
        if self.objective not in OBJECTIVES:
            raise unknown_name("objective", self.objective, OBJECTIVES)
        if self.setup.protocol == "seed":
            raise InputError(
                "`protocol` is 'seed'; a cached prefix takes the place of a start token, which "
                "only 'sound' has"
            )

    @property
    def room(self) -> int:
        """Positions of the longest prefix."""
        return max(1, *(size + 1 for size in self.chosen), *self.learned)


def run(config: Config) -> list[dict[str, Any]]:
    """Make every prefix on select, measure every variant on test, and write the tables and page."""
    setup = config.setup
    out = setup.out or Path("runs") / "exp_019"
    model, texts = load_model_of(setup), load_splits(setup)
    check_prefix_length(config.room, model.config)
    variants = plan(config.quantizers, config.chosen, config.learned)

    def encoded(split: str, count: int | None = None) -> Encoded:
        some = texts[split] if count is None else texts[split].take(range(count))
        return encode(model, some, batch_tokens=setup.batch_tokens, prefix_tokens=config.room)

    asked = manifest(setup, model, texts["test"], {"exp_019": [v.name for v in variants]})
    options = {key: value for key, value in asdict(config).items() if key != "setup"}
    asked["config"] |= {"prefixes": options, "select_sha256": texts["select"].sha256}
    with open_run(out, asked) as opened:
        maker = _maker(config, model, encoded, out / "prefixes", len(texts["select"].ids))
        opened = _measure(config, opened, model, encoded("test"), maker, variants)
        summary = write_summary(opened)
        rows = tabulate(opened, summary)
        write_csv(out / "prefixes.csv", rows)
        flat = [
            {key: value for key, value in row.items() if key != "intervention"}
            for row in opened.rows
        ]
        write_csv(out / "languages.csv", flat)
    print_prefixes(rows)
    print(f"report: {write_prefixes(out, model.name, rows, flat)}")
    return rows


def _maker(config: Config, model: Model, encoded: Any, folder: Path, sentences: int) -> PrefixMaker:
    select, few = encoded("select"), encoded("select", min(config.choose_sentences, sentences))
    return PrefixMaker(
        folder=folder,
        model=model,
        start=int(select.batches[0].tokens[0, 0]),  # column 0 is the start token everywhere
        encoded=select,
        base=evaluate_encoded(model.params, select, model.config),
        few=few,
        few_base=evaluate_encoded(model.params, few, model.config),
        candidates=config.candidates,
        steps=max(config.chosen, default=0),
        objective=config.objective,
        learning=config.learning,
    )


def _measure(
    config: Config,
    opened: Run,
    model: Model,
    encoded: Encoded,
    maker: PrefixMaker,
    variants: list[PrefixVariant],
) -> Run:
    base = measure_original(opened, model, encoded)
    finished = set(opened.variants)
    todo = [variant for variant in variants if variant.name not in finished]
    nothing = masks.none(model.params)
    weights: dict[str, Params] = {ORIGINAL: model.params}
    bar = progress(todo, initial=len(variants) - len(todo), total=len(variants), unit="variant")
    for variant in bar:
        bar.set_description(variant.name)
        maker_of = (variant.prefix or variant.weights).split("--")[0]
        for name in (variant.weights, maker_of):
            if name in QUANTIZERS and name not in weights:
                spec = QUANTIZERS[name]
                weights = {
                    ORIGINAL: model.params,
                    name: quantize_tree(model.params, nothing, spec, model.config),
                }
        prefix = maker.make(variant, weights.get(maker_of, model.params))
        evaluation = evaluate_encoded(weights[variant.weights], encoded, model.config, prefix)
        rows = _rows(config, opened, model, base, variant, prefix, evaluation)
        opened = append_variant(opened, variant.name, evaluation, rows)
    return opened


def _rows(
    config: Config,
    opened: Run,
    model: Model,
    base: Evaluation,
    variant: PrefixVariant,
    prefix: Prefix | None,
    evaluation: Evaluation,
) -> list[dict[str, Any]]:
    """One row per language: its damage, and what the prefix undid of it."""
    setup = config.setup
    extra = 0 if prefix is None else prefix_bytes(prefix)
    if variant.weights == ORIGINAL:
        label, total = ORIGINAL, original_size(model.params, "float16")
    else:
        spec = QUANTIZERS[variant.weights]
        label = spec.label
        total = protected_size(model.params, masks.none(model.params), spec).total
    shared = {
        "variant": variant.name,
        "intervention": {"kind": "prefix", "prefix": variant.prefix, "weights": variant.weights},
        "quantizer": label,
        "weights": variant.weights,
        "kind": variant.kind,
        "positions": variant.positions,
        "tokens": "" if prefix is None else " ".join(map(str, prefix.tokens)),
        "protected": 0,
        "eligible": masks.eligible_count(model.params),
        "fraction": 0.0,
        "bytes": total + extra,
        "overhead_bytes": extra,
    }
    result = disparity(base, evaluation, reference=setup.reference, draws=setup.draws)
    treated = variant.weights != ORIGINAL and prefix is not None
    found: dict[str, dict[str, Any]] = {}
    if treated:
        plain = opened.evaluation(variant.weights)
        control = base if variant.control is None else opened.evaluation(variant.control)
        gross = recovery(base, plain, evaluation, draws=setup.draws)
        net = recovery(base, plain, evaluation, control, draws=setup.draws)
        found = {
            name: {
                **gross[name].nats.to_row("recovered"),
                **gross[name].share.to_row("recovered_share"),
                **net[name].nats.to_row("net"),
                **net[name].share.to_row("net_share"),
                "nats_per_byte": (gross[name].nats.value or 0.0) / extra,
                "net_nats_per_byte": (net[name].nats.value or 0.0) / extra,
            }
            for name in gross
        }
    return [
        {**shared, **row, **found.get(str(row["language"]), _UNTREATED)} for row in result.rows()
    ]


_UNTREATED = {
    f"{name}{end}": None
    for name in ("recovered", "recovered_share", "net", "net_share")
    for end in ("", "_low", "_high")
} | {"nats_per_byte": None, "net_nats_per_byte": None}


if __name__ == "__main__":
    main(Config, run)

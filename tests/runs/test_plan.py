"""Plans: counted bytes, and peaks that a process really has."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from jaxprotect.commands.plan import Plan as Command
from jaxprotect.errors import InputError
from jaxprotect.runs.plan import Rates, multiplied, plan
from jaxprotect.runs.plan_batches import Work
from tests.tiny import CONFIG

ROOT = Path(__file__).parents[2]
TOLERANCE = 0.15
"""Of a measured peak."""


def test_what_lies_on_a_device_is_counted():
    made = plan(CONFIG, work=Work(length=8, tokens=1000, batch_tokens=170))
    weights = 4 * made.parameters
    steps = {step.name: step for step in made.steps}
    assert steps["evaluate"].weights == weights
    assert steps["statistics"].weights == 7 * weights
    assert steps["quantize"].weights == 2 * weights + made.parameters
    assert made.peak.bytes == max(step.bytes for step in made.steps)
    rows = made.rows(Rates(forward=1e9, backward=2e9))
    products = made.parameters - 24 * 16  # positions are looked up; norms and biases are small
    # 125 sentences in 13 batches of 10 rows, padded to 16.
    assert rows[0]["seconds"] == pytest.approx(2 * products * 130 * 16 / 1e9, rel=0.1)
    assert rows[-1]["seconds"] == 10 * rows[0]["seconds"]


@pytest.mark.parametrize(
    ("work", "evaluated", "measured"),
    [
        (Work(length=50), (63, 64), (16, 64)),
        (Work(length=70), (50, 80), (10, 96)),
        (Work(length=50, batch_tokens=300), (4, 64), (4, 64)),
    ],
    ids=str,
)
def test_the_programs_are_compiled_for_the_batches_of_a_run(work, evaluated, measured, monkeypatch):
    asked = []

    def working(*given):
        asked.append(given[-2:])
        return 0

    for name in ("working_evaluation", "working_statistics"):
        monkeypatch.setattr(f"jaxprotect.runs.plan.{name}", working)
    monkeypatch.setattr("jaxprotect.runs.plan.working_quantization", lambda *_: 0)
    plan(replace(CONFIG, context=128), work=work)
    assert asked == [evaluated, measured]


def test_a_masked_models_head_reads_one_token_of_a_copy():
    masked = replace(CONFIG, family="bert", masked=True, vocab_size=1000)
    head = 1000 * masked.width + masked.width**2
    blocks = multiplied(masked, 1, 2) - multiplied(masked, 1, 1)
    assert multiplied(masked, 3, 8) == 3 * (8 * blocks + head)


def test_a_sentence_longer_than_the_context_is_refused():
    with pytest.raises(InputError, match="`length` is 25; the model's context allows 1 to 24"):
        plan(CONFIG, work=Work(length=25))


@pytest.mark.parametrize("amount", ["tokens", "languages", "variants", "batch_tokens", "length"])
def test_no_work_is_refused(amount):
    with pytest.raises(InputError, match=f"`{amount}` is 0; it must be at least 1"):
        plan(CONFIG, work=Work(**{"length": 8, amount: 0}))


def test_more_groups_of_devices_share_the_sentences():
    work = Work(length=8, languages=1)
    one, many, most = (plan(CONFIG, work=work, groups=groups) for groups in (1, 1024, 2048))
    assert many.devices == 1024
    # A language's 298 batches, of 42 rows padded to 24, are shared as they are.
    assert many.steps[1].operations == one.steps[1].operations / 298 == most.steps[1].operations
    assert many.steps[1].bytes == one.steps[1].bytes
    assert many.steps[0].working < one.steps[0].working  # their share of a batch


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"rate": 0.0}, "`rate` is 0.0; it must be above 0"),
        ({"memory": float("inf")}, "`memory` is inf; it must be above 0"),
        ({"mesh": "data=1,model=3"}, "model=3, which does not divide the model's"),
        ({"mesh": "4"}, "`mesh` is '4'; allowed is such as data=4,model=2"),
    ],
)
def test_what_cannot_be_planned_is_refused_before_anything_is_compiled(given, said):
    with pytest.raises(InputError, match=said):
        Command(**{"rate": 1.0, **given}).run()


@pytest.mark.slow
def test_devices_that_are_not_there_share_the_weights():
    command = ["plan", "--model", "gpt2", "--rate", "1", "--json", "--mesh"]
    reports = []
    for mesh in ("data=1,model=1", "data=2,model=4"):
        line = [sys.executable, "-m", "jaxprotect.cli", *command, mesh]
        done = subprocess.run(line, capture_output=True, text=True, cwd=ROOT, check=True)
        reports.append(json.loads(done.stdout))
    alone, split = ({step["name"]: step for step in of["steps"]} for of in reports)
    assert reports[1]["mesh"] == {"data": 2, "model": 4}
    # GPT-2's vocabulary, 50,257, is odd: its table, 31 %, is repeated.
    share = split["evaluate"]["weights"] / alone["evaluate"]["weights"]
    assert 0.31 + 0.69 / 4 < share < 0.31 + 0.69 / 4 + 0.02
    # 63 rows of a batch are 32 of each group.
    assert split["evaluate"]["seconds"] == pytest.approx(alone["evaluate"]["seconds"] / 8, rel=0.02)
    # Alone a batch's sums lie beside those before it: 7 trees to 4. What is saved of a batch for
    # the way back is whole on every device of a group, as no sum is cut there.
    trees = split["statistics"]["weights"] / alone["statistics"]["weights"]
    assert trees == pytest.approx(share * 4 / 7)
    assert split["statistics"]["bytes"] < alone["statistics"]["bytes"]


@pytest.mark.slow
def test_rates_are_an_accelerators_where_a_mesh_is_compiled_for_the_processor(tmp_path):
    sizes = {"n_layer": 1, "n_embd": 16, "n_head": 4, "n_positions": 16, "vocab_size": 32}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"} | sizes))
    line = [sys.executable, "-m", "tests.runs.accelerator_child", str(tmp_path)]
    done = subprocess.run(line, capture_output=True, text=True, cwd=ROOT, check=True)
    assert json.loads(done.stdout) == {"measured": True, "compiled": [[4, False]] * 3}


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("mesh", ["data=1,model=1", "data=2,model=2"])
def test_a_process_has_the_planned_peaks(mesh):
    measured, planned = (
        json.loads(
            subprocess.run(
                [sys.executable, "-m", "tests.runs.peak_child", what, "27M", mesh],
                capture_output=True,
                text=True,
                cwd=ROOT,
                check=True,
            ).stdout
        )
        for what in ("measured", "planned")
    )
    assert planned == pytest.approx(measured, rel=TOLERANCE)

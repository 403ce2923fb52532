"""Launch scripts, against stand-ins of what they start: command lines, exit codes, mistakes."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from jaxprotect import endings
from tests.docs.pages import ROOT, text_of
from tests.test_hosts import FLAGS, free_port

JOBS = ROOT / "experiments" / "jobs"
SCRIPTS = sorted([*JOBS.glob("*.sh"), *JOBS.glob("*.sbatch")])
AGAIN = {endings.INTERRUPTED, endings.TERMINATED, endings.LOST}
COMMAND = ("jaxprotect", "evaluate", "--model", "a name", "--out", "gs://b/$x")
"""A command whose words a shell would change."""

STUBS = {
    # Each call is a line of `calls`; the command itself leaves its words in `words`.
    "git": '[[ "$3" == archive ]] || exec echo 1234; touch "${5#--output=}"',
    "kubectl": 'echo "kubectl $*" >>calls; cat >sent.yaml; exit "${CODE:-0}"',
    "srun": 'echo "srun $*" >>calls; [[ "$1" != --kill* ]] || shift; "$@"',
    "scontrol": 'echo "scontrol $*" >>calls; echo "JobId=7 JobState=${STATE:-RUNNING} Reason=None"',
    "gcloud": """
echo "gcloud $*" >>calls
case "$*" in
  *tpu-vm\\ describe*) cat vm ;;
  *resources\\ describe*) cat queue ;;
  *create*)
    [[ -z "${FAILS:-}" ]] || { printf 'FAILED\\tno more v5p\\n' >queue; exit 0; }
    echo READY >vm; echo ACTIVE >queue ;;
  *resources\\ delete*) [[ -z "${UNQUEUED:-}" ]] || exit 1; : >vm; : >queue ;;
  *tpu-vm\\ delete*) [[ -z "${KEPT:-}" ]] || exit 1; : >vm ;;
  *flock*)
    code=$(head -n 1 codes); sed -i 1d codes
    [[ "$code" != 255 ]] || { : >vm; echo SUSPENDED >queue; exit 255; }
    CODE=$code bash -c "${7#--command=}" ;;
  *ssh*) bash -n -c "${7#--command=}" ;;
esac""",
}


@pytest.fixture
def place(tmp_path):
    """A folder with stand-ins, in which scripts run."""
    stubs = {f"bin/{name}": text for name, text in STUBS.items()}
    program = 'printf "%s\\n" jaxprotect "$@" >words; exit "${CODE:-0}"'
    for home in ("venv/bin", "jaxprotect/.venv/bin"):
        stubs[f"{home}/jaxprotect"] = f'cd "{tmp_path}"; {program}'
    for name, text in stubs.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    for name in ("vm", "queue", "calls"):
        (tmp_path / name).touch()
    return tmp_path


def run(place, script, *words, **variables):
    """The exit code, standard error, and what was called."""
    path = f"{place / 'bin'}:/usr/bin:/bin"
    done = subprocess.run(
        ["bash", str(JOBS / script), *words],
        capture_output=True,
        text=True,
        cwd=place,
        env={"PATH": path, "HOME": str(place), "TMPDIR": str(place), **variables},
        timeout=60,
    )
    return done.returncode, done.stderr, (place / "calls").read_text().splitlines()


TPU = {"TPU": "t", "ZONE": "z", "TYPE": "v5p-16", "RUNTIME": "r", "POLL": "0"}
GKE = {"NAME": "study", "IMAGE": "place/image"}
ARRAY = {"VENV": "venv", "COMMANDS": "commands", "SLURM_ARRAY_TASK_ID": "1", "SLURM_JOB_ID": "7"}
HOSTS = {"VENV": "venv", "SLURM_JOB_ID": "7"}
LAUNCHES = {
    "tpu_vm.sh": TPU,
    "gke_jobset.sh": GKE,
    "slurm_array.sbatch": ARRAY,
    "slurm_hosts.sbatch": HOSTS,
}
OPTIONAL = ("POLL", "SLURM_JOB_ID")


@pytest.fixture
def array(place):
    """A file of two commands, of which the second one's words need their quotes."""
    model, out = COMMAND[3], COMMAND[5]
    line = f"""jaxprotect evaluate --model "{model}" --out '{out}'"""
    (place / "commands").write_text(f"false\n{line}\n")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_sound(script):
    subprocess.run(["bash", "-n", str(script)], check=True)
    checker = Path(sys.executable).with_name("shellcheck")
    done = subprocess.run([checker, str(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "\nset -euo pipefail\n" in script.read_text("utf-8")
    assert script.name in LAUNCHES
    assert f"`{script.name}`" in text_of("experiments/jobs/README.md")


@pytest.mark.parametrize(
    ("script", "missing"),
    [(s, name) for s, given in LAUNCHES.items() for name in given if name not in OPTIONAL],
)
def test_what_is_missing_is_said_in_one_line(script, missing, place, array):
    given = {name: value for name, value in LAUNCHES[script].items() if name != missing}
    code, said, calls = run(place, script, *COMMAND, **given)
    assert (code, calls) == (endings.BAD_INPUT, [])
    assert said.startswith(f"error: `{missing}` is not set; give ")
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("script", sorted(set(LAUNCHES) - {"slurm_array.sbatch"}))
def test_so_is_a_missing_command(script, place):
    code, said, calls = run(place, script, **LAUNCHES[script])
    assert (code, calls) == (endings.BAD_INPUT, [])
    assert said == "error: no command; give one, such as jaxprotect sensitivity\n"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"COMMANDS": "none"}, "error: `COMMANDS` none cannot be read"),
        ({"SLURM_ARRAY_TASK_ID": "2"}, "error: `COMMANDS` commands has no line of index 2"),
    ],
)
def test_so_is_a_line_that_is_not_there(change, message, place, array):
    code, said, calls = run(place, "slurm_array.sbatch", **ARRAY | change)
    assert (code, said, calls) == (endings.BAD_INPUT, f"{message}\n", [])


@pytest.mark.parametrize("code", [0, 1, endings.BAD_INPUT, 137, *sorted(AGAIN)])
@pytest.mark.parametrize("script", ["slurm_array.sbatch", "slurm_hosts.sbatch"])
def test_slurm_queues_again_what_can_go_on(script, code, place, array):
    words = () if script == "slurm_array.sbatch" else COMMAND
    ended, _, calls = run(place, script, *words, CODE=str(code), **LAUNCHES[script])
    assert ended == code
    assert ("scontrol requeue 7" in calls) == (code in AGAIN)
    expected = COMMAND if script == "slurm_array.sbatch" else (*COMMAND, "--coordinator", "auto")
    assert (place / "words").read_text().splitlines() == [*expected]


@pytest.mark.parametrize("change", [{"STATE": "CANCELLED"}, {"SLURM_RESTART_COUNT": "20"}])
@pytest.mark.parametrize("script", ["slurm_array.sbatch", "slurm_hosts.sbatch"])
def test_but_not_what_was_cancelled_or_began_too_often(script, change, place, array):
    given = {"CODE": "143", **LAUNCHES[script], **change}
    code, _, calls = run(place, script, *COMMAND, **given)
    assert code == 143
    assert "scontrol requeue 7" not in calls


def calls_of(calls, what):
    return [call for call in calls if what in call]


def test_a_tpu_is_asked_for_once_and_used(place):
    (place / "codes").write_text("0\n")
    code, said, calls = run(place, "tpu_vm.sh", *COMMAND, **TPU)
    assert code == 0, said
    (created,) = calls_of(calls, "create")
    flags = "--node-id=t --accelerator-type=v5p-16 --runtime-version=r --spot --zone=z"
    assert created == f"gcloud compute tpus queued-resources create t {flags}"
    (copied,) = calls_of(calls, "tpu-vm scp")
    assert copied.endswith("/jaxprotect.tar.gz t: --worker=all --zone=z")
    install, started = calls_of(calls, "tpu-vm ssh t --worker=all --command=")
    assert "-c constraints.txt '.[gcs,tpu]'" in install
    assert started.endswith("--coordinator auto --zone=z")
    assert (place / "words").read_text().splitlines() == [*COMMAND, "--coordinator", "auto"]
    assert "queued-resources delete t --force --zone=z" in said
    assert not list(place.glob("tmp.*"))


@pytest.mark.parametrize("code", [1, endings.BAD_INPUT, 137])
def test_what_would_end_in_the_same_way_is_not_begun_again(code, place):
    (place / "vm").write_text("READY\n")
    (place / "codes").write_text(f"{code}\n0\n")
    ended, _, calls = run(place, "tpu_vm.sh", *COMMAND, **TPU, SPOT="no", DELETE="yes")
    assert ended == code
    assert not calls_of(calls, "create")
    assert len(calls_of(calls, "flock")) == 1
    assert calls[-1] == "gcloud compute tpus queued-resources delete t --force --quiet --zone=z"


def test_another_tpu_is_asked_for_when_one_is_taken_away(place):
    (place / "codes").write_text("143\n255\n134\n0\n")
    code, said, calls = run(place, "tpu_vm.sh", *COMMAND, **TPU, SPOT="no")
    assert code == 0
    assert len(calls_of(calls, "flock")) == 4
    assert len(calls_of(calls, "create")) == 2
    assert not calls_of(calls, "--spot")
    assert "ended with exit code 143; again (1 of 20)" in said


def test_but_not_for_ever(place):
    (place / "codes").write_text("143\n" * 9)
    code, _, calls = run(place, "tpu_vm.sh", *COMMAND, **TPU, TRIES="3")
    assert code == 143
    assert len(calls_of(calls, "flock")) == 3


def test_nor_is_a_machine_asked_for_that_is_never_made(place):
    (place / "bin/sleep").write_text('#!/usr/bin/env bash\necho "sleep $*" >>calls\n')
    (place / "bin/sleep").chmod(0o755)
    code, said, calls = run(place, "tpu_vm.sh", *COMMAND, **TPU, TRIES="3", FAILS="yes")
    assert code == 254
    assert len(calls_of(calls, "create")) == len(calls_of(calls, "delete")) == 3
    assert calls_of(calls, "sleep") == ["sleep 0"] * 2
    assert "the request for t failed (3 of 3): no more v5p\n" in said
    assert not calls_of(calls, "flock")


@pytest.mark.parametrize(
    ("stays", "last_words"),
    [({}, ""), ({"KEPT": "yes"}, "t could not be deleted: it stays, and costs\n")],
)
@pytest.mark.parametrize("code", [0, 7])
def test_a_machine_made_without_the_queue_is_deleted_and_hides_no_exit_code(
    code, stays, last_words, place
):
    (place / "vm").write_text("READY\n")
    (place / "codes").write_text(f"{code}\n")
    given = {**TPU, "DELETE": "yes", "UNQUEUED": "yes", **stays}
    ended, said, calls = run(place, "tpu_vm.sh", *COMMAND, **given)
    assert (ended, said) == (code, last_words)
    assert calls[-1] == "gcloud compute tpus tpu-vm delete t --quiet --zone=z"


def sent(place, **variables):
    """What kubectl is given."""
    code, said, calls = run(place, "gke_jobset.sh", *COMMAND, **GKE | variables)
    assert (code, calls) == (0, ["kubectl apply --filename=-"]), said
    text = (place / "sent.yaml").read_text()
    assert "${" not in text.partition("kind:")[2]
    return yaml.safe_load(text)


def test_a_jobset_runs_the_command_on_every_host(place):
    made = sent(place, HOSTS="8", CHIPS="2", CACHE="gs://b/cache")
    (slices,) = made["spec"]["replicatedJobs"]
    job = slices["template"]["spec"]
    assert job["completions"] == job["parallelism"] == 8
    pod = job["template"]["spec"]
    (main,) = pod["containers"]
    assert main["resources"]["limits"] == {"google.com/tpu": 2}
    assert main["env"] == [{"name": "JAX_COMPILATION_CACHE_DIR", "value": "gs://b/cache"}]
    assert pod["restartPolicy"] == "Never"  # as a policy of exit codes demands
    words = [*main["command"][2:], *main["args"]]
    path = f"{place / 'venv/bin'}:/usr/bin:/bin"
    done = subprocess.run(words, env={"PATH": path, "CODE": "134"}, cwd=place)
    assert done.returncode == 134
    assert (place / "words").read_text().splitlines() == [*COMMAND, "--coordinator", "auto"]


def test_a_jobset_begins_again_by_exit_code(place):
    spec = sent(place)["spec"]
    policy = spec["failurePolicy"]
    assert policy["rules"] == [
        {"action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}
    ]
    assert policy["maxRestarts"] > 0
    job = spec["replicatedJobs"][0]["template"]["spec"]
    assert job["backoffLimit"] == 0  # all hosts begin again, or none
    by_action = {rule["action"]: rule["onExitCodes"] for rule in job["podFailurePolicy"]["rules"]}
    assert {codes["operator"] for codes in by_action.values()} == {"In"}
    assert by_action["FailJob"]["values"] == [1, endings.BAD_INPUT]
    assert set(by_action["Count"]["values"]) == AGAIN


def test_kubectls_exit_code_comes_through(place):
    assert run(place, "gke_jobset.sh", *COMMAND, **GKE, CODE="3")[0] == 3


def test_the_guides_codes_are_those_of_the_program():
    guide = text_of("experiments/jobs/README.md")
    rows = re.findall(r"^\| (\d+) \| .* \| (yes|no|look first) \|$", guide, re.MULTILINE)
    again = {int(code): answer for code, answer in rows}
    assert {code for code, answer in again.items() if answer == "yes"} == AGAIN
    assert {again[code] for code in (0, 1, endings.BAD_INPUT)} == {"no"}
    codes = ",".join(map(str, sorted(AGAIN)))
    assert f"--restart-on-exit-codes {codes} " in guide
    for script in ("slurm_array.sbatch", "slurm_hosts.sbatch", "tpu_vm.sh"):
        (found,) = re.findall(r"^\s+([\d |]+)\) ", text_of(f"experiments/jobs/{script}"), re.M)
        assert {int(code) for code in found.split("|")} - {255} == AGAIN


def test_the_container_has_what_it_copies_and_installs():
    text = text_of("experiments/jobs/Dockerfile")
    copied = re.findall(r"^COPY (.+) \S+$", text, re.MULTILINE)
    names = [name for line in copied for name in line.split()]
    assert {"jaxprotect", "experiments", "constraints.txt"} <= set(names)
    assert all((ROOT / name).exists() for name in names)
    project = tomllib.loads(text_of("pyproject.toml"))["project"]
    assert {project["readme"], *project["license-files"]} <= set(names)
    extras = {e for found in re.findall(r"\bgcs(?:,\w+)*", text) for e in found.split(",")}
    assert {"gcs", "tpu", "cuda12"} == extras <= set(project["optional-dependencies"])
    assert re.search(r"^USER (?!root)\w+$", text, re.MULTILINE)


@pytest.mark.slow
def test_tasks_of_slurm_find_each_other(place):
    """Two real processes, with the variables that SLURM gives to the tasks of a step."""
    python = f'#!/usr/bin/env bash\nexec "{sys.executable}" -m jaxprotect.cli "$@"\n'
    (place / "venv/bin/jaxprotect").write_text(python)
    (place / "bin/srun").write_text(
        """#!/usr/bin/env bash
shift
export SLURM_NTASKS=2 SLURM_STEP_NUM_NODES=2 SLURM_STEP_NODELIST=localhost SLURM_LOCALID=0
SLURM_PROCID=1 "$@" >other.out 2>other.err & other=$!
code=0; SLURM_PROCID=0 "$@" || code=$?
wait $other; echo $? >other.code; exit $code
"""
    )
    words = ("jaxprotect", "evaluate", "--languages", "eng_Latn", "--draws", "99", "--json")
    variables = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": FLAGS, "PYTHONPATH": str(ROOT)}
    variables["JAX_COORDINATOR_PORT"] = str(free_port())
    variables |= {k: v for k, v in os.environ.items() if k.startswith("JAX_COMPILATION")}
    code, said, _ = run(place, "slurm_hosts.sbatch", *words, **HOSTS, **variables)
    assert code == 0, said
    assert "4 x CPU on 2 hosts · mesh data=4,model=1\n" in said
    assert (place / "other.code").read_text() == "0\n"
    assert "4 x CPU" not in (place / "other.err").read_text()

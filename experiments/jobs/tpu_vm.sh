#!/usr/bin/env bash
# Runs one command on all workers of a Cloud TPU VM, and again where the machine was taken away:
#
#   TPU=study ZONE=us-east5-a TYPE=v5p-16 RUNTIME=v2-alpha-tpuv5 \
#     bash experiments/jobs/tpu_vm.sh jaxprotect sensitivity --out gs://bucket/sensitivity
#
# TPU      name of the machine, made if there is none; of its request in the queue, too
# ZONE     where it is
# TYPE     accelerator type
# RUNTIME  software of the machine
# SPOT     no: a machine that is not taken away; default yes
# DELETE   yes: delete the machine at the end; default no
# TRIES    how often the command is begun, and how often a request may fail; default 20
# POLL     seconds between two looks at the queue, and between two tries; default 30
#
# Exits with the command's code; 255 is a machine that could not be reached, 254 one that was not
# made, as its request failed TRIES times.
set -euo pipefail

need() {
  [[ -n "${!1:-}" ]] || { echo "error: \`$1\` is not set; give $2" >&2; exit 2; }
}
need TPU "the machine's name"
need ZONE "its zone, such as us-east5-a"
need TYPE "its accelerator type, such as v5p-16"
need RUNTIME "its software, such as v2-alpha-tpuv5"
(($# > 0)) || { echo "error: no command; give one, such as jaxprotect sensitivity" >&2; exit 2; }
spot=${SPOT:-yes} tries=${TRIES:-20} poll=${POLL:-30} failed=0

machine() { gcloud compute tpus tpu-vm "$1" "${@:2}" --zone="$ZONE"; }
queue() { gcloud compute tpus queued-resources "$1" "$TPU" "${@:2}" --zone="$ZONE"; }
on_all() { machine ssh "$TPU" --worker=all --command="$1"; }
say() { echo "$*" >&2; }

wait_for_machine() {
  local flags=(--node-id="$TPU" --accelerator-type="$TYPE" --runtime-version="$RUNTIME")
  [[ "$spot" == no ]] || flags+=(--spot)
  local format='value(state.state, state.failedData.error.message)' state message
  until [[ "$(machine describe "$TPU" --format='value(state)' 2>/dev/null)" == READY ]]; do
    read -r state message <<<"$(queue describe --format="$format" 2>/dev/null || true)"
    case "$state" in
      "") say "asking for $TPU" && queue create "${flags[@]}" ;;
      SUSPENDED)
        say "$TPU is gone"
        queue delete --force --quiet
        sleep "$poll"
        ;;
      FAILED) # for good, of a quota or a wrong type, or for now
        failed=$((failed + 1))
        say "the request for $TPU failed ($failed of $tries): ${message:-no reason is given}"
        queue delete --force --quiet || say "that request could not be deleted"
        ((failed < tries)) || exit 254
        sleep "$poll"
        ;;
      *) sleep "$poll" ;;
    esac
  done
}

# The last commit of this checkout, in an environment of its own; what is there already stays.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
commit=$(git -C "$root" rev-parse HEAD)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
git -C "$root" archive --format=tar.gz --output="$scratch/jaxprotect.tar.gz" HEAD

install="set -eu; mkdir -p jaxprotect; cd jaxprotect; test ! -e .installed-$commit || exit 0; \
tar -xzf ../jaxprotect.tar.gz; python3 -m pip install --quiet --user uv; \
python3 -m uv venv --quiet --allow-existing --python 3.11 .venv; \
python3 -m uv pip install --quiet --python .venv/bin/python -c constraints.txt '.[gcs,tpu]'; \
touch .installed-$commit"

# A command that still runs, as only the connection was lost, ends before it is given again.
run="cd jaxprotect && export PATH=\$PWD/.venv/bin:\$PATH && exec 9>.running && flock 9 && \
exec $(printf '%q ' "$@")--coordinator auto"

for ((try = 1; ; try++)); do
  wait_for_machine
  code=0
  machine scp "$scratch/jaxprotect.tar.gz" "$TPU:" --worker=all || code=255
  if ((code == 0)); then on_all "$install" || code=$?; fi
  if ((code == 0)); then on_all "$run" || code=$?; fi
  case $code in
    130 | 134 | 143 | 255) ;;
    *) break ;;
  esac
  ((try < tries)) || break
  say "ended with exit code $code; again ($try of $tries)"
  sleep "$poll"
done

if [[ "${DELETE:-no}" == yes ]]; then
  # A machine that was made without the queue is not in it.
  queue delete --force --quiet || machine delete "$TPU" --quiet ||
    say "$TPU could not be deleted: it stays, and costs"
else
  say "$TPU stays, and costs, until: gcloud compute tpus queued-resources delete $TPU --force --zone=$ZONE"
fi
exit "$code"

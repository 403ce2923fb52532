#!/usr/bin/env bash
# Runs one command on all hosts of a TPU slice in a GKE cluster, as a JobSet (gke_jobset.yaml):
#
#   NAME=study IMAGE=REGION-docker.pkg.dev/PROJECT/REPO/jaxprotect \
#     bash experiments/jobs/gke_jobset.sh jaxprotect sensitivity --out gs://bucket/sensitivity
#
# NAME             of the JobSet
# IMAGE            made of the Dockerfile beside this script
# ACCELERATOR      default tpu-v5-lite-podslice
# TOPOLOGY         default 4x4
# HOSTS, CHIPS     hosts of the slice, default 4; chips of a host, default 4
# SERVICE_ACCOUNT  of Kubernetes, which may write to the bucket; default default
# CACHE            where compiled programs are kept, default in the container
#
# Exits with the code of kubectl; the exit code of the command is in the pods' status.
set -euo pipefail

need() {
  [[ -n "${!1:-}" ]] || { echo "error: \`$1\` is not set; give $2" >&2; exit 2; }
}
need NAME "a name for the JobSet"
need IMAGE "a container image, made of experiments/jobs/Dockerfile"
(($# > 0)) || { echo "error: no command; give one, such as jaxprotect sensitivity" >&2; exit 2; }
: "${ACCELERATOR:=tpu-v5-lite-podslice}" "${TOPOLOGY:=4x4}" "${HOSTS:=4}" "${CHIPS:=4}"
: "${SERVICE_ACCOUNT:=default}" "${CACHE:=/tmp/compiled}"
export COMMAND
COMMAND="$(printf '%q ' "$@")--coordinator auto"

text=$(<"$(dirname "${BASH_SOURCE[0]}")/gke_jobset.yaml")
for name in NAME IMAGE ACCELERATOR TOPOLOGY HOSTS CHIPS SERVICE_ACCOUNT CACHE COMMAND; do
  text=${text//"\${$name}"/"${!name}"}
done
kubectl apply --filename=- <<<"$text"

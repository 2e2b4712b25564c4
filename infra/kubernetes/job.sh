#!/usr/bin/env bash
# Run one of Rollcall's jobs now, and end when it has: backup, restore, schema or buckets.
#
#     infra/kubernetes/job.sh restore DUMP=rollcall-20261124T023000Z.dump
#
# NAME=value words are variables of this run alone. Its log is printed, and the exit status says whether it succeeded.
set -euo pipefail
name="${1:?the name of a job is needed: backup, restore, schema or buckets}"
shift

with_variables() { # the manifest on standard input
    if [ $# -gt 0 ]; then kubectl set env --local --filename=- --output=yaml "$@"; else cat; fi
}

job="$(kubectl --namespace=rollcall create job --from="cronjob/$name" "$name-$(date -u +%Y%m%d-%H%M%S)" \
    --dry-run=client --output=yaml | with_variables "$@" | kubectl create --filename=- --output=name)"
echo "$job"

conditions='{.status.conditions[?(@.status=="True")].type}' # Complete or Failed at last, others before that
until [[ "${ended:-}" =~ Complete|Failed ]]; do
    sleep 2
    ended="$(kubectl --namespace=rollcall get "$job" --output=jsonpath="$conditions")"
done
kubectl --namespace=rollcall logs "$job" || true # its pod may be gone when it failed
[[ "$ended" =~ Complete ]] || { echo "$job failed" >&2; exit 1; }

#!/usr/bin/env bash
# Run one of Rollcall's jobs (backup, restore, schema or buckets) now, and wait until it ends.
#
#     infra/kubernetes/job.sh restore DUMP=rollcall-20261124T023000Z.dump
#
# NAME=value arguments set variables for this run only. Prints the job's log, and exits with 0 if the job succeeded.
set -euo pipefail
name="${1:?a job is required: backup, restore, schema or buckets}"
shift

with_variables() { # reads the manifest from standard input
    if [ $# -gt 0 ]; then kubectl set env --local --filename=- --output=yaml "$@"; else cat; fi
}

job="$(kubectl --namespace=rollcall create job --from="cronjob/$name" "$name-$(date -u +%Y%m%d-%H%M%S)" \
    --dry-run=client --output=yaml | with_variables "$@" | kubectl create --filename=- --output=name)"
echo "$job"

jsonpath='{.status.conditions[?(@.status=="True")].type}' # includes Complete or Failed once the job has ended
failures=0
until [[ "${conditions:-}" =~ Complete|Failed ]]; do
    sleep 2
    if conditions="$(kubectl --namespace=rollcall get "$job" --output=jsonpath="$jsonpath")"; then
        failures=0
    elif [ "$((failures += 1))" -ge 30 ]; then # the cluster does not respond; the job may still be running
        exit 1
    fi
done
kubectl --namespace=rollcall logs "$job" || true # the pod of a failed job may be gone
[[ "$conditions" =~ Complete ]] || { echo "$job failed" >&2; exit 1; }

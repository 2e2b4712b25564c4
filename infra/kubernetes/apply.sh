#!/usr/bin/env bash
# Apply the kustomization in $OVERLAY, wait for its stores, and run the jobs that set up the database and the buckets.
#
#     OVERLAY=infra/kubernetes/overlays/seaweedfs infra/kubernetes/apply.sh
#
# It is safe to run at any time. In the overlay's namespaces, the resources of other overlays are removed, except those
# with data: namespaces, claims and secrets.
set -euo pipefail
: "${OVERLAY:?is required: the directory of the kustomization to apply}"

applied="$(kubectl apply --kustomize "$OVERLAY" --output=name)"
printf '%s\n' "$applied"
# Apply again to prune: --output=name would not tell pruned names from applied ones.
kubectl apply --kustomize "$OVERLAY" --selector=app.kubernetes.io/part-of=rollcall --prune \
    --prune-allowlist=core/v1/Service \
    --prune-allowlist=core/v1/ConfigMap \
    --prune-allowlist=apps/v1/Deployment \
    --prune-allowlist=apps/v1/StatefulSet \
    --prune-allowlist=batch/v1/Job \
    --prune-allowlist=batch/v1/CronJob \
    --prune-allowlist=networking.k8s.io/v1/NetworkPolicy \
    --prune-allowlist=policy/v1/PodDisruptionBudget |
    { grep ' pruned' || true; }

for store in $(grep '^statefulset' <<< "$applied" || true); do
    kubectl --namespace=rollcall rollout status "$store" --timeout=20m
done
for job in schema buckets; do
    if grep --quiet --line-regexp "cronjob.batch/$job" <<< "$applied"; then
        "$(dirname "$0")/job.sh" "$job"
    fi
done

#!/bin/sh
# An external trainer for `train-lora --engine command`: a Kubernetes Job.
# usage: kubernetes.sh {job} {out} {base} IMAGE CLAIM
#   IMAGE has python3 with torch, transformers, peft, trl and tar; CLAIM is a PersistentVolumeClaim that the pod and a
#   helper pod mount. Job and base go up, out comes down; KUBECONFIG is passed on by train-lora.
set -eu
job=$1
out=$2
base=$3
image=$4
claim=$5
here=$(cd "$(dirname "$0")" && pwd)
name=nightshift-$(printf %s "$NIGHTSHIFT_RUN_ID" | tr 'A-Z_' 'a-z-' | cut -c1-40)
cleanup() { kubectl delete --ignore-not-found --wait=false "job/$name" "pod/$name-files" >/dev/null 2>&1 || true; }
trap 'cleanup; exit 143' TERM INT
cleanup

render() { sed -e "s|@NAME@|$name|g" -e "s|@IMAGE@|$image|g" -e "s|@CLAIM@|$claim|g" "$here/$1"; }
render kubernetes-files.yaml | kubectl apply -f -
kubectl wait --for=condition=Ready --timeout=10m "pod/$name-files"
kubectl exec "$name-files" -- sh -c "rm -rf /data/$name && mkdir -p /data/$name/out"
tar -C "$job" -cf - . | kubectl exec -i "$name-files" -- sh -c "mkdir /data/$name/job && tar -C /data/$name/job -xf -"
tar -C "$base" -cf - . | kubectl exec -i "$name-files" -- sh -c "mkdir /data/$name/base && tar -C /data/$name/base -xf -"
kubectl cp "$here/trl_train.py" "$name-files:/data/$name/trl_train.py"
# The paths in job.json are those of this machine.
kubectl exec "$name-files" -- python3 - "/data/$name" <<'PYTHON'
import json, pathlib, sys
root = pathlib.Path(sys.argv[1])
path = root / "job" / "job.json"
job = json.loads(path.read_text())
job["base"]["path"], job["checkpoints"], job["resume_from"] = str(root / "base"), str(root / "out/checkpoints"), None
if job["init_adapter"]:
    job["init_adapter"] = str(root / "job/init_adapter")
path.write_text(json.dumps(job))
PYTHON

render kubernetes-job.yaml | kubectl apply -f -
# The log is the sign of life; the wait below gives the verdict.
kubectl wait --for=condition=Ready --timeout=30m pod -l "job-name=$name" >/dev/null 2>&1 || true
kubectl logs -f "job/$name" || true
if ! kubectl wait --for=condition=complete --timeout=5m "job/$name"; then
  kubectl describe "job/$name" >&2
  cleanup
  exit 1
fi
# Everything but result.json first: it must be the last to appear.
kubectl exec "$name-files" -- tar -C "/data/$name/out" --exclude=./result.json --exclude=./checkpoints -cf - . | tar -C "$out" -xf -
kubectl exec "$name-files" -- cat "/data/$name/out/result.json" >"$out/result.tmp"
mv "$out/result.tmp" "$out/result.json"
cleanup

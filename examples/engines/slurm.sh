#!/bin/sh
# An external trainer for `train-lora --engine command`: a Slurm job; the home lies on shared storage.
# usage: slurm.sh {job} {out}
# sbatch --wait returns the job's own exit code. When this script is ended, the job is cancelled with it.
set -eu
job=$1
out=$2
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$out"
id=''
cancel() {
  trap - TERM INT
  id=$(sed -n 's/^Submitted batch job \([0-9]*\).*/\1/p' "$out/sbatch.log")
  [ -z "$id" ] || scancel "$id"
  exit 143
}
trap cancel TERM INT
sbatch --wait --output "$out/slurm.log" "$here/slurm.sbatch" "$job" "$out" "$here" >"$out/sbatch.log" &
sender=$!
# The log of the job is the sign of life that train-lora watches.
wait "$sender"

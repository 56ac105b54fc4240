#!/bin/sh
# An external trainer for `train-lora --engine command`: axolotl.
# usage: axolotl.sh {job} {out}      (axolotl and python3 in PATH)
set -eu
job=$1
out=$2
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$out"
python3 "$here/axolotl_config.py" "$job" "$out" "$out/axolotl.yml"
axolotl train "$out/axolotl.yml"
state=$(find "$out/axolotl/model" -name trainer_state.json | sort | tail -n 1)
exec python3 "$here/finish.py" "$job" "$out" "$out/axolotl/model" axolotl 1 ${state:+"$state"}

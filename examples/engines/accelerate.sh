#!/bin/sh
# An external trainer for `train-lora --engine command`: TRL under accelerate.
# usage: accelerate.sh {job} {out} [PROCESSES]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
exec accelerate launch --num_processes "${3:-1}" --num_machines 1 --mixed_precision no --dynamo_backend no \
  "$here/trl_train.py" "$1" "$2"

#!/bin/sh
# An external trainer for `train-lora --engine command`: TRL on every GPU of this machine by torchrun.
# usage: torchrun.sh {job} {out} [PROCESSES]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
count=${3:-$(python3 -c 'import torch; print(max(1, torch.cuda.device_count()))')}
# The ranks share the machine: the job's own thread count is for one process.
unset OMP_NUM_THREADS
exec torchrun --standalone --nproc_per_node "$count" "$here/trl_train.py" "$1" "$2"

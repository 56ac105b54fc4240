#!/bin/sh
# Runs one improvement night. For the crontab, from any working directory:
#   0 2 * * * /path/to/cron/nightly_improvement.sh
# The home is the folder above this script unless NIGHTSHIFT_HOME says otherwise. The programs are
# looked for in NIGHTSHIFT_BIN, <home>/bin, <home>/target/release, and on the PATH.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
home=${NIGHTSHIFT_HOME:-$(dirname -- "$here")}
PATH="${NIGHTSHIFT_BIN:-$home/bin}:$home/target/release:$PATH"
export PATH
cd "$home"
exec nightly --home "$home" --log-format json "$@"

#!/bin/sh
# Runs one cycle of the feedback loop. For the crontab, from any working directory:
#   0 2 * * * /path/to/cron/feedback_loop.sh --target-config /etc/agent/config.yaml
# The home is the folder above this script unless NIGHTSHIFT_HOME says otherwise. The program is
# looked for in NIGHTSHIFT_BIN, <home>/bin, <home>/target/release, and on the PATH.
# Exits 5 when a change was taken back, 6 when one could not be, 4 when one waits for approval.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
home=${NIGHTSHIFT_HOME:-$(dirname -- "$here")}
PATH="${NIGHTSHIFT_BIN:-$home/bin}:$home/target/release:$PATH"
export PATH
cd "$home"
exec analyze-logs --home "$home" --log-format json loop run "$@"

#!/bin/sh
# Tells the guest that a job begins; then the image's own hook, if it has one, has its turn.
# The job never waits for more than a moment, and never fails because the daemon is away.
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    timeout -k 1 2 python3 -I -S -B /usr/local/lib/runner-fleet/guest/hook.py job-started \
    </dev/null >/dev/null 2>&1 || true
if [ -n "${RUNNER_FLEET_NEXT_JOB_STARTED:-}" ]; then
    exec sh "${0%/*}/next-hook.sh" "$RUNNER_FLEET_NEXT_JOB_STARTED"
fi
exit 0

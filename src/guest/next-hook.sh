#!/bin/sh
# Runs a hook of the image, as the runner application runs it (actions/runner, ScriptHandlerHelpers):
# by what its name ends with.
case "$1" in
*.js)
    # The application's own Node.js; images need not have another. Of those that it brings, some are
    # for another C library (node20_alpine) and do not start here.
    for node in "${RUNNER_FLEET_APPLICATION:-}"/externals/node*/bin/node; do
        "$node" --version >/dev/null 2>&1 && newest=$node
    done
    exec "${newest:-node}" "$1"
    ;;
*.ps1)
    quoted=$(printf '%s' "$1" | sed "s/'/''/g")
    for shell in pwsh powershell; do
        command -v "$shell" >/dev/null 2>&1 && exec "$shell" -command ". '$quoted'"
    done
    echo "$1: there is no PowerShell in this image" >&2
    exit 127
    ;;
*)
    command -v bash >/dev/null 2>&1 && exec bash -e "$1"
    exec sh -e "$1"
    ;;
esac

#!/bin/bash
# As the real one: turns most exit codes into 0. The guest starts bin/Runner.Listener itself.
"$(dirname "$0")"/bin/Runner.Listener run "$@"
exit 0

# shellcheck shell=bash
# What every set of scripts that starts daemons for tests needs: one of them at a time, a process that
# is known again, and how long each phase took. Sourced; it wants STATE, a folder, and SPEAKER, the
# first word of what goes wrong.
#
# A process is known by its id *and* its start time in the kernel's clock ticks: an id alone may
# have gone to a stranger since, and a name alone may belong to a daemon of the machine's own.

die() {
  echo "$SPEAKER: $*" >&2
  exit 1
}

# One script of a set at a time. The lock goes with file descriptor 9, so no daemon may inherit it.
lock() {
  exec 9>"$STATE/.lock"
  flock 9
}

# start_time PID: prints it, or fails where there is no such process or only its zombie.
start_time() {
  local stat fields
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  # The command's name stands in brackets and may hold spaces; the state is the first word behind it.
  read -ra fields <<<"${stat##*) }"
  [ "${fields[0]}" != Z ] || return 1
  echo "${fields[19]}"
}

# is_process FILE: whether the process runs whose id and start time are in the file.
is_process() {
  local pid since
  [ -s "$1" ] || return 1
  read -r pid since <"$1"
  [ "$(start_time "$pid")" = "$since" ]
}

now_ms() { date +%s%3N; }
BEGAN_MS=$(now_ms)
PHASE_MS=$BEGAN_MS

seconds_since() { local ms=$(($(now_ms) - $1)); printf '%d.%d' $((ms / 1000)) $((ms % 1000 / 100)); }

# phase WHAT: it has ended; prints how long it took since the one before.
phase() {
  printf '%-40s %7s s\n' "$1" "$(seconds_since "$PHASE_MS")"
  PHASE_MS=$(now_ms)
}

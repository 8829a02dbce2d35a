# shellcheck shell=bash
# Starting, watching and ending the daemons that tests bring up, and no others. Sourced.
#
# Whoever sources it says in SUITE what it brings up, in STATE where its lock lies, in RUN where its
# process ids lie, and in LOGS what its daemons say.
#
# A process is known by its id *and* its start time in the kernel's clock ticks: an id alone may
# have gone to a stranger since, and a name alone may belong to the machine's own database.

die() {
  echo "$SUITE: $*" >&2
  exit 1
}

# One script of a suite at a time. The lock goes with file descriptor 9, so no daemon may
# inherit that one.
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

alive() { is_process "$RUN/$1.pid"; }

# start NAME COMMAND...: in a session of its own, so that the whole of it can be ended at once.
start() {
  local name=$1 pid
  shift
  alive "$name" && return 0
  setsid "$@" >>"$LOGS/$name.log" 2>&1 </dev/null 9>&- &
  pid=$!
  echo "$pid $(start_time "$pid")" >"$RUN/$name.pid"
}

signal() {
  local pid since
  alive "$2" || return 0
  read -r pid since <"$RUN/$2.pid"
  kill "-$1" -- "-$pid" 2>/dev/null || true
}

# stop NAME...: all are asked at once; who is still there after three seconds is ended. Nova's daemons
# regularly take longer than that.
stop() {
  local name tries
  for name; do signal TERM "$name"; done
  for name; do
    for ((tries = 0; tries < 30; tries++)); do
      alive "$name" || break
      sleep 0.1
    done
    signal KILL "$name"
    rm -f "$RUN/$name.pid"
  done
}

# wait_for SECONDS WHAT DAEMON COMMAND...: until the command succeeds; fails early where the daemon
# that should bring it about has died.
wait_for() {
  local seconds=$1 what=$2 daemon=$3 end
  shift 3
  end=$((SECONDS + seconds))
  until "$@" >/dev/null 2>&1; do
    if ! alive "$daemon"; then
      tail -n 20 "$LOGS/$daemon.log" >&2
      die "$daemon ended while this was waited for: $what (log: $LOGS/$daemon.log)"
    fi
    if ((SECONDS >= end)); then
      tail -n 20 "$LOGS/$daemon.log" >&2
      die "no $what within $seconds s (log: $LOGS/$daemon.log)"
    fi
    sleep 0.2
  done
}

listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

now_ms() { date +%s%3N; }
BEGAN_MS=$(now_ms)
PHASE_MS=$BEGAN_MS

seconds_since() { local ms=$(($(now_ms) - $1)); printf '%d.%d' $((ms / 1000)) $((ms % 1000 / 100)); }

phase() {
  printf '%-40s %7s s\n' "$1" "$(seconds_since "$PHASE_MS")"
  PHASE_MS=$(now_ms)
}

# shellcheck shell=bash
# Starting, watching and ending the daemons of this OpenStack, and no others.

# shellcheck disable=SC2034  # for what is sourced next
SPEAKER=openstack
# shellcheck source=tests/lib/process.sh
. "$HERE/../lib/process.sh"

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

# stop NAME...: all are asked at once; who is still there after three seconds is ended. The Nova
# daemons regularly take longer than that.
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

# Any HTTP answer will do: that the API talks is the point, not what it says to a stranger.
answers() { curl -s -o /dev/null --max-time 20 "http://127.0.0.1:${API_PORT[$1]}/"; }

listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

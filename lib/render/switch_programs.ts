/**
 * The small programs around the switch: its flows, what it is given when it starts, and what is done about paths that die. Pure.
 */
import { LINK } from "../net/network.ts";
import {
  dumpFlows,
  FLOW_CONTROL,
  FLOW_TABLES,
  forget,
  LIST_FLOWS,
  OFCTL,
  RUN_DIR,
  SWITCH_DB,
} from "../net/seen.ts";
import { BIN_DIR, DETOUR_PROTOCOL } from "../net/steps.ts";
import { ETC_DIR } from "./dnsmasq.ts";

/** What a restarted switch needs, of this host alone; made by `renderRestore`. */
export const RESTORE_FILE = `${ETC_DIR}/restore-switch.sh`;

/** In which order the paths of a restarted switch speak again, of this host alone; made by `renderHandover`. */
export const HANDOVER_FILE = `${ETC_DIR}/handover`;

/** What is known of each direct path, by the peer's id: `ID.lived` is there since it was up first. */
export const PATHS_DIR = `${RUN_DIR}/paths`;

/** Of the database and the switch. */
export const OVS_DIR = `${RUN_DIR}/ovs`;
/** Asks the database. */
export const VSCTL = `ovs-vsctl --no-syslog --db=${SWITCH_DB} --timeout=30`;
/** What the switch had learned before it was restarted on purpose. */
export const LEARNED_FILE = `${RUN_DIR}/flows.learned`;

/** Shell: the cookie that all flows of the present text bear. */
const FLOW_COOKIE = `$(sum=$(cksum <${RUN_DIR}/flows.text) && printf 0x%x "\${sum%% *}")`;

/** For awk: the text, then what is live (`LIST_FLOWS`) → what is live and not in the text. Learned flows are in neither. */
const STALE_FLOWS = `FNR == NR { if ($1 == "group") { split($2, part, ","); wanted[part[1]] = 1 }; next }
match($0, /^ *group_id=[0-9]+/) { id = substr($0, RSTART, RLENGTH); sub(/^ */, "", id); if (!(id in wanted)) print "delete " id; next }
/actions=/ && index($0, cookie) == 0 && !/^ *(cookie=[^ ]* *)?table=[^${FLOW_TABLES}]/ { flows = 1 }
END { if (flows) print "flow" }`;

/**
 * Takes the text of the flows on standard input. First adds, then removes: no frame meets an empty table, and what was learned (table
 * 1) stays. What bears another cookie than this text's is not of it. Remembers what loading made, so that a change by hand, or a
 * switch that has forgotten all, is noticed. With "fresh" it is for a switch that has none, and the text is the remembered one: only
 * what it needs to carry on, and not remembered, so that the repair does all of it. One at a time.
 */
export const LOAD_FLOWS = `set -eu
umask 077
cd ${RUN_DIR}
exec 9>flows.lock
flock 9
${forget("flows")}
if [ "\${1:-}" != fresh ]; then
  cat >flows.wanted
  mv flows.wanted flows.text
fi
cookie=${FLOW_COOKIE}
meters='s/^$//'
# Kernels before 4.15 have no meters: floods are not limited there.
for meter in $(sed -n 's/^meter //p' flows.text); do
  ${OFCTL("add-meter", '"$meter"')} 2>/dev/null || ${OFCTL("mod-meter", '"$meter"')} 2>flows.error || {
  echo "Cannot limit floods: $(cat flows.error); expected a switch that has meters" >&2
  meters='s/meter:[0-9]*,//'
}
done
sed -n 's/^group /add_or_mod /p' flows.text | ${OFCTL("add-groups", "-")}
sed -n -e "/^flow /!d" -e "s//cookie=$cookie,/" -e "$meters" -e p flows.text | ${OFCTL("add-flows", "-")}
[ "\${1:-}" != fresh ] || exit 0
list() { ${LIST_FLOWS}; }
list >flows.new || :
# What is there and not in the text: "flow", or "delete group_id=<id>".
stale=$(awk -v "cookie=cookie=$cookie," '${STALE_FLOWS}' flows.text flows.new)
case $stale in *flow*)
  ${dumpFlows()} | sed -e "/cookie=$cookie,/d" -e 's/ actions=.*//' -e 's/cookie=[^ ]* *//' -e '/table=/!s/^ */table=0,/' |
    ${OFCTL("--strict del-flows", "-")}
esac
case $stale in *group_id*)
  echo "$stale" | grep group_id | ${OFCTL("add-groups", "-")}
esac
[ -z "$stale" ] || list >flows.new || :
mv flows.new flows.listing
`;

/**
 * Gives a switch that has just started its links, routes and flows back, as they were remembered: no look, no plan. Nothing carries
 * meanwhile in userspace, so what does not depend on each other goes on beside each other.
 */
export const RESTORE_SWITCH = `set -eu
[ -e ${RUN_DIR}/flows.text ] || exit 0
tries=0
until ${OFCTL("show")} >/dev/null 2>&1; do
  tries=$((tries + 1))
  [ $tries -lt 500 ] || exit 1
  sleep 0.02
done
sh -eu ${RESTORE_FILE} &
links=$!
${BIN_DIR}/load-flows fresh
[ ! -e ${LEARNED_FILE} ] || ${OFCTL("add-flows", LEARNED_FILE)}
wait $links
`;

/** A shell function: gives an interval, its first argument, to all ports that follow, in one transaction; `set` is the command for `$port`. */
function tell(set: string): string {
  return `tell() {
  told=$1
  shift
  for port do
    set -- "$@" -- ${set} "bfd:min_tx=$told"
    shift
  done
  shift
  $vsctl "$@"
}
`;
}

/** How long a part of the paths may take to come up until the next one begins, hundredths of a second. */
const PATIENCE = { least: 100, most: 500 } as const;

/**
 * Lets the switch answer and the paths speak again, as often as they are to. Peers that never saw the host go take the first hello for
 * its end, and for a moment need a third host: after a restart on purpose ("eased") the direct paths therefore speak one part after the
 * other, as `renderHandover` has them. Each is told changed intervals until it is up (see run-paths, which is slower to notice).
 */
export const RESUME_PATHS = `set -eu
silent=$(${VSCTL} --bare remove Open_vSwitch . other_config flow-restore-wait -- --columns=name find Interface bfd:enable=false)
set -- "\${1:-}" $silent
vsctl='${VSCTL} --no-wait'
how=$1
shift
[ $# -gt 0 ] || exit 0
silent=" $* "
first=\${silent# }
interval=$($vsctl get Interface "\${first%% *}" bfd:min_rx | tr -d '"')
# Hundredths of a second: a sixth of what the peers wait for. Hosts that say hello less often are slower; but nobody waits for ever.
patience=$((interval / 2))
[ $patience -gt ${PATIENCE.least} ] || patience=${PATIENCE.least}
[ $patience -lt ${PATIENCE.most} ] || patience=${PATIENCE.most}
now() { read -r up rest </proc/uptime; echo "\${up%.*}\${up#*.}"; }
${
  tell('set Interface "$port" bfd:enable=true')
}# Of both ends: the next part of the paths depends on the peers' end of this one.
count_up() {
  for port do
    for end in state remote_state; do
      set -- "$@" -- --if-exists get Interface "$port" "bfd_status:$end"
    done
    shift
  done
  shift
  $vsctl "$@" | grep -c up || :
}
speak() {
  end=$(($(now) + $1))
  shift
  more=0
  while [ $# -gt 0 ] && [ "$(now)" -lt $end ]; do
    tell $((interval + more)) "$@"
    more=$((1 - more))
    sleep 0.02
    [ "$(count_up "$@")" -lt $(($# * 2)) ] || break
  done
}
if [ "$how" = eased ] && [ -e ${HANDOVER_FILE} ]; then
  while read -r ports; do
    set --
    for port in $ports; do
      case $silent in *" $port "*) set -- "$@" "$port" ;; esac
    done
    speak $patience "$@"
  done <${HANDOVER_FILE}
fi
speak 200 $silent
tell $((interval + 1)) $silent
tell "$interval" $silent
`;

/** What `ovs-ofctl monitor` says of a flow that somebody has deleted from the tables that are written; what is learned comes and goes. */
const DELETED_FLOW = `event=DELETED reason=delete table=[${FLOW_TABLES}] `;

/** Paths of a fleet in which sessions that have never been up are helped, too. */
const FEW_PATHS = 32;

/** Milliseconds: what a session that begins tells. Nobody has asked for it, so it is a change. */
const SLOW_INTERVAL = 997;

/**
 * Watches what Open vSwitch writes down of BFD; nothing is polled. A path that dies: if the wire to that host is silent too (its switch
 * may be restarting, which is none of the intrawire's business), and the access network still reaches it by a third host, the host's
 * intrawire address goes over the access network, until the wire answers again. A path
 * that has died is left alone for 5 s (table 2), for 10 s if it died twice within 30 s, so that nothing flaps faster than that; but only
 * until it is known that the peer's switch has begun anew (one that has just begun knows of no reason why the session was down), and not
 * if it is this host's.
 *
 * A session that begins says hello once a second (RFC 5880, 6.8.3), except when it has a changed interval to tell, and that it has
 * from its second step (init) on: so it gets one, and is up in a moment. But not where it has just been down already (5 s; 1 s where
 * one of the switches has begun anew, for that may happen again and is not the wire's doing), nor where it has never been up in a large
 * fleet: one that is new has thousands of sessions, and its processors other work.
 * What it is told is slow, for it is, and the peer must be patient. Who is up next says so at the usual interval, but has still planned
 * its next hello for a second later (Open vSwitch plans one when it sends the one before): the peer would find the path dead. So there
 * is another change to tell as soon as it is up.
 *
 * Beside that it watches for somebody who deletes flows by hand: a switch without the last one of a table drops what comes there.
 */
export const RUN_PATHS = `state=${PATHS_DIR}
vsctl='${VSCTL} --no-wait'
[ ! -e "$state" ] || rm -rf "$state"
mkdir -p "$state"
now() { read -r up rest </proc/uptime; echo "\${up%%.*}"; }
place() { echo "$(($1 / 256)).$(($1 % 256))"; }
detour() {
  verb=$1
  shift
  ip -n mobula route "$verb" "10.30.$(place "$1")/32" via "10.31.$(place "$1")" dev ${LINK.switch} proto ${DETOUR_PROTOCOL} 2>/dev/null
}
wire_answers() {
  timeout -s INT 0.3 ip netns exec mobula ping -n -i 0.1 -c 3 -I ${LINK.wireguard} "10.30.$(place "$1")" 2>/dev/null |
    grep -q 'bytes from'
}
# In more time: where it is missed, there is no detour.
access_answers() {
  timeout 5 ip netns exec mobula ping -n -q -c 1 -w 2 -i 0.2 -I ${LINK.switch} "10.31.$(place "$1")" >/dev/null 2>&1
}
is_down() { [ -e "$state/$1" ] && read -r down <"$state/$1" && [ "$down" = "$2" ]; } 2>/dev/null
mind() {
  # One that is about to come up for the first time is given time to.
  [ -e "$state/$1.lived" ] || sleep 3
  pause=1 led=
  while is_down "$1" "$2"; do
    wire_answers "$1" &
    wire=$!
    over=
    ! access_answers "$1" || over=1
    # Where the other way does not answer either, this host must not be what keeps the wire's answers away.
    if wait $wire || [ -z "$over" ]; then
      [ -z "$led" ] || forget_detour "$1"
      led=
    elif [ -z "$led" ]; then
      mac=$(printf '02:6d:6f:%02x:%02x:01' $(($1 / 256)) $(($1 % 256)))
      ip -n mobula neigh replace "10.31.$(place "$1")" lladdr "$mac" dev ${LINK.switch} nud reachable
      detour replace "$1"
      led=1
      is_down "$1" "$2" || detour del "$1"
    fi
    sleep $pause
    [ $pause -ge 16 ] || pause=$((pause * 2))
  done
}
forget_detour() {
  detour del "$1" || return 0
  # The detour's smaller packets need not be remembered for the kernel's ten minutes.
  ip route flush cache
  ip -n mobula route flush cache
}
hold() {
  before=-60
  [ ! -e "$state/$1.last" ] || read -r before <"$state/$1.last"
  now >"$state/$1.last"
  [ "$2" != begun ] || return 0
  : >"$state/$1.held"
  if [ $(($(now) - before)) -lt 30 ]; then leave_alone "$1" 10; else leave_alone "$1" 5; fi
}
leave_alone() {
  ${OFCTL("add-flow", '"table=2,priority=10,reg1=$1,hard_timeout=$2,actions=load:1->NXM_NX_REG3[0]"')}
}
release() {
  [ -e "$state/$1.held" ] || return 0
  rm -f "$state/$1.held"
  ${OFCTL("del-flows", '"table=2,reg1=$1"')}
}
count=0
died() {
  [ ! -e "$state/$1" ] || return 0
  [ ! -e "$state/$1.held" ] || rm -f "$state/$1.held"
  count=$((count + 1))
  echo "$count" >"$state/$1"
  # First of all: what comes after takes processor time.
  [ ! -e "$state/$1.lived" ] || hold "$1" "$2"
  mind "$1" "$count" </dev/null &
}
lives() {
  [ ! -e "$state/$1" ] || rm -f "$state/$1"
  : >"$state/$1.lived"
  forget_detour "$1"
}
${
  tell('--if-exists set Interface "$port"')
}# Tells the sessions that the loop below names through a pipe. All that were named meanwhile are told in one transaction: a host that
# falls behind must not fall further. The mark is written beside, so that a full pipe does not stop who empties it.
hurry() {
  while read -r what port; do
    begins= settles=
    echo end >&7 &
    while [ "$what" != end ]; do
      case $what in
        begins) begins="$begins $port" ;;
        settles) settles="$settles $port" ;;
      esac
      read -r what port
    done
    tell_those begins $begins
    tell_those settles $settles
  done <&7
}
tell_those() {
  who=$1
  shift
  [ $# -gt 0 ] || return 0
  named=$*
  read_settings
  [ "$interval" ] || return 0
  if [ "$who" = begins ]; then
    tell ${SLOW_INTERVAL} $named
    tell "$interval" $named
    return
  fi
  # Twice, for the peer may have had something to tell as well.
  tell $((interval + 1)) $named
  tell "$interval" $named
  sleep 0.1
  tell $((interval + 1)) $named
  tell "$interval" $named
}
# Of the present generation: the interval, and whether there are few paths.
read_settings() {
  interval= small=1 paths=0
  [ -r ${HANDOVER_FILE} ] || return 0
  while read -r first ports; do
    case $first in
      '#'*) ;;
      interval) interval=$ports ;;
      *)
        set -- $ports
        paths=$((paths + 1 + $#))
        ;;
    esac
  done <${HANDOVER_FILE}
  [ $paths -le ${FEW_PATHS} ] || small=
}
has_lived() {
  [ ! -e "$state/\${1##*-}.lived" ] || return 0
  read_settings
  [ "$small" ]
}
began() {
  before=-60
  [ ! -e "$state/$1.hurried" ] || read -r before <"$state/$1.hurried"
  now >"$state/$1.hurried"
  has_lived "$1" && [ $(($(now) - before)) -ge "$2" ] || return 0
  echo slow >"$state/$1.slow"
  echo "begins $1" >&7
}
is_up() {
  [ -s "$state/$1.slow" ] || return 0
  : >"$state/$1.slow"
  echo "settles $1" >&7
}
# Flows of the present text that somebody deletes are loaded again at once; the rest of the repair waits for a push. What load-flows
# itself deletes is of an earlier text. A line is: event, reason, table, cookie, match, actions.
guard() {
  while :; do
    until [ -S ${FLOW_CONTROL} ]; do sleep 1; done
    ovs-ofctl -O OpenFlow10 -vsyslog:off --unixctl=none monitor unix:${FLOW_CONTROL} 'watch:!initial,!add,!modify' 2>&1 |
      grep --line-buffered '${DELETED_FLOW}' |
      while read -r event reason table cookie rest; do
        [ -e ${RUN_DIR}/flows.text ] || continue
        [ "$cookie" = "cookie=${FLOW_COOKIE}" ] || continue
        : >"$state/deleted"
        ! mkdir "$state/loading" 2>/dev/null || load_again </dev/null &
      done
    # The switch has ended, or is not there yet.
    sleep 1
  done
}
# Once for all flows that are deleted at a time.
load_again() {
  while [ -e "$state/deleted" ]; do
    sleep 0.05
    rm "$state/deleted"
    ${BIN_DIR}/load-flows fresh || :
  done
  rm -r "$state/loading"
}
until [ -S ${OVS_DIR}/db.sock ]; do sleep 0.1; done
guard </dev/null &
mkfifo "$state/changes"
exec 7<>"$state/changes"
hurry &
ovsdb-client --format=csv --no-headings monitor ${SWITCH_DB} Open_vSwitch Interface name,bfd_status |
while IFS=, read -r uuid action name status; do
  case $action,$status in
    old,*) continue ;;
    # Either switch has begun anew, and knows of no reason.
    *'""No Diagnostic""'*' state=init'*) began "$name" 1 ;;
    *' state=init'*) began "$name" 5 ;;
    *' state=up'*) is_up "$name" ;;
  esac
  case $name in mo-path-*) peer=\${name#mo-path-} ;; *) continue ;; esac
  # Only in these states is it the peer's own word.
  case $status in
    *'remote_diagnostic=""No Diagnostic""'*' state=init'* | *'remote_diagnostic=""No Diagnostic""'*' state=up'*) release "$peer" ;;
  esac
  case $action,$status in
    delete,*)
      lives "$peer"
      rm -f "$state/$peer.lived"
      ;;
    *'forwarding=""true""'*) lives "$peer" ;;
    # This switch has begun anew, and knows of no reason either.
    *'{diagnostic=""No Diagnostic""'*'forwarding=""false""'*) died "$peer" begun ;;
    *'forwarding=""false""'*) died "$peer" lost ;;
  esac
done
exit 1
`;

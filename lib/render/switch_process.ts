/**
 * The switch's process: how it is started, and how another one takes its place when it is restarted on purpose. Pure.
 *
 * Open vSwitch lets a second process wait for the end of the first: whoever has the lock of the database is the switch. What takes
 * longest, the start of a process, is over then. systemd has both in the unit's control group, and takes the second one for the unit's
 * main process by the file with its id.
 */
import type { Capabilities } from "../facts.ts";
import { dumpFlows, FLOW_CONTROL, OFCTL, RUN_DIR, SWITCH_CONTROL, SWITCH_DB } from "../net/seen.ts";
import { BIN_DIR } from "../net/steps.ts";
import { switchNamespace } from "../net/wanted.ts";
import { LEARNED_FILE, OVS_DIR, RESTORE_FILE, VSCTL } from "./switch_programs.ts";

/** The database's socket. */
const DATABASE = `${OVS_DIR}/db.sock`;
/** The id of the process that is the switch; systemd reads it. */
export const SWITCH_PID = `${OVS_DIR}/vswitchd.pid`;
/** The id of one that waits for its place, and may not have it yet: it would speak before it has anything to carry with. */
const WAITING_PID = `${OVS_DIR}/vswitchd.waiting`;
/** The id of one that may. */
const NEXT_PID = `${OVS_DIR}/vswitchd.next`;
/** The same id, when it has all that it needs to carry. */
export const HANDED_OVER = `${OVS_DIR}/vswitchd.handed`;
/** Where a process is talked to; what everybody uses (`SWITCH_CONTROL`) is a link to it. */
const control = (pid: string) => `${OVS_DIR}/vswitchd.${pid}.ctl`;

/** Starts a process that is the switch as soon as no other one is; it writes its id into the file given. */
export function startVswitchd(capabilities: Capabilities): string {
  return `set -eu
export OVS_RUNDIR=${OVS_DIR} OVS_DBDIR=${OVS_DIR} OVS_LOGDIR=${OVS_DIR} OVS_SYSCONFDIR=${OVS_DIR}
[ ! -e "$1" ] || rm -f "$1"
# Systemd would wait for one that never was.
command -v ovs-vswitchd >/dev/null
sh -c 'echo $$ >"$1" && exec ip netns exec ${switchNamespace(capabilities)} \
  ovs-vswitchd ${SWITCH_DB} --unixctl=${control("$$")} --no-chdir -vconsole:warn -vsyslog:off' sh "$1" &
tries=0
until [ -s "$1" ]; do
  tries=$((tries + 1))
  [ $tries -lt 500 ]
  sleep 0.01
done
`;
}

/**
 * Until `resume-paths` says otherwise, a switch that starts leaves the kernel's flows alone, and its paths silent: as long as it has
 * neither its routes nor its flows, a hello would be lost, or tell peers that a path that still carries is down. One that runs has read
 * the first once and for all; without its hellos its paths are still used.
 */
export const SILENCE_PATHS = `set -eu
# ovs-vsctl, refused once, would wait for a second.
tries=0
until [ -S ${DATABASE} ] || [ $tries -ge 250 ]; do
  tries=$((tries + 1))
  sleep 0.02
done
vsctl='${VSCTL} --retry --no-wait'
set -- set Open_vSwitch . other_config:flow-restore-wait=true
for port in $($vsctl --bare --columns=name find Interface bfd:enable=true); do
  set -- "$@" -- set Interface "$port" bfd:enable=false
done
$vsctl "$@"
`;

/** Shell: whether the file names a process of the switch that has started. */
const IS_SWITCH = `is_switch() {
  [ -s "$1" ] && read -r next <"$1" && [ -S "${control("$next")}" ] &&
    read -r name <"/proc/$next/comm" && [ "$name" = ovs-vswitchd ]
} 2>/dev/null
`;

/** Takes the process that `hand-over` has left, or starts one. */
export const RUN_VSWITCHD = `set -eu
${IS_SWITCH}if is_switch ${NEXT_PID}; then
  mv ${NEXT_PID} ${SWITCH_PID}
  # One that was killed has left its own.
  for socket in ${control("*")}; do [ "$socket" = "${control("$next")}" ] || rm -f "$socket"; done
else
  ${BIN_DIR}/end-vswitchd
  ${BIN_DIR}/silence-paths
  ${BIN_DIR}/start-vswitchd ${SWITCH_PID}
fi
read -r pid <${SWITCH_PID}
ln -sfn "${control("$pid")}" ${SWITCH_CONTROL}
kill -0 "$pid"
`;

/** Shell: whether the unit is being restarted; nothing is decided where systemd does not answer. */
const IS_RESTARTED = `jobs=$(systemctl list-jobs --no-legend --no-pager) || exit 0
is_restarted() { echo "$jobs" | grep -q ' mobula-vswitchd.service  *restart '; }
`;

/** So many times longer than usual the peers of a switch that is about to be restarted wait for its next hello: 3 s unless told. */
const EASE = 10;

/**
 * Before a restart on purpose, by systemd before it ends the process. Another process is started that waits for its place. The peers are
 * told to wait longer for the next hello (a change of the interval is told at once, by a poll sequence: RFC 5880, 6.8.3) and so do not
 * see the host go. What was learned is kept. Then the first one is ended, and the second has all that it needs to carry before systemd
 * has noticed; that it speaks and limits floods again is `wait-daemon`'s, a moment later. In userspace nothing is carried meanwhile, so
 * whatever can be done before is: those who load the groups and flows have started, and wait for the end of their input; no name of a
 * port is in it, for which they would have to ask a switch first (a port keeps its number: the database has it).
 *
 * Whatever fails: the second process is ended where it may not take the place yet, and the start does the rest as after any death. A
 * host that is stopped is to be missed at once. Where systemd ends whatever such a program has left (a control group of its own, before
 * version 245 at the latest), a second process would be none.
 */
export const HAND_OVER = `set -eu
umask 077
[ "\${MAINPID:-}" ] && [ -e ${RUN_DIR}/flows.text ] || exit 0
${IS_RESTARTED}is_restarted || exit 0
! grep -q '/control$' /proc/self/cgroup || exit 0
cd ${RUN_DIR}
${BIN_DIR}/end-vswitchd next
trap '${BIN_DIR}/end-vswitchd next' EXIT
trap 'exit 1' HUP INT TERM
${BIN_DIR}/start-vswitchd ${WAITING_PID}
vsctl='${VSCTL} --no-wait'
set --
for port in $($vsctl --bare --columns=name find Interface bfd:enable=true); do
  interval=$($vsctl get Interface "$port" bfd:min_rx | tr -d '"')
  set -- "$@" -- set Interface "$port" "bfd:min_tx=$((interval * ${EASE}))"
done
[ $# -eq 0 ] || { shift; $vsctl "$@"; }
# The poll and its answer.
sleep 0.1
${IS_SWITCH}tries=0
until is_switch ${WAITING_PID} && ovs-appctl --timeout=2 -t "${control("$next")}" version >/dev/null 2>&1; do
  tries=$((tries + 1))
  [ $tries -lt 100 ]
  sleep 0.02
done
${OFCTL("--timeout=5 --no-stats dump-flows", "table=1")} | grep actions= >${LEARNED_FILE} || :
${OFCTL("--timeout=5 --no-names dump-groups")} | sed -n 's/^ *group_id=/add_or_mod group_id=/p' >quick.groups
{ ${dumpFlows("--timeout=5 --no-names")}; cat ${LEARNED_FILE}; } | sed 's/meter:[0-9]*,//' >quick.flows
rm -f go.groups go.flows
mkfifo go.groups go.flows
exec 7<>go.groups 5<go.groups 8<>go.flows 6<go.flows
late() { cat "quick.$1"; timeout 600 cat; }
{ late groups | ${OFCTL("--timeout=600 --no-names add-groups", "-")}; } <&5 5<&- 6<&- 7>&- 8>&- &
groups=$!
{ late flows | ${OFCTL("--timeout=600 --no-names add-flows", "-")}; } <&6 5<&- 6<&- 7>&- 8>&- &
flows=$!
exec 5<&- 6<&-
${BIN_DIR}/silence-paths
mv ${WAITING_PID} ${NEXT_PID}
trap - EXIT
kill "$MAINPID"
tries=0
while kill -0 "$MAINPID" 2>/dev/null; do
  tries=$((tries + 1))
  # It hangs; and would leave the way to its flows behind, where the next one's is to appear.
  [ $tries -ne 500 ] || { rm -f ${FLOW_CONTROL}; kill -9 "$MAINPID"; }
  sleep 0.005
done
tries=0
until [ -S ${FLOW_CONTROL} ]; do
  tries=$((tries + 1))
  # It has got into something's way: a new one makes everything anew.
  [ $tries -lt 2000 ] && kill -0 "$next" || { ${BIN_DIR}/end-vswitchd next; exit 1; }
  sleep 0.005
done
ln -sfn "${control("$next")}" ${SWITCH_CONTROL}
sh -eu ${RESTORE_FILE} 7>&- 8>&- &
links=$!
exec 7>&-
wait $groups
exec 8>&-
wait $flows
wait $links
$vsctl remove Open_vSwitch . other_config flow-restore-wait
echo "$next" >${HANDED_OVER}
`;

/**
 * Ends all processes of the switch that there are, or with "next" those that wait for its place. By kill: they are to leave no way to
 * anything undone, and what they would remove may be another one's by now.
 */
export const END_VSWITCHD = `set -eu
end() {
  read -r name <"/proc/$1/comm" || return 0
  # On its way to be one it is called otherwise for a moment.
  case $name in ovs-vswitchd | ip | sh | start-vswitchd) kill -9 "$1" || : ;; esac
} 2>/dev/null
for file in ${WAITING_PID} ${NEXT_PID}; do
  [ ! -s $file ] || { read -r pid <$file; end "$pid"; }
  [ ! -e $file ] || rm -f $file
done
[ "\${1:-}" != next ] || exit 0
for socket in ${control("*")}; do
  pid=\${socket#${OVS_DIR}/vswitchd.}
  [ ! -S "$socket" ] || end "\${pid%.ctl}"
done
for left in ${control("*")} ${HANDED_OVER} ${FLOW_CONTROL}; do
  [ ! -e "$left" ] || rm -f "$left"
done
`;

/** After the process has ended: nothing is left behind of a change that came to nothing, and nobody at all where the unit is stopped. */
export const AFTER_VSWITCHD = `set -eu
rm -f ${RUN_DIR}/quick.* ${RUN_DIR}/go.*
${IS_RESTARTED}! is_restarted || exit 0
rm -f ${LEARNED_FILE}
exec ${BIN_DIR}/end-vswitchd
`;

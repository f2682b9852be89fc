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

/** The id of the process that is the switch; systemd reads it. */
export const SWITCH_PID = `${OVS_DIR}/vswitchd.pid`;
/** The id of the one that is to take its place. */
const NEXT_PID = `${OVS_DIR}/vswitchd.next`;
/** The same id, when all that was to be done has been done. */
export const HANDED_OVER = `${OVS_DIR}/vswitchd.handed`;
/** Where a process is talked to; what everybody uses (`SWITCH_CONTROL`) is a link to it. */
const control = (pid: string) => `${OVS_DIR}/vswitchd.${pid}.ctl`;

/** Starts a process that is the switch as soon as no other one is, and writes its id into the file given. */
export function startVswitchd(capabilities: Capabilities): string {
  return `set -eu
export OVS_RUNDIR=${OVS_DIR} OVS_DBDIR=${OVS_DIR} OVS_LOGDIR=${OVS_DIR} OVS_SYSCONFDIR=${OVS_DIR}
sh -c 'exec ip netns exec ${switchNamespace(capabilities)} \
  ovs-vswitchd ${SWITCH_DB} --unixctl=${control("$$")} --no-chdir -vconsole:warn -vsyslog:off' &
echo $! >"$1"
`;
}

/**
 * Until `resume-paths` says otherwise, a switch that starts leaves the kernel's flows alone, and its paths silent: as long as it has
 * neither its routes nor its flows, a hello would be lost, or tell peers that a path that still carries is down. One that runs has read
 * the first once and for all; without its hellos its paths are still used.
 */
export const SILENCE_PATHS = `set -eu
vsctl='${VSCTL} --retry --no-wait'
set -- set Open_vSwitch . other_config:flow-restore-wait=true
for port in $($vsctl --bare --columns=name find Interface bfd:enable=true); do
  set -- "$@" -- set Interface "$port" bfd:enable=false
done
$vsctl "$@"
`;

/** Shell: whether a file names a process that waits to be the switch, or is it. */
const IS_NEXT = `is_next() {
  [ -s ${NEXT_PID} ] && read -r next <${NEXT_PID} && [ -S "${control("$next")}" ] &&
    read -r name <"/proc/$next/comm" && [ "$name" = ovs-vswitchd ]
} 2>/dev/null
`;

/** Takes the process that `hand-over` has left, or starts one. */
export const RUN_VSWITCHD = `set -eu
${IS_NEXT}if is_next; then
  mv ${NEXT_PID} ${SWITCH_PID}
else
  ${BIN_DIR}/end-next
  # One that was killed has left them; that they are there is to mean something.
  rm -f ${control("*")} ${FLOW_CONTROL} ${HANDED_OVER}
  ${VSCTL} --retry --no-wait init
  ${BIN_DIR}/silence-paths
  ${BIN_DIR}/start-vswitchd ${SWITCH_PID}
fi
read -r pid <${SWITCH_PID}
ln -sfn "${control("$pid")}" ${SWITCH_CONTROL}
`;

/** Shell: ends unless the unit is being restarted. */
const RESTARTED_ONLY =
  "systemctl list-jobs --no-legend --no-pager | grep -q ' mobula-vswitchd.service  *restart ' || exit 0";

/** So many times longer than usual the peers of a switch that is about to be restarted wait for its next hello: 3 s unless told. */
const EASE = 10;

/**
 * Before a restart on purpose, by systemd before it ends the process. Another process is started that waits for its place. The peers are
 * told to wait longer for the next hello (a change of the interval is told at once, by a poll sequence: RFC 5880, 6.8.3) and so do not
 * see the host go. What was learned is kept. Then the first one is ended, and the second has all that it needs before systemd has
 * noticed. In userspace nothing is carried meanwhile, so whatever can be done before is: those who load the groups and flows have
 * started, and wait for the end of their input; no name of a port is in it, for which they would have to ask a switch first (a port
 * keeps its number: the database has it). What they load limits no floods; that comes a moment later. Whatever fails: the rest is done
 * as after any other start. A host that is stopped is to be missed at once.
 */
export const HAND_OVER = `set -eu
umask 077
[ "\${MAINPID:-}" ] && [ -e ${RUN_DIR}/flows.text ] || exit 0
${RESTARTED_ONLY}
cd ${RUN_DIR}
${BIN_DIR}/end-next
${BIN_DIR}/start-vswitchd ${NEXT_PID}
vsctl='${VSCTL} --no-wait'
set --
for port in $($vsctl --bare --columns=name find Interface bfd:enable=true); do
  interval=$($vsctl get Interface "$port" bfd:min_rx | tr -d '"')
  set -- "$@" -- set Interface "$port" "bfd:min_tx=$((interval * ${EASE}))"
done
[ $# -eq 0 ] || { shift; $vsctl "$@"; }
# The poll and its answer.
sleep 0.1
${IS_NEXT}tries=0
until is_next && ovs-appctl --timeout=2 -t "${control("$next")}" version >/dev/null 2>&1; do
  tries=$((tries + 1))
  # One that has not even started is of no use.
  [ $tries -lt 100 ] || { ${BIN_DIR}/end-next; exit 0; }
  sleep 0.02
done
${OFCTL("--no-stats dump-flows", "table=1")} | grep actions= >${LEARNED_FILE} || :
${OFCTL("--no-names dump-groups")} | sed -n 's/^ *group_id=/add_or_mod group_id=/p' >quick.groups
{ ${dumpFlows("--no-names")}; cat ${LEARNED_FILE}; } | sed 's/meter:[0-9]*,//' >quick.flows
rm -f go.groups go.flows
mkfifo go.groups go.flows
late() { cat "quick.$1"; timeout 600 cat "go.$1"; }
late groups | ${OFCTL("--timeout=600 --no-names add-groups", "-")} &
groups=$!
late flows | ${OFCTL("--timeout=600 --no-names add-flows", "-")} &
flows=$!
exec 7<>go.groups 8<>go.flows
${BIN_DIR}/silence-paths
kill "$MAINPID"
while kill -0 "$MAINPID" 2>/dev/null; do sleep 0.005; done
until [ -S ${FLOW_CONTROL} ]; do
  kill -0 "$next"
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
${BIN_DIR}/resume-paths eased
${BIN_DIR}/load-flows fresh
rm -f ${LEARNED_FILE}
echo "$next" >${HANDED_OVER}
`;

/** Ends a process that waits for a place that nobody is to have any more. */
export const END_NEXT = `set -eu
[ -s ${NEXT_PID} ] || exit 0
read -r next <${NEXT_PID}
rm -f ${NEXT_PID}
{ read -r name <"/proc/$next/comm" && [ "$name" = ovs-vswitchd ] && kill -9 "$next"; } 2>/dev/null || :
`;

/** After the process has ended: nothing is left behind of a change that came to nothing, and nobody of one that is not wanted any more. */
export const AFTER_VSWITCHD = `set -eu
rm -f ${RUN_DIR}/quick.* ${RUN_DIR}/go.*
${RESTARTED_ONLY.replace("|| exit 0", "&& exit 0")}
exec ${BIN_DIR}/end-next
`;

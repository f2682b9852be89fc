/**
 * systemd units and the small programs that they start. Pure.
 *
 * Units are written for systemd 219. Every ExecStart is a program of ours: started from anywhere else, SELinux would confine `ip`,
 * and with it all that it starts.
 */
import type { Capabilities } from "../facts.ts";
import { LINK } from "../net/network.ts";
import { FLOW_TABLES, LIST_FLOWS, OFCTL, RUN_DIR, SWITCH_CONTROL, SWITCH_DB } from "../net/seen.ts";
import { BIN_DIR, DETOUR_PROTOCOL } from "../net/steps.ts";
import { switchNamespace } from "../net/wanted.ts";
import type { WantedFile } from "../step.ts";
import { ETC_DIR, UPSTREAM_FILE } from "./dnsmasq.ts";
import { EGRESS_FILE, RUN_EGRESS } from "./egress.ts";
import { HEADER } from "./header.ts";

const UNIT_DIR = "/etc/systemd/system";
/** What a restarted switch needs, of this host alone; made by `renderRestore`. */
export const RESTORE_FILE = `${ETC_DIR}/restore-switch.sh`;

const OVS_DIR = `${RUN_DIR}/ovs`;
const VSCTL = `ovs-vsctl --no-syslog --db=${SWITCH_DB} --timeout=30`;
/** What the switch had learned before it was restarted on purpose. */
const LEARNED_FILE = `${RUN_DIR}/flows.learned`;

/** The unit that brings the network up at boot. */
export const MAIN_UNIT = "mobula.service";

/** The unit that takes back what nobody has confirmed; started by a timer, and by a boot that comes before the confirmation. */
export const ROLLBACK_UNIT = "mobula-rollback.service";

/** The timer that starts it: made when it is needed, so that it can be told when. */
export const ROLLBACK_TIMER = "mobula-rollback.timer";

/** The unit that configures a restarted daemon again. */
export const HEAL_UNIT = "mobula-heal.service";

/** The unit that has a card taken that was plugged in; udev's rule names it. */
export const NIC_UNIT = "mobula-nic.service";
/** The unit that follows the hosts to their new keys while keys are being replaced. */
export const FOLLOW_UNIT = "mobula-follow.service";

/** All units and programs of a host. */
export function renderUnits(capabilities: Capabilities): WantedFile[] {
  const userspace = capabilities.wireguard === "userspace";
  return [
    { path: `${UNIT_DIR}/${MAIN_UNIT}`, content: MAIN },
    { path: `${UNIT_DIR}/${HEAL_UNIT}`, content: HEAL_SERVICE },
    { path: `${UNIT_DIR}/${NIC_UNIT}`, content: NIC_SERVICE },
    ...renderRollback(),
    ...renderFollow(),
    daemonUnit("ovsdb", "Open vSwitch database", { heals: false }),
    daemonUnit("vswitchd", "Open vSwitch", { heals: true, stop: "ease-paths" }),
    daemonUnit("paths", "watch over the direct paths", { heals: false }),
    daemonUnit("egress", "watch over the way out", { heals: false, ends: true }),
    daemonUnit("dnsmasq", "name server of the gateway", { heals: false }),
    ...(userspace ? [daemonUnit("wireguard", "WireGuard in userspace", { heals: true })] : []),
    program("run-ovsdb", RUN_OVSDB),
    program("run-vswitchd", runVswitchd(capabilities)),
    program("run-paths", RUN_PATHS),
    program("run-egress", RUN_EGRESS),
    program("run-dnsmasq", RUN_DNSMASQ),
    ...(userspace ? [program("run-wireguard", RUN_WIREGUARD)] : []),
    program("start-units", START_UNITS),
    program("wait-daemon", WAIT_DAEMON),
    program("run-heal", RUN_HEAL),
    program("run-nic", RUN_NIC),
    program("load-firewall", LOAD_FIREWALL),
    program("load-flows", LOAD_FLOWS),
    program("restore-switch", RESTORE_SWITCH),
    program("ease-paths", EASE_PATHS),
    program("resume-paths", RESUME_PATHS),
  ];
}

/** What has to be there before anything else is changed: it takes the change back. */
export function renderRollback(): WantedFile[] {
  return [
    { path: `${UNIT_DIR}/${ROLLBACK_UNIT}`, content: ROLLBACK },
    program("arm-rollback", ARM_ROLLBACK),
  ];
}

/** What has to be there before keys are replaced. */
export function renderFollow(): WantedFile[] {
  return [{ path: `${UNIT_DIR}/${FOLLOW_UNIT}`, content: FOLLOW }, program("run-follow", RUN_FOLLOW)];
}

const MAIN = `${HEADER}
[Unit]
Description=mobula: gateway, switch and mesh of this host
DefaultDependencies=no
Wants=network-pre.target
Before=network-pre.target shutdown.target
After=local-fs.target systemd-modules-load.service systemd-sysctl.service systemd-udev-trigger.service systemd-udev-settle.service cloud-init-local.service
Conflicts=shutdown.target
RequiresMountsFor=/opt/mobula /var
ConditionPathExists=/opt/mobula/current
OnFailure=${HEAL_UNIT}

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=${BIN_DIR}/mobula up
TimeoutStartSec=600

[Install]
WantedBy=multi-user.target
`;

/** At boot it comes first of all: what is taken back is not even begun. */
const ROLLBACK = `${HEADER}
[Unit]
Description=mobula: take back what nobody has confirmed
DefaultDependencies=no
Wants=network-pre.target
Before=network-pre.target shutdown.target ${MAIN_UNIT}
After=local-fs.target systemd-modules-load.service systemd-sysctl.service systemd-udev-trigger.service systemd-udev-settle.service cloud-init-local.service
Conflicts=shutdown.target
RequiresMountsFor=/opt/mobula /var
ConditionPathExists=/opt/mobula/armed.json
StartLimitInterval=0

[Service]
Type=oneshot
ExecStart=${BIN_DIR}/mobula undo
TimeoutStartSec=600

[Install]
WantedBy=multi-user.target
`;

/** Apart from the daemon's own unit: that one counts as starting until its last ExecStartPost has ended. */
const HEAL_SERVICE = `${HEADER}
[Unit]
Description=mobula: configure what was started again
DefaultDependencies=no
Conflicts=shutdown.target
Before=shutdown.target
StartLimitInterval=0

[Service]
Type=oneshot
ExecStart=${BIN_DIR}/run-heal
TimeoutStartSec=1800
`;

/** At boot udev finds the card as well: by then the main unit has taken it, or the way back has given it up. */
const NIC_SERVICE = `${HEADER}
[Unit]
Description=mobula: take the external interface that was plugged in
DefaultDependencies=no
After=local-fs.target ${ROLLBACK_UNIT} ${MAIN_UNIT}
Conflicts=shutdown.target
Before=shutdown.target
RequiresMountsFor=/opt/mobula
ConditionPathExists=/opt/mobula/current
StartLimitInterval=0

[Service]
Type=oneshot
ExecStart=${BIN_DIR}/run-nic
`;

/** It ends by itself when the old keys are forgotten. */
const FOLLOW = `${HEADER}
[Unit]
Description=mobula: follow the hosts to their new keys
DefaultDependencies=no
After=local-fs.target
Conflicts=shutdown.target
Before=shutdown.target
StartLimitInterval=0

[Service]
ExecStart=${BIN_DIR}/run-follow
Restart=on-failure
RestartSec=0.2
`;

interface DaemonOptions {
  readonly heals: boolean;
  /** The program that runs before the daemon is stopped. */
  readonly stop?: string;
  /** It ends by itself when it is not wanted any more. */
  readonly ends?: boolean;
}

function daemonUnit(name: string, description: string, { heals, stop, ends }: DaemonOptions): WantedFile {
  const before = stop === undefined ? "" : `ExecStop=-${BIN_DIR}/${stop}\n`;
  // A restarted daemon has forgotten what it was told.
  const heal = heals ? `ExecStartPost=${BIN_DIR}/wait-daemon mobula-${name}.service\n` : "";
  const content = `${HEADER}
[Unit]
Description=mobula: ${description}
DefaultDependencies=no
After=local-fs.target
Conflicts=shutdown.target
Before=shutdown.target
StartLimitInterval=0

[Service]
ExecStart=${BIN_DIR}/run-${name}
${heal}${before}Restart=${ends ? "on-failure" : "always"}
RestartSec=0.2
OOMScoreAdjust=-900
LimitNOFILE=65535
TimeoutStartSec=90
`;
  return { path: `${UNIT_DIR}/mobula-${name}.service`, content };
}

function program(name: string, body: string): WantedFile {
  const path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin\nexport PATH";
  return { path: `${BIN_DIR}/${name}`, content: `#!/bin/sh\n${HEADER}\n${path}\n${body}`, mode: 0o755 };
}

/** The database is made anew after a boot, so no state of another boot or version can be in it. */
const RUN_OVSDB = `set -eu
umask 027
mkdir -p ${OVS_DIR}
export OVS_RUNDIR=${OVS_DIR} OVS_DBDIR=${OVS_DIR} OVS_LOGDIR=${OVS_DIR} OVS_SYSCONFDIR=${OVS_DIR}
db=${OVS_DIR}/conf.db
schema=/usr/share/openvswitch/vswitch.ovsschema
[ -s "$db" ] || { rm -f "$db.new"; ovsdb-tool create "$db.new" "$schema"; mv "$db.new" "$db"; }
if [ "$(ovsdb-tool needs-conversion "$db" "$schema")" = yes ]; then ovsdb-tool convert "$db" "$schema"; fi
exec ovsdb-server "$db" --remote=punix:${OVS_DIR}/db.sock --unixctl=${OVS_DIR}/ovsdb.ctl --no-chdir -vconsole:warn -vsyslog:off
`;

/**
 * Until `resume-paths` says otherwise, a switch that starts leaves the kernel's flows alone, and its paths silent: as long as it has
 * neither its routes nor its flows, a hello would be lost, or tell peers that a path that still carries is down.
 */
function runVswitchd(capabilities: Capabilities): string {
  return `set -eu
export OVS_RUNDIR=${OVS_DIR} OVS_DBDIR=${OVS_DIR} OVS_LOGDIR=${OVS_DIR} OVS_SYSCONFDIR=${OVS_DIR}
vsctl='${VSCTL} --retry --no-wait'
$vsctl init
set -- set Open_vSwitch . other_config:flow-restore-wait=true
for port in $($vsctl --bare --columns=name find Interface bfd:enable=true); do
  set -- "$@" -- set Interface "$port" bfd:enable=false
done
$vsctl "$@"
exec ip netns exec ${switchNamespace(capabilities)} \\
  ovs-vswitchd ${SWITCH_DB} --unixctl=${SWITCH_CONTROL} --no-chdir -vconsole:warn -vsyslog:off
`;
}

const RUN_DNSMASQ = `[ ! -e ${EGRESS_FILE} ] || . ${EGRESS_FILE}
# Until run-egress knows better.
[ -z "\${resolvers:-}" ] || [ -s ${UPSTREAM_FILE} ] || for address in $resolvers; do echo "nameserver $address"; done >${UPSTREAM_FILE}
exec ip netns exec mobula dnsmasq --keep-in-foreground --conf-file=${ETC_DIR}/dnsmasq.conf
`;

const RUN_FOLLOW = `exec ip netns exec mobula ${BIN_DIR}/mobula follow
`;

const RUN_WIREGUARD = `rm -f /var/run/wireguard/${LINK.wireguard}.sock
mkdir -p /var/run/wireguard
export LOG_LEVEL=error WG_PROCESS_FOREGROUND=1
exec ip netns exec mobula wireguard-go --foreground ${LINK.wireguard}
`;

/** Marks each unit as started on purpose, so that nothing is to be healed after it; no mark outlives this program. */
const START_UNITS = `set -eu
mkdir -p ${RUN_DIR}/expected
trap 'for unit in "$@"; do rm -f "${RUN_DIR}/expected/$unit"; done' EXIT
trap 'exit 1' HUP INT TERM
for unit in "$@"; do echo $$ >"${RUN_DIR}/expected/$unit"; done
systemctl start "$@" || {
  for unit in "$@"; do systemctl is-active --quiet "$unit" || journalctl -u "$unit" -n 3 -o cat --no-pager >&2; done
  exit 1
}
`;

/** Runs after a daemon has started: waits until it can be used and, unless the start was expected, has it configured again. */
const WAIT_DAEMON = `unit=$1
tries=0
while [ $tries -lt 200 ]; do
  case "$unit" in
    mobula-wireguard.service) ip netns exec mobula wg show ${LINK.wireguard} public-key >/dev/null 2>&1 && break ;;
    *) ovs-appctl --timeout=2 -t ${SWITCH_CONTROL} version >/dev/null 2>&1 && break ;;
  esac
  tries=$((tries + 1))
  sleep 0.05
done
expected=
if [ -e "${RUN_DIR}/expected/$unit" ]; then
  read -r starter <"${RUN_DIR}/expected/$unit" || :
  rm -f "${RUN_DIR}/expected/$unit"
  # A mark whose maker is gone means nothing.
  ! grep -qs start-units "/proc/$starter/cmdline" || expected=1
fi
if [ "$unit" = mobula-vswitchd.service ]; then
  # The quick part of the repair; what it misses, the whole one sees.
  [ "$expected" ] || ${BIN_DIR}/restore-switch || :
  # It grows old.
  rm -f ${LEARNED_FILE}
  ${BIN_DIR}/resume-paths || :
fi
[ -z "$expected" ] || exit 0
exec systemctl restart --no-block ${HEAL_UNIT}
`;

/**
 * Takes the seconds until the host goes back, or nothing for never. The timer lives in no session, and tries again should what it
 * starts be killed.
 */
const ARM_ROLLBACK = `set -eu
systemctl stop ${ROLLBACK_TIMER} 2>/dev/null || :
systemctl reset-failed ${ROLLBACK_TIMER} ${ROLLBACK_UNIT} 2>/dev/null || :
[ $# = 1 ] || exit 0
set -- "$1" $(($1 + 20)) $(($1 + 60)) $(($1 + 180)) $(($1 + 600)) $(($1 + 3600))
first=$1
shift
for seconds do set -- "$@" "--timer-property=OnActiveSec=$seconds"; shift; done
exec systemd-run --quiet --unit=${ROLLBACK_UNIT} --on-active="$first" --timer-property=AccuracySec=1s "$@"
`;

/** Tries for some ten minutes. */
const RUN_HEAL = `failed() { systemctl is-failed --quiet ${MAIN_UNIT}; }
# What was tried and has failed is about to be taken back.
[ ! -e /opt/mobula/armed.json ] || ! failed || exit 0
tries=0
until ${BIN_DIR}/mobula up; do
  [ -e /opt/mobula/current ] || exit 0
  tries=$((tries + 1))
  [ $tries -lt 20 ] || exit 1
  sleep $tries
done
# The network is up after all, and the unit that was to bring it up says so, too.
! failed || exec systemctl start --no-block ${MAIN_UNIT}
`;

/** Nothing to do where the gateway's bridge has hardware in it; else begun anew, should it be under way already. */
const RUN_NIC =
  `ip netns exec mobula sh -c 'ls /sys/class/net/${LINK.externalBridge}/lower_*/device' >/dev/null 2>&1 && exit 0
exec systemctl restart --no-block ${HEAL_UNIT}
`;

/** Takes the ruleset on standard input; remembers what loading it made, so that a change by hand is noticed. */
const LOAD_FIREWALL = `set -eu
umask 077
mkdir -p ${RUN_DIR}
rm -f ${RUN_DIR}/firewall.listing
cat >${RUN_DIR}/firewall.nft
ip netns exec mobula nft -f ${RUN_DIR}/firewall.nft
ip netns exec mobula sh -c 'nft -s list table inet mobula && nft -s list table ip mobula' >${RUN_DIR}/firewall.new
mv ${RUN_DIR}/firewall.new ${RUN_DIR}/firewall.listing
`;

/**
 * Takes the text of the flows on standard input. First adds, then removes: no frame meets an empty table, and what was learned (table
 * 1) stays. What bears another cookie than this text's is not of it. Remembers what loading made, so that a change by hand, or a
 * switch that has forgotten all, is noticed. With "fresh" it is for a switch that has none: only what it needs to carry on, and not
 * remembered, so that the repair does all of it.
 */
const LOAD_FLOWS = `set -eu
umask 077
cd ${RUN_DIR}
rm -f flows.listing
# Not in place: it may be the remembered text itself that comes in.
cat >flows.wanted
mv flows.wanted flows.text
cookie=$(printf 0x%x "$(cksum <flows.text | cut -d ' ' -f 1)")
pick() { sed -n "s/^$1 //p" flows.text; }
meters='s/^$//'
# Kernels before 4.15 have no meters: floods are not limited there.
for meter in $(pick meter); do
  ${OFCTL("add-meter", '"$meter"')} 2>/dev/null || ${OFCTL("mod-meter", '"$meter"')} 2>flows.error || {
  echo "Cannot limit floods: $(cat flows.error); expected a switch that has meters" >&2
  meters='s/meter:[0-9]*,//'
}
done
pick group | sed 's/^/add_or_mod /' | ${OFCTL("add-groups", "-")}
pick flow | sed -e "s/^/cookie=$cookie,/" -e "$meters" | ${OFCTL("add-flows", "-")}
[ "\${1:-}" != fresh ] || exit 0
for table in ${FLOW_TABLES}; do
  ${OFCTL("--no-stats dump-flows", "table=$table")} | grep actions= | grep -v "cookie=$cookie," |
    sed -e 's/ actions=.*//' -e 's/cookie=[^ ]* *//' -e 's/table=[^ ]* *//' -e "s/^ */table=$table,/"
done | ${OFCTL("--strict del-flows", "-")}
for group in $(${OFCTL("dump-groups")} | sed -n 's/.*group_id=\\([0-9]*\\),.*/\\1/p'); do
  pick group | grep -q "^group_id=$group," || ${OFCTL("del-groups", '"group_id=$group"')}
done
${LIST_FLOWS} >flows.new
mv flows.new flows.listing
`;

/** Gives a switch that has just started its links, routes and flows back, as they were remembered: no look, no plan. */
const RESTORE_SWITCH = `set -eu
[ -e ${RUN_DIR}/flows.text ] || exit 0
tries=0
until ${OFCTL("show")} >/dev/null 2>&1; do
  tries=$((tries + 1))
  [ $tries -lt 200 ] || exit 1
  sleep 0.05
done
sh -eu ${RESTORE_FILE}
${BIN_DIR}/load-flows fresh <${RUN_DIR}/flows.text
[ ! -e ${LEARNED_FILE} ] || ${OFCTL("add-flows", LEARNED_FILE)}
`;

/** So many times longer than usual the peers of a switch that is about to be restarted wait for its next hello: 3 s unless told. */
const EASE = 10;

/**
 * Before a restart on purpose. The peers are told to wait longer for the next hello (a change of the interval is told at once, by a
 * poll sequence: RFC 5880, 6.8.3) and so do not see the host go while the kernel carries on; in userspace nothing is carried, but
 * nobody turns the tree over for a moment. What was learned is kept. A host that is stopped is to be missed at once.
 */
const EASE_PATHS = `set -eu
systemctl list-jobs --no-legend --no-pager | grep -q ' mobula-vswitchd.service  *restart ' || exit 0
vsctl='${VSCTL} --no-wait'
set --
for port in $($vsctl --bare --columns=name find Interface bfd:enable=true); do
  interval=$($vsctl get Interface "$port" bfd:min_rx | tr -d '"')
  set -- "$@" -- set Interface "$port" "bfd:min_tx=$((interval * ${EASE}))"
done
[ $# -gt 0 ] || exit 0
shift
$vsctl "$@"
${OFCTL("--no-stats dump-flows", "table=1")} | grep actions= >${LEARNED_FILE} || :
# The poll and its answer.
sleep 0.1
`;

/**
 * Lets the switch answer and the paths speak again, as often as they are to. Peers that never saw the host go take the first hello for
 * its end; the first two seconds are therefore spent on telling them changed intervals (see run-paths, which is slower to notice).
 */
const RESUME_PATHS = `set -eu
${VSCTL} remove Open_vSwitch . other_config flow-restore-wait
vsctl='${VSCTL} --no-wait'
ports=$($vsctl --bare --columns=name find Interface bfd:enable=false)
[ "$ports" ] || exit 0
interval=$($vsctl get Interface "\${ports%%[!a-z0-9-]*}" bfd:min_rx | tr -d '"')
tell() {
  set -- "$1"
  for port in $ports; do set -- "$@" -- set Interface "$port" bfd:enable=true "bfd:min_tx=$1"; done
  shift 2
  $vsctl "$@"
}
now() { read -r up rest </proc/uptime; echo "\${up%%.*}"; }
end=$(($(now) + 2))
more=0
while [ "$(now)" -lt $end ]; do
  tell $((interval + more))
  more=$((1 - more))
  sleep 0.02
done
tell "$interval"
`;

/** Milliseconds; nobody has asked for it, so it is a change. */
const ODD_INTERVAL = 997;

/**
 * Watches what Open vSwitch writes down of BFD; nothing is polled. A path that dies: if the wire to that host is silent too (its switch
 * may be restarting, which is none of the intrawire's business), the host's intrawire address goes over the access network. A path
 * that dies twice within 30 s is left alone for 10 s (table 2), so that nothing flaps faster than that.
 *
 * A session that begins says hello once a second (RFC 5880, 6.8.3), except when it has a changed interval to tell, and that it has
 * from its second step (init) on: so it gets one, and is up in a moment. But not where it has just been down already.
 */
const RUN_PATHS = `state=${RUN_DIR}/paths
vsctl='${VSCTL} --no-wait'
rm -rf "$state"
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
is_down() { [ "$(cat "$state/$1" 2>/dev/null)" = "$2" ]; }
mind() {
  while is_down "$1" "$2"; do
    if wire_answers "$1"; then
      sleep 1
      continue
    fi
    mac=$(printf '02:6d:6f:%02x:%02x:01' $(($1 / 256)) $(($1 % 256)))
    ip -n mobula neigh replace "10.31.$(place "$1")" lladdr "$mac" dev ${LINK.switch} nud reachable
    detour replace "$1"
    is_down "$1" "$2" || detour del "$1"
    return
  done
}
hold() {
  before=$(cat "$state/$1.last" 2>/dev/null || echo -60)
  now >"$state/$1.last"
  [ $(($(now) - before)) -lt 30 ] || return 0
  ${OFCTL("add-flow", '"table=2,priority=10,reg1=$1,hard_timeout=10,actions=load:1->NXM_NX_REG3[0]"')}
}
count=0
died() {
  [ ! -e "$state/$1" ] || return 0
  count=$((count + 1))
  echo "$count" >"$state/$1"
  mind "$1" "$count" </dev/null &
  hold "$1"
}
lives() {
  rm -f "$state/$1"
  detour del "$1" || return 0
  # The detour's smaller packets need not be remembered for the kernel's ten minutes.
  ip route flush cache
  ip -n mobula route flush cache
}
hurry() {
  before=$(cat "$state/$1.hurried" 2>/dev/null || echo -60)
  now >"$state/$1.hurried"
  [ $(($(now) - before)) -ge 5 ] || return 0
  $vsctl set Interface "$1" bfd:min_tx=${ODD_INTERVAL}
  interval=$($vsctl get Interface "$1" bfd:min_rx | tr -d '"')
  $vsctl set Interface "$1" "bfd:min_tx=$interval"
}
until [ -S ${OVS_DIR}/db.sock ]; do sleep 0.1; done
ovsdb-client --format=csv --no-headings monitor ${SWITCH_DB} Open_vSwitch Interface name,bfd_status |
while IFS=, read -r uuid action name status; do
  case $action,$status in
    old,*) continue ;;
    *' state=init'*) hurry "$name" </dev/null & ;;
  esac
  case $name in mo-path-*) peer=\${name#mo-path-} ;; *) continue ;; esac
  case $action,$status in
    delete,*) lives "$peer" ;;
    *'forwarding=""true""'*) lives "$peer" ;;
    *'forwarding=""false""'*) died "$peer" ;;
  esac
done
exit 1
`;

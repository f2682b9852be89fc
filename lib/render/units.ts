/**
 * systemd units and the small programs that they start. Pure.
 *
 * Units are written for systemd 219. Every ExecStart is a program of ours: started from anywhere else, SELinux would confine `ip`,
 * and with it all that it starts.
 */
import type { Capabilities } from "../facts.ts";
import { LINK } from "../net/network.ts";
import { forget, remember, RUN_DIR, SWITCH_CONTROL } from "../net/seen.ts";
import { BIN_DIR } from "../net/steps.ts";
import type { WantedFile } from "../step.ts";
import { ETC_DIR, UPSTREAM_FILE } from "./dnsmasq.ts";
import { EGRESS_FILE, RUN_EGRESS } from "./egress.ts";
import { HEADER } from "./header.ts";
import { RESTORE_NIC } from "./restore_nic.ts";
import {
  AFTER_VSWITCHD,
  END_VSWITCHD,
  HAND_OVER,
  HANDED_OVER,
  RUN_VSWITCHD,
  SILENCE_PATHS,
  startVswitchd,
  SWITCH_PID,
} from "./switch_process.ts";
import {
  LEARNED_FILE,
  LOAD_FLOWS,
  OVS_DIR,
  RESTORE_SWITCH,
  RESUME_PATHS,
  RUN_PATHS,
} from "./switch_programs.ts";

export const UNIT_DIR = "/etc/systemd/system";
/** The unit that brings the network up at boot. */
export const MAIN_UNIT = "mobula.service";

/** The unit that takes back what nobody has confirmed; started by a timer, and by a boot that comes before the confirmation. */
export const ROLLBACK_UNIT = "mobula-rollback.service";

/** The timer that starts it: made when it is needed, so that it can be told when. */
export const ROLLBACK_TIMER = "mobula-rollback.timer";

/** The unit that configures a restarted daemon again. */
export const HEAL_UNIT = "mobula-heal.service";

/** The unit that has the network brought up at boot where the main unit could not even try. */
export const RESCUE_UNIT = "mobula-rescue.service";
/** What starts it at boot. A symbolic link of `systemctl enable` can be lost with the unit that it points to. */
export const RESCUE_DROP_IN = `${UNIT_DIR}/multi-user.target.d/mobula.conf`;

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
    { path: `${UNIT_DIR}/${RESCUE_UNIT}`, content: RESCUE_SERVICE },
    { path: RESCUE_DROP_IN, content: `${HEADER}\n[Unit]\nWants=${RESCUE_UNIT}\n` },
    { path: `${UNIT_DIR}/${NIC_UNIT}`, content: NIC_SERVICE },
    ...renderRollback(),
    ...renderFollow(),
    daemonUnit("ovsdb", "Open vSwitch database", { heals: false, first: true }),
    daemonUnit("vswitchd", "Open vSwitch", {
      heals: true,
      first: true,
      handsOver: { pidFile: SWITCH_PID, stop: "hand-over", stopped: "after-vswitchd" },
    }),
    daemonUnit("paths", "watch over the direct paths", { heals: false }),
    daemonUnit("egress", "watch over the way out", { heals: false, ends: true }),
    // Started before AppArmor's profiles are loaded it would stay unconfined until it is restarted.
    daemonUnit("dnsmasq", "name server of the gateway", { heals: false, after: "apparmor.service" }),
    ...(userspace ? [daemonUnit("wireguard", "WireGuard in userspace", { heals: true })] : []),
    program("run-ovsdb", RUN_OVSDB),
    program("run-vswitchd", RUN_VSWITCHD),
    program("start-vswitchd", startVswitchd(capabilities)),
    program("silence-paths", SILENCE_PATHS),
    program("hand-over", HAND_OVER),
    program("end-vswitchd", END_VSWITCHD),
    program("after-vswitchd", AFTER_VSWITCHD),
    program("run-paths", RUN_PATHS),
    program("run-egress", RUN_EGRESS),
    program("run-dnsmasq", RUN_DNSMASQ),
    ...(userspace ? [program("run-wireguard", RUN_WIREGUARD)] : []),
    program("start-units", START_UNITS),
    program("wait-daemon", WAIT_DAEMON),
    program("run-heal", RUN_HEAL),
    program("run-rescue", RUN_RESCUE),
    program("run-nic", RUN_NIC),
    program("load-firewall", LOAD_FIREWALL),
    program("load-shortcut", LOAD_SHORTCUT),
    program("load-flows", LOAD_FLOWS),
    program("restore-switch", RESTORE_SWITCH),
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
IgnoreOnIsolate=yes
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
IgnoreOnIsolate=yes
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

/**
 * Apart from the daemon's own unit: that one counts as starting until its last ExecStartPost has ended. A restart waits until what is under
 * way has come to its end: a daemon that ends again and again must not keep the rest of the network from being configured.
 */
const HEAL_SERVICE = `${HEADER}
[Unit]
Description=mobula: configure what was started again
DefaultDependencies=no
IgnoreOnIsolate=yes
Conflicts=shutdown.target
Before=shutdown.target
StartLimitInterval=0

[Service]
Type=oneshot
ExecStart=${BIN_DIR}/run-heal
KillMode=mixed
TimeoutStartSec=1800
TimeoutStopSec=120
`;

/** Of units that run after the main one, on an installed host. */
const AFTER_MAIN = `DefaultDependencies=no
IgnoreOnIsolate=yes
After=local-fs.target ${ROLLBACK_UNIT} ${MAIN_UNIT}
Conflicts=shutdown.target
Before=shutdown.target
RequiresMountsFor=/opt/mobula
ConditionPathExists=/opt/mobula/current
`;

/** The main unit's file may be gone, or what it starts. */
const RESCUE_SERVICE = `${HEADER}
[Unit]
Description=mobula: bring the network up where the main unit could not
${AFTER_MAIN}
[Service]
Type=oneshot
ExecStart=${BIN_DIR}/run-rescue
`;

/** At boot udev finds the card as well: by then the main unit has taken it, or the way back has given it up. */
const NIC_SERVICE = `${HEADER}
[Unit]
Description=mobula: take the external interface that was plugged in
${AFTER_MAIN}StartLimitInterval=0

[Service]
Type=oneshot
ExecStart=${BIN_DIR}/run-nic
`;

/** What Open vSwitch's own ovs-ctl gives its daemons. */
const FIRST = -10;

/** It ends by itself when the old keys are forgotten. */
const FOLLOW = `${HEADER}
[Unit]
Description=mobula: follow the hosts to their new keys
DefaultDependencies=no
IgnoreOnIsolate=yes
After=local-fs.target
Conflicts=shutdown.target
Before=shutdown.target
StartLimitInterval=0

[Service]
ExecStart=${BIN_DIR}/run-follow
Nice=${FIRST}
Restart=on-failure
RestartSec=0.2
`;

interface DaemonOptions {
  readonly heals: boolean;
  /** It is to have a processor before others: hellos that are late are a path that is dead. */
  readonly first?: boolean;
  /** Its place may be taken by a process that the program `stop` has started; `stopped` cleans up where that is not to be. */
  readonly handsOver?: { readonly pidFile: string; readonly stop: string; readonly stopped: string };
  /** It ends by itself when it is not wanted any more. */
  readonly ends?: boolean;
  /** A unit that has to be done before, if it is started at all. */
  readonly after?: string;
}

function daemonUnit(name: string, description: string, options: DaemonOptions): WantedFile {
  const { heals, first, handsOver, ends, after } = options;
  const before = handsOver === undefined ? "" : `ExecStop=-${BIN_DIR}/${handsOver.stop}
ExecStopPost=-${BIN_DIR}/${handsOver.stopped}
`;
  const kind = handsOver === undefined ? "" : `Type=forking
PIDFile=${handsOver.pidFile}
KillMode=process
`;
  // A restarted daemon has forgotten what it was told.
  const heal = heals ? `ExecStartPost=${BIN_DIR}/wait-daemon mobula-${name}.service\n` : "";
  const content = `${HEADER}
[Unit]
Description=mobula: ${description}
DefaultDependencies=no
IgnoreOnIsolate=yes
After=local-fs.target${after === undefined ? "" : ` ${after}`}
Conflicts=shutdown.target
Before=shutdown.target
StartLimitInterval=0

[Service]
${kind}ExecStart=${BIN_DIR}/run-${name}
${heal}${before}Restart=${ends ? "on-failure" : "always"}
RestartSec=0.2
${first ? `Nice=${FIRST}\n` : ""}OOMScoreAdjust=-900
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
[ -d ${OVS_DIR} ] || mkdir -p ${OVS_DIR}
export OVS_RUNDIR=${OVS_DIR} OVS_DBDIR=${OVS_DIR} OVS_LOGDIR=${OVS_DIR} OVS_SYSCONFDIR=${OVS_DIR}
db=${OVS_DIR}/conf.db
schema=/usr/share/openvswitch/vswitch.ovsschema
if [ ! -s "$db" ]; then
  [ ! -e "$db.new" ] || rm -f "$db.new"
  ovsdb-tool create "$db.new" "$schema"
  mv "$db.new" "$db"
elif [ "$(ovsdb-tool needs-conversion "$db" "$schema")" = yes ]; then
  ovsdb-tool convert "$db" "$schema"
fi
exec ovsdb-server "$db" --remote=punix:${OVS_DIR}/db.sock --unixctl=${OVS_DIR}/ovsdb.ctl --no-chdir -vconsole:warn -vsyslog:off
`;

const RUN_DNSMASQ = `# Without it dnsmasq would serve whatever it likes.
[ -f ${ETC_DIR}/dnsmasq.conf ] || { echo "no ${ETC_DIR}/dnsmasq.conf" >&2; sleep 5; exit 1; }
[ ! -e ${EGRESS_FILE} ] || . ${EGRESS_FILE}
# Until run-egress knows better.
[ -z "\${resolvers:-}" ] || [ -s ${UPSTREAM_FILE} ] || for address in $resolvers; do echo "nameserver $address"; done >${UPSTREAM_FILE}
exec ip netns exec mobula dnsmasq --keep-in-foreground --conf-file=${ETC_DIR}/dnsmasq.conf
`;

const RUN_FOLLOW = `exec ip netns exec mobula ${BIN_DIR}/mobula follow
`;

/** Cross-platform interface of WireGuard: where wireguard-go answers. */
const UAPI_SOCKET = `/var/run/wireguard/${LINK.wireguard}.sock`;

const RUN_WIREGUARD = `[ ! -e ${UAPI_SOCKET} ] || rm -f ${UAPI_SOCKET}
[ -d /var/run/wireguard ] || mkdir -p /var/run/wireguard
export LOG_LEVEL=error WG_PROCESS_FOREGROUND=1
exec ip netns exec mobula wireguard-go --foreground ${LINK.wireguard}
`;

/** Marks each unit as started on purpose, so that nothing is to be healed after it; no mark outlives this program. */
const START_UNITS = `set -eu
[ -d ${RUN_DIR}/expected ] || mkdir -p ${RUN_DIR}/expected
cd ${RUN_DIR}/expected
trap 'rm -f "$@"' EXIT
trap 'exit 1' HUP INT TERM
for unit in "$@"; do echo $$ >"$unit"; done
systemctl start "$@" || {
  for unit in "$@"; do systemctl is-active --quiet "$unit" || journalctl -u "$unit" -n 3 -o cat --no-pager >&2; done
  exit 1
}
`;

/** Runs after a daemon has started: waits until it can be used and, unless the start was expected, has it configured again. */
const WAIT_DAEMON = `unit=$1
tries=0
while [ $tries -lt 200 ]; do
  # It has ended already.
  [ -z "\${MAINPID:-}" ] || kill -0 "$MAINPID" 2>/dev/null || exit 1
  case "$unit" in
    mobula-wireguard.service) [ -S ${UAPI_SOCKET} ] && ip netns exec mobula wg show ${LINK.wireguard} public-key >/dev/null 2>&1 && break ;;
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
  name=
  { read -r name <"/proc/$starter/comm"; } 2>/dev/null || :
  [ "$name" != start-units ] || expected=1
fi
if [ "$unit" = mobula-vswitchd.service ]; then
  handed=
  if [ -e ${HANDED_OVER} ]; then
    read -r handed <${HANDED_OVER} || :
    rm -f ${HANDED_OVER}
  fi
  read -r pid <${SWITCH_PID} || :
  # The quick part of the repair; what it misses, the whole one sees. One that has been handed over to carries already.
  if [ "$handed" ] && [ "$handed" = "\${pid:-}" ]; then
    ${BIN_DIR}/load-flows fresh || :
  else
    [ "$expected" ] || ${BIN_DIR}/restore-switch || :
  fi
  eased=
  if [ -e ${LEARNED_FILE} ]; then
    eased=eased
    # It grows old.
    rm -f ${LEARNED_FILE}
  fi
  # systemd ends this program alone: another one may have begun by the time the paths would speak.
  ${BIN_DIR}/resume-paths $eased &
  trap "kill $!; exit 1" HUP INT TERM
  wait $! || :
  trap - HUP INT TERM
fi
[ -z "$expected" ] || exit 0
exec systemctl restart --no-block ${HEAL_UNIT}
`;

/**
 * Takes the seconds until the host goes back, or nothing for never. The timer lives in no session, and tries again should what it
 * starts be killed.
 */
const ARM_ROLLBACK = `set -eu
clear() {
  systemctl stop ${ROLLBACK_TIMER} 2>/dev/null || :
}
forget() {
  systemctl reset-failed ${ROLLBACK_TIMER} ${ROLLBACK_UNIT} 2>/dev/null || :
}
# Where older and newer versions of systemd keep the timer.
if [ $# != 1 ] || [ -e /run/systemd/system/${ROLLBACK_TIMER} ] || [ -e /run/systemd/transient/${ROLLBACK_TIMER} ]; then clear; fi
[ $# = 1 ] || { forget; exit 0; }
set -- "$1" $(($1 + 20)) $(($1 + 60)) $(($1 + 180)) $(($1 + 600)) $(($1 + 3600))
first=$1
shift
for seconds do set -- "$@" "--timer-property=OnActiveSec=$seconds"; shift; done
start() { systemd-run --quiet --unit=${ROLLBACK_UNIT} --on-active="$first" --timer-property=AccuracySec=1s "$@"; }
# What is left of an earlier timer, or a unit that systemd has not read yet, is no reason to go without.
start "$@" 2>/dev/null || {
  systemctl daemon-reload
  clear
  forget
  start "$@"
}
`;

/** Tries of a repair before the network card gets what it had before; a card that is late is waited for by mobula itself. */
const TRIES_BEFORE_GIVING_BACK = 2;

/**
 * Tries for some ten minutes. Where no gateway was made in this boot, or mobula does not even tell its version, it cannot run: then the
 * network card gets what it had before.
 */
const RUN_HEAL = `failed() { systemctl is-failed --quiet ${MAIN_UNIT}; }
# An activation that was tried and has failed is rolled back. One that was killed could not ask for it itself.
if [ -e /opt/mobula/armed.json ] && failed; then
  case $(systemctl is-active ${ROLLBACK_UNIT}) in activating | active) exit 0 ;; esac
  [ -e ${RUN_DIR}/failure ] || printf 'what configured the network was killed' >${RUN_DIR}/failure
  exec systemctl start --no-block ${ROLLBACK_UNIT}
fi
# Systemd ends this program for another run, which comes when this one has ended.
stopped=
trap 'stopped=1' TERM
cannot_run() { [ ! -e /run/netns/mobula ] || ! ${BIN_DIR}/mobula --version >/dev/null 2>&1; }
tries=0
until ${BIN_DIR}/mobula up; do
  [ -e /opt/mobula/current ] || exit 0
  tries=$((tries + 1))
  [ $tries -lt ${TRIES_BEFORE_GIVING_BACK} ] || ! cannot_run || ${RESTORE_NIC} || :
  [ $tries -lt 20 ] && [ -z "$stopped" ] || exit 1
  sleep $tries &
  wait $! || :
done
[ -z "$stopped" ] || exit 0
# The network is up after all, and the unit that was to bring it up says so, too.
! failed || exec systemctl start --no-block ${MAIN_UNIT}
`;

const RUN_RESCUE = `! ${RESTORE_NIC} needed || exec systemctl start --no-block ${HEAL_UNIT}
`;

/** Nothing to do where the gateway's bridge has hardware in it; else begun anew, should it be under way already. */
const RUN_NIC =
  `ip netns exec mobula sh -c 'ls /sys/class/net/${LINK.externalBridge}/lower_*/device' >/dev/null 2>&1 && exit 0
exec systemctl restart --no-block ${HEAL_UNIT}
`;

/**
 * Takes the orders on standard input. Without it packets take the usual way: kernels before 5.10, and systems without `tc`, have none, and
 * that is remembered as well.
 */
const LOAD_SHORTCUT = `set -eu
umask 077
[ -d ${RUN_DIR} ] || mkdir -p ${RUN_DIR}
cd ${RUN_DIR}
${forget("shortcut")}
cat >shortcut.text
exec ip netns exec mobula sh -eu <<'INSIDE'
end() { tc qdisc del dev ${LINK.wireguard} clsact 2>/dev/null || :; }
end
tc -batch shortcut.text >shortcut.error 2>&1 || end
${remember("shortcut")}
INSIDE
`;

/** Takes the ruleset on standard input. */
const LOAD_FIREWALL = `set -eu
umask 077
[ -d ${RUN_DIR} ] || mkdir -p ${RUN_DIR}
cd ${RUN_DIR}
${forget("firewall")}
cat >firewall.nft
exec ip netns exec mobula sh -eu <<'INSIDE'
nft -f firewall.nft
${remember("firewall")}
INSIDE
`;

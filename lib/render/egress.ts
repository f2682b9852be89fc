/**
 * The way out by another host's gateway: its settings on a host, its unit and its program. Pure.
 *
 * A host whose own gateway still reaches its peers but not the Internet (its provider's upstream is gone, its router has lost its way,
 * its default route is wrong) sends default traffic over the access network to another host's gateway, which takes it for what its own
 * VMs send. A host whose uplink is wholly dead has no WireGuard either: nobody can help it.
 *
 * Something has to ask the Internet: no link goes down, BFD knows the peers alone, and the kernel knows of no next hop but the first.
 * A timer would have systemd start a unit each second and note it twice in the journal; so it is a small loop that pings.
 */
import { hostAddresses } from "../address.ts";
import type { Baseline } from "../facts.ts";
import type { HostConfig } from "../fleet.ts";
import { EGRESS, LINK, meshIds } from "../net/network.ts";
import { DETOUR_PROTOCOL } from "../net/steps.ts";
import { ETC_DIR, UPSTREAM_FILE, upstreamOf } from "./dnsmasq.ts";
import { HEADER } from "./header.ts";

/** Read by the program before each look. */
export const EGRESS_FILE = `${ETC_DIR}/egress`;

/** To ask whether another gateway has a way out. */
const TRIAL_TABLE = 110;
/** Of the gateway's rules. */
const PRIORITIES = { near: 10109, egress: 10110, trial: 10111 } as const;

/** The settings as shell variables; those who come next are asked first, so that not everybody asks the same one. */
export function renderEgress(config: HostConfig, baseline: Pick<Baseline, "resolvers">): string {
  const { egress, hosts, self } = config;
  const peers = meshIds(hosts);
  const order = [...peers.filter((id) => id > self), ...peers.filter((id) => id < self)];
  const lines = egress
    ? [
      "egress=failover",
      `probes='${egress.probes.join(" ")}'`,
      `gateways='${order.map((id) => hostAddresses(id).gateway).join(" ")}'`,
      `resolvers='${upstreamOf(baseline).join(" ")}'`,
    ]
    : ["egress=own"];
  return [HEADER, ...lines, ""].join("\n");
}

/**
 * Within a second the first address is asked again; when it keeps silent, all of them, each for a second: 3 s until the way out counts
 * as lost. It counts as back after three answers in a row. Who takes over must have answers itself, now and as long as it is needed.
 */
export const RUN_EGRESS = `[ "\${1:-}" = inside ] || exec ip netns exec mobula "$0" inside
egress=own
upstream() {
  for address; do echo "nameserver $address"; done >${UPSTREAM_FILE}.new
  cmp -s ${UPSTREAM_FILE}.new ${UPSTREAM_FILE} && return
  mv ${UPSTREAM_FILE}.new ${UPSTREAM_FILE}
  systemctl kill --signal=HUP --kill-who=main mobula-dnsmasq.service
}
answers() {
  link=$1
  shift
  pids=
  for address; do
    ping -n -q -c 1 -W 1 -I "$link" "$address" >/dev/null 2>&1 &
    pids="$pids $!"
  done
  outcome=1
  for pid in $pids; do wait "$pid" && outcome=0; done
  return $outcome
}
own_answers() { answers ${LINK.externalBridge} "$@"; }
other_answers() {
  ip route flush table ${TRIAL_TABLE} 2>/dev/null
  for address in $probes; do ip route add "$address/32" via "$1" dev ${LINK.switch} table ${TRIAL_TABLE}; done
  answers ${LINK.switch} $probes
}
leave_by() {
  ip route replace default via "$1" dev ${LINK.switch} table ${EGRESS.table} proto ${DETOUR_PROTOCOL}
  upstream "$1"
  [ "$via" = "$1" ] || echo "The way out is lost: default traffic leaves by $1"
  via=$1
}
leave_here() {
  ip route flush table ${EGRESS.table} 2>/dev/null
  [ "$egress" != failover ] || upstream $resolvers
  [ -z "$via" ] || echo "Default traffic leaves by this gateway again"
  via=
}
find_another() {
  for gateway in $gateways; do
    ! other_answers "$gateway" || { leave_by "$gateway"; return; }
  done
  leave_here
}
rules() {
  ip rule "$1" priority ${PRIORITIES.near} fwmark ${EGRESS.mark} table main suppress_prefixlength 0
  ip rule "$1" priority ${PRIORITIES.egress} fwmark ${EGRESS.mark} table ${EGRESS.table}
  ip rule "$1" priority ${PRIORITIES.trial} oif ${LINK.switch} table ${TRIAL_TABLE}
}
via=$(ip -4 route show table ${EGRESS.table} 2>/dev/null | sed -n 's/^default via \\([0-9.]*\\) .*/\\1/p')
rules del 2>/dev/null
rules add
back=0
while [ -e ${EGRESS_FILE} ] && . ${EGRESS_FILE} && [ "$egress" = failover ]; do
  if [ -z "$via" ]; then
    upstream $resolvers
    own_answers \${probes%% *} || own_answers $probes || find_another
    back=0
  elif own_answers $probes; then
    back=$((back + 1))
    [ $back -lt 3 ] || leave_here
  else
    back=0
    other_answers "$via" || find_another
  fi
  sleep 1
done
leave_here
rules del
ip route flush table ${TRIAL_TABLE} 2>/dev/null
exit 0
`;

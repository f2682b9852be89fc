/**
 * Guest machines behind two hosts: namespaces on the host's VLAN-aware bridge, made when first asked for. Runs scripts on hosts.
 */
import type { Lab } from "../lab/lab.ts";
import { addGuest } from "../lab/client.ts";
import { onHost } from "./stage.ts";

/** A guest by its host and its namespace there. */
export interface Guest {
  readonly host: string;
  readonly namespace: string;
  readonly mac: string;
}

function guest(host: string, name: string, number: number): Guest {
  return { host, namespace: `guest-${name}`, mac: `02:00:00:00:00:0${number}` };
}

/** Trunk ports: untagged in the access network, and a member of VLANs 7 and 8. */
export const ONE = guest("alpha", "one", 5);
export const TWO = guest("gamma", "two", 6);
/** Access ports in VLAN 7, and one in VLAN 8 of the same subnet. */
export const RED_ONE = guest("alpha", "redone", 7);
export const RED_TWO = guest("gamma", "redtwo", 8);
export const BLUE_TWO = guest("gamma", "bluetwo", 9);

/** Untagged addresses of the trunk guests. */
export const ADDRESS = { one: "10.31.200.5", two: "10.31.200.6" } as const;

/** Network and guest → address in it; VLAN 7, VLAN 8, and the inner VLAN 30 of the outer one 20. */
export const TAGGED = {
  one: { seven: "10.77.0.5", eight: "10.78.0.5", inner: "10.79.0.5" },
  two: { seven: "10.77.0.6", eight: "10.78.0.6", inner: "10.79.0.6" },
  beta: { seven: "10.77.0.3", eight: "10.78.0.3", inner: "10.79.0.3" },
  redOne: "10.77.0.15",
  redTwo: "10.77.0.16",
  blueTwo: { likeRed: "10.77.0.26", eight: "10.78.0.26" },
} as const;

let made: Promise<void> | undefined;

/** Makes all guests, once. */
export function ensureGuests(lab: Lab): Promise<void> {
  return made ??= makeGuests(lab);
}

async function makeGuests(lab: Lab): Promise<void> {
  if ((await lab.exec(TWO.host, ["ip", "netns", "list"])).stdout.includes(TWO.namespace)) return;
  await Promise.all([
    (async () => {
      await add(lab, ONE, `${ADDRESS.one}/16`);
      await add(lab, RED_ONE, `${TAGGED.redOne}/24`);
      await onHost(lab, "alpha", [TRUNKS, trunk("one", TAGGED.one), accessPort("redone", 7)].join("\n"));
    })(),
    (async () => {
      await add(lab, TWO, `${ADDRESS.two}/16`);
      await add(lab, RED_TWO, `${TAGGED.redTwo}/24`);
      await add(lab, BLUE_TWO, `${TAGGED.blueTwo.likeRed}/24`);
      const blue = `ip -n guest-bluetwo address add ${TAGGED.blueTwo.eight}/24 dev eth0`;
      const ports = [accessPort("redtwo", 7), accessPort("bluetwo", 8)];
      await onHost(lab, "gamma", [TRUNKS, trunk("two", TAGGED.two), ...ports, blue].join("\n"));
    })(),
    // A host without a bridge: the tags are put on at veth_fac0 itself.
    onHost(lab, "beta", vlanLinks("veth_fac0", TAGGED.beta, "")),
  ]);
}

async function add(lab: Lab, { host, namespace, mac }: Guest, address: string): Promise<void> {
  await addGuest(lab, host, { name: namespace.replace("guest-", ""), address, mac });
}

const TRUNKS = "for vid in 7 8; do bridge vlan add vid $vid dev veth_fac0; done";

function trunk(name: string, addresses: typeof TAGGED.one | typeof TAGGED.two): string {
  const member = `for vid in 7 8; do bridge vlan add vid $vid dev g-${name}; done`;
  return `${member}\n${vlanLinks("eth0", addresses, `-n guest-${name}`)}`;
}

/** The outer tag of two takes the four bytes that one tag may be longer than the MTU: the inner network's is smaller. */
function vlanLinks(
  link: string,
  { seven, eight, inner }: { readonly seven: string; readonly eight: string; readonly inner: string },
  scope: string,
): string {
  const ip = `ip ${scope}`.trim();
  return `modprobe 8021q
${ip} link add link ${link} name tag7 type vlan id 7
${ip} link add link ${link} name tag8 type vlan id 8
${ip} link add link ${link} name outer type vlan protocol 802.1ad id 20
${ip} link set tag7 up; ${ip} link set tag8 up; ${ip} link set outer up
${ip} link add link outer name inner type vlan id 30
mtu=$(${ip} -o link show outer | sed 's/.* mtu \\([0-9]*\\) .*/\\1/')
${ip} link set inner mtu $((mtu - 4)) up
${ip} address add ${seven}/24 dev tag7
${ip} address add ${eight}/24 dev tag8
${ip} address add ${inner}/24 dev inner`;
}

function accessPort(name: string, vlan: number): string {
  return `bridge vlan del vid 1 dev g-${name}; bridge vlan add vid ${vlan} dev g-${name} pvid untagged`;
}

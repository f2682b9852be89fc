/**
 * Judges the fleet by what was seen of its hosts, before anything is changed. Pure.
 */
import { inNetwork, NETWORKS, parseIpv4 } from "../address.ts";
import { wayToModules } from "../distro/modules.ts";
import { findDistro } from "../distro/table.ts";
import type { HostFacts, Service } from "../facts.ts";
import type { Fleet, Forward, Host } from "../fleet.ts";
import { forwardLine, ownPorts, portOf, unreachableServices } from "../forward.ts";
import { LINK } from "../net/network.ts";

/** What is wrong with one host; a warning does not keep it from being installed. */
export interface HostProblem {
  readonly host: Host;
  readonly severity: "error" | "warning";
  /** Current state, expected state and the way out, without the host's name. */
  readonly message: string;
}

/** What preflight has to know besides the facts. */
export interface PreflightOptions {
  readonly reinstall: boolean;
  /** The deployer's clock when the facts were read, seconds since 1970. */
  readonly now: number;
}

/** Room for the executable packed and unpacked, and the packages. */
const MIN_FREE_MIB = 400;
/** Seconds; WireGuard's handshakes and TLS downloads mind larger differences. */
const MAX_SKEW = 120;

type Message = { readonly severity: "error" | "warning"; readonly message: string };

/** All problems of all hosts that were looked at, in the fleet's order. */
export function preflight(
  fleet: Fleet,
  facts: ReadonlyMap<number, HostFacts>,
  options: PreflightOptions,
): readonly HostProblem[] {
  return fleet.hosts.flatMap((host) => {
    const seen = facts.get(host.id);
    if (!seen) return [];
    return checkHost(host, seen, options).map((message) => ({ host, ...message }));
  });
}

function checkHost(host: Host, facts: HostFacts, options: PreflightOptions): Message[] {
  return [
    ...checkSystem(facts),
    ...checkKernel(facts),
    ...checkState(facts, options),
    ...checkExternal(host, facts),
    ...checkOverlaps(facts),
    ...checkPort(facts),
    ...checkSshd(facts),
    ...checkForwards(host, facts),
    ...checkServices(host, facts),
    ...checkClock(facts, options),
  ];
}

/** SSH will arrive at the intrawire address, no longer at the external one. */
function checkSshd({ sshListeners }: HostFacts): Message[] {
  const reachable = sshListeners.some((address) => /^(0\.0\.0\.0|\*|\[::\]|10\.30\.)/.test(address));
  if (sshListeners.length === 0 || reachable) return [];
  return [error(
    `Cannot keep SSH reachable: sshd listens only on ${
      sshListeners.join(", ")
    }; expected all addresses, because the external ` +
      "one moves into the gateway. Remove ListenAddress from sshd_config and restart sshd",
  )];
}

/** The port is known for sure only now. */
function checkForwards({ forward = [] }: Host, { sshPort }: HostFacts): Message[] {
  const own = ownPorts(sshPort);
  return forward.map(portOf).filter((port) => own.has(port)).map((port) =>
    error(
      `Cannot forward ${port}: SSH arrives there; expected another external port. Remove it from forward`,
    )
  );
}

/** Whatever answers outside and will not any more is told, as long as it does. */
function checkServices(host: Host, facts: HostFacts): Message[] {
  const { services, sshPort, externalInterface } = facts;
  if (externalInterface === LINK.externalBridge) return checkRecord(host, facts);
  const cut = cutServices(host, facts);
  const mendable = cut.filter(({ reach }) => reach !== "ipv6");
  const bound = services.filter(({ reach, port, protocol }) =>
    reach === "address" && (protocol !== "tcp" || port !== sshPort)
  );
  return [
    ...mendable.length === 0 ? [] : [warning(
      `nobody outside will reach ${renderServices(mendable)}; to keep it write "${
        forwardLine(host.forward ?? [], mendable)
      }" or "preserve_services: true" for this host in hosts.yml`,
    )],
    ...cut.length === mendable.length ? [] : [warning(
      `nobody outside will reach ${
        renderServices(cut.filter(({ reach }) => reach === "ipv6"))
      }, which listens on IPv6 alone: that is not forwarded`,
    )],
    ...bound.length === 0 ? [] : [warning(
      `${
        renderServices(bound)
      } listens on the external address alone, which moves into the gateway: let it listen on ` +
        "all addresses, or nothing reaches it even if it is forwarded",
    )],
  ];
}

/** What answers outside now and would not after an installation. */
export function cutServices(
  host: Host,
  { services, sshPort, externalInterface }: HostFacts,
): readonly Service[] {
  return externalInterface === LINK.externalBridge ? [] : unreachableServices(host, services, sshPort);
}

function checkRecord({ preserveServices }: Host, { servicesUnrecorded }: HostFacts): Message[] {
  if (!preserveServices || !servicesUnrecorded) return [];
  return [warning(
    "preserve_services keeps nothing: the version of mobula that installed this host did not record what listened " +
      "there before. Write its ports into forward",
  )];
}

/** What a plan says of services that are forwarded now and will not be. */
export function closedServices(
  { closed }: { readonly closed: readonly Forward[] },
  services: readonly Service[],
): string[] {
  const cut = services.filter((service) =>
    closed.some(({ internal, protocol }) => portOf(service) === `${internal}/${protocol}`)
  );
  if (cut.length === 0) return [];
  return [`nobody outside will reach ${renderServices(cut)} any more, which is forwarded until now`];
}

/** `nginx on 80/tcp, named on 53/udp`. */
function renderServices(services: readonly Service[]): string {
  return services.map((one) => `${one.program ?? "an unknown program"} on ${portOf(one)}`).join(", ");
}

function error(message: string): Message {
  return { severity: "error", message };
}

function warning(message: string): Message {
  return { severity: "warning", message };
}

function checkSystem(facts: HostFacts): Message[] {
  const answer = findDistro(facts.osId, facts.osIdLike, facts.osVersion);
  return [
    ..."refused" in answer ? [error(`Cannot install on ${facts.osName}: ${answer.refused}`)] : [],
    ...facts.architecture === "x86_64"
      ? []
      : [error(`Cannot install on architecture ${facts.architecture}; expected x86_64`)],
    ...facts.systemd
      ? []
      : [error("Cannot install without systemd: /run/systemd/system is missing; expected systemd as init")],
    ...facts.root ? [] : [error(
      "Cannot install without root: logged in as another user; expected root. Log in as root (ansible_user: root), " +
        "or allow sudo without a password and set ansible_become: true",
    )],
    ...facts.freeMiB >= MIN_FREE_MIB ? [] : [error(
      `Cannot install with ${facts.freeMiB} MiB free in /opt; expected at least ${MIN_FREE_MIB} MiB. Make room there`,
    )],
  ];
}

/** Modules that no program takes the place of: the packet filter, its NAT, and the links between namespaces. */
const IRREPLACEABLE: ReadonlySet<string> = new Set(["nf_tables", "nft_chain_nat", "veth", "bridge"]);

/** Without modules the userspace does the work, if it can; what a package could make faster is told. */
function checkKernel({ osId, osIdLike, osVersion, kernel, lacks }: HostFacts): Message[] {
  const answer = findDistro(osId, osIdLike, osVersion);
  if (!lacks || "refused" in answer) return [];
  const { distro } = answer;
  const way = wayToModules(distro, kernel, lacks);
  const found = `kernel ${kernel} has no module ${lacks.modules.join(", ")}`;
  const needed = lacks.modules.filter((name) => IRREPLACEABLE.has(name));
  if (needed.length > 0) {
    return [error(
      `Cannot do without kernel modules: ${found}, and no program takes the place of ${needed.join(", ")}; ` +
        `expected them in the kernel or to be loaded. ${way}`,
    )];
  }
  if (!lacks.tun) {
    return [error(
      `Cannot do without kernel modules: ${found}, and there is no /dev/net/tun; expected one or the other. ${way}`,
    )];
  }
  const wireguardGo = lacks.wireguardGo || distro.packages.wireguardGo !== undefined;
  if (lacks.modules.includes("wireguard") && !wireguardGo) {
    return [error(
      `Cannot run WireGuard: ${found}, and ${distro.name} ${osVersion} has no package of wireguard-go; ` +
        `expected one or the other. ${way}`,
    )];
  }
  return lacks.container
    ? []
    : [warning(`${found}: the work is done in userspace, slower. ${way} first to change that`)];
}

function checkState({ state }: HostFacts, { reinstall }: PreflightOptions): Message[] {
  if (state?.status !== "installing" || reinstall) return [];
  return [error(
    `Cannot go on: an earlier installation was interrupted in phase "${state.phase}" at ${state.since}; ` +
      "expected a complete one or none. Repair it with --reinstall",
  )];
}

function checkExternal(host: Host, facts: HostFacts): Message[] {
  if (facts.externalInterface === undefined) {
    return [error(
      "Cannot find the external interface: no IPv4 default route; expected one. Add a default route through the interface " +
        "that faces the Internet",
    )];
  }
  const own = facts.addresses.filter(({ interface: link }) => link === facts.externalInterface);
  if (own.length === 0) {
    return [error(
      `Cannot use external interface ${facts.externalInterface}: it has no IPv4 address; expected ${host.address} or a ` +
        "private one behind NAT",
    )];
  }
  return checkExternalAddress(host, facts, own.map(({ address }) => withoutPrefix(address)));
}

function checkExternalAddress(host: Host, facts: HostFacts, own: readonly string[]): Message[] {
  if (own.includes(host.address)) return [];
  const elsewhere = facts.addresses.find(({ address }) => withoutPrefix(address) === host.address);
  if (elsewhere) {
    return [error(
      `Cannot use ${host.address} as external address: it is on ${elsewhere.interface}; expected it on ` +
        `${facts.externalInterface}, the interface of the default route`,
    )];
  }
  if (own.some(isPrivate)) {
    return [warning(
      `${host.address} is not on the host (${facts.externalInterface} has ${
        own.join(", ")
      }): behind NAT? UDP 51820 must ` +
        "then be forwarded to it",
    )];
  }
  return [error(
    `Cannot find ${host.address} on the host: ${facts.externalInterface} has ${
      own.join(", ")
    }; expected the address of ` +
      "hosts.yml. Is this another host?",
  )];
}

/** Addresses that only NAT makes reachable: RFC 1918 and the carriers' RFC 6598. */
function isPrivate(address: string): boolean {
  return ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"].some((net) =>
    inNetwork(address, net)
  );
}

/** Links that mobula itself makes; an admin may add to `veth_fac0` whatever the access network is for. */
const OUR_LINK = /^(veth_|mo-|ovsbr-mobula$)/;

function checkOverlaps(facts: HostFacts): Message[] {
  const taken = [
    ...facts.addresses.filter(({ interface: link }) => !OUR_LINK.test(link) && link !== facts.accessBridge)
      .map(({ interface: link, address }) => ({ what: `address ${address} on ${link}`, cidr: address })),
    ...facts.routes.filter((route) => route !== "default")
      .map((route) => ({ what: `route to ${route}`, cidr: route })),
  ];
  return [NETWORKS.access, NETWORKS.wire].flatMap((network) =>
    taken.filter(({ cidr }) => overlaps(cidr, network)).map(({ what }) =>
      error(
        `Cannot use ${network}: the host has ${what}; expected that network to be free. Renumber what is there`,
      )
    )
  );
}

/** Whether two CIDRs have an address in common; a route as wide as "everything private" is no user of ours. */
function overlaps(a: string, b: string): boolean {
  const [baseA, bitsA] = splitCidr(a);
  const [baseB, bitsB] = splitCidr(b);
  // A wider route only says where unknown addresses go; ours are more specific and win.
  if (bitsA < bitsB) return false;
  return parseIpv4(baseA) !== undefined && inNetwork(baseA, `${baseB}/${bitsB}`);
}

function splitCidr(cidr: string): [string, number] {
  const [base = "", bits = "32"] = cidr.split("/");
  return [base, Number(bits)];
}

function checkPort({ wireguardPortUser }: HostFacts): Message[] {
  if (wireguardPortUser === "") return [];
  return [
    error(
      `Cannot use UDP port 51820: taken by ${wireguardPortUser}; expected it to be free. Move or stop that service`,
    ),
  ];
}

function checkClock({ clock }: HostFacts, { now }: PreflightOptions): Message[] {
  const skew = Math.round(clock - now);
  if (Math.abs(skew) <= MAX_SKEW) return [];
  const direction = skew > 0 ? "ahead of" : "behind";
  return [warning(`its clock is ${Math.abs(skew)} s ${direction} this machine's; set the time (NTP)`)];
}

function withoutPrefix(address: string): string {
  return address.split("/")[0]!;
}

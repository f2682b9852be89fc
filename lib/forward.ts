/**
 * Which ports of the external address lead to the host: those that were asked for, and those that were in use before. Pure.
 */
import { WIREGUARD_PORT } from "./address.ts";
import type { Baseline, Service } from "./facts.ts";
import type { Forward, Host, HostConfig } from "./fleet.ts";

/** `443/tcp`: what a forward or a service is called, and what only one of them may have. */
export function portOf(one: Forward | Pick<Service, "port" | "protocol">): string {
  return `${"external" in one ? one.external : one.port}/${one.protocol}`;
}

/** What SSH and WireGuard have for themselves. */
export function ownPorts(sshPort: number): ReadonlySet<string> {
  return new Set([`${sshPort}/tcp`, `${WIREGUARD_PORT}/udp`]);
}

/** All forwards of a host but SSH's, by port; what `forward` says wins over what is preserved. */
export function forwardsOf(
  { forward = [], preserveServices }: Pick<HostConfig, "forward" | "preserveServices">,
  { services = [], sshPort }: Pick<Baseline, "services" | "sshPort">,
): readonly Forward[] {
  const preserved = preserveServices ? services.filter(({ reach }) => reach !== "ipv6").map(forwardTo) : [];
  const own = ownPorts(sshPort);
  const byPort = new Map([...preserved, ...forward].map((one) => [portOf(one), one]));
  return [...byPort.values()].filter((one) => !own.has(portOf(one)))
    .sort((a, b) => a.protocol < b.protocol ? -1 : a.protocol > b.protocol ? 1 : a.external - b.external);
}

/** The services that nobody outside would reach once the host is installed as `host` says. */
export function unreachableServices(
  { forward = [], preserveServices }: Pick<Host, "forward" | "preserveServices">,
  services: readonly Service[],
  sshPort: number,
): readonly Service[] {
  const kept = new Set([...ownPorts(sshPort), ...forward.map((one) => `${one.internal}/${one.protocol}`)]);
  return services.filter((service) =>
    !kept.has(portOf(service)) && !(preserveServices && service.reach !== "ipv6")
  );
}

/** The line that has these services forwarded: `forward: [80, "53/udp"]`. */
export function forwardLine(forward: readonly Forward[], services: readonly Service[]): string {
  return `forward: [${[...forward, ...services.map(forwardTo)].map(renderForward).join(", ")}]`;
}

function forwardTo({ port, protocol }: Service): Forward {
  return { external: port, internal: port, protocol };
}

/** A forward as it stands in hosts.yml. */
function renderForward({ external, internal, protocol }: Forward): string {
  const ports = external === internal ? String(external) : `${external}:${internal}`;
  if (protocol === "tcp") return external === internal ? ports : `"${ports}"`;
  return `"${ports}/${protocol}"`;
}

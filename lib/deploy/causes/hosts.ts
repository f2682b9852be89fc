/**
 * Rules about single hosts that are down, cut off, or at odds with the others. Pure.
 */
import { isPing } from "../checks.ts";
import { between, type Case, isAbout, isLink, isReach } from "./case.ts";
import { handshakeBetween, isDead } from "./wires.ts";

export function unreachableHosts(one: Case): void {
  for (const { hostname, error, results } of one.hosts) {
    if (error === undefined) continue;
    const connected = results.some(({ kind, ok }) => kind === "ssh" && ok);
    const pings = one.hosts.filter((other) => other.hostname !== hostname)
      .flatMap(({ results }) => results.filter((result) => result.to === hostname && isPing(result)));
    const inside = connected
      ? ""
      : pings.some(({ ok }) => ok)
      ? "; other hosts reach it inside, so the way to its SSH server is broken, not the host"
      : pings.length > 0
      ? "; no other host reaches it either: it is down, or cut off"
      : "";
    const message = error.startsWith(`${hostname}: `) ? error : `${hostname}: ${error}`;
    one.blame([hostname], `${message}${inside}`, isAbout(hostname), { always: true });
  }
}

export function wrongKeys(one: Case): void {
  const wrong = one.failures(({ kind }) => kind === "key");
  for (const name of new Set(wrong.map(({ to }) => to))) {
    const failures = wrong.filter(({ to, asker }) => to === name && asker.hostname !== name);
    const listed = wrong.find(({ to, asker }) => to === name && asker.hostname === name);
    const asked = one.hosts.filter(({ results }) =>
      results.some(({ kind, to }) => kind === "key" && to === name)
    ).filter(({ hostname }) => hostname !== name);
    const uses = listed?.found ?? failures[0]?.expected ?? "";
    const inFile = listed ? `wireguard_pubkeys.yml has ${short(listed.expected)}` : "";
    const repair = `Push again to agree on one`;
    if (failures.length > 0 && failures.length < Math.max(2, asked.length)) {
      for (const { asker, found, expected } of failures) {
        const has = found ? `has the key ${short(found)} for ${name}` : `has no key for ${name}`;
        one.blame(
          [asker.hostname, name],
          `${asker.hostname} ${has}, which uses ${short(expected)}. ${repair}`,
          (failure) => between(asker.hostname, name)(failure) && (failure.kind === "key" || isLink(failure)),
        );
      }
    } else if (failures.length > 0) {
      const others = failures.map(({ asker }) => asker.hostname).join(", ");
      const have = failures[0]?.found ? `have ${short(failures[0].found)} for it` : "have none for it";
      one.blame(
        [name],
        `${name} uses the key ${short(uses)}, but ${others} ${have}${
          inFile ? `, and ${inFile}` : ""
        }. ${repair}`,
        (failure) =>
          (failure.kind === "key" && failure.to === name) || (isLink(failure) && isAbout(name)(failure)),
      );
    }
    if (listed) {
      one.blame(
        [name],
        `${name} uses the key ${short(uses)}, but ${inFile}. ${repair}`,
        (failure) => failure.kind === "key" && failure.to === name && failure.asker.hostname === name,
      );
    }
  }
}

function short(key: string | undefined): string {
  return key ? `${key.slice(0, 8)}…` : "none";
}

export function ownGateways(one: Case): void {
  for (
    const { asker } of one.failures(({ kind, to, asker }) => kind === "gateway" && to === asker.hostname)
  ) {
    const name = asker.hostname;
    one.blame(
      [name],
      `${name} does not reach its own gateway: its switch or veth_fac0. See "systemctl status 'mobula*'" there`,
      (failure) =>
        isAbout(name)(failure) && !failure.kind.endsWith("intrawire") &&
        (isReach(failure) || ["name", "world", "tree"].includes(failure.kind)),
    );
  }
}

/** Nobody reaches it and it reaches nobody, while others reach each other. */
export function silentHosts(one: Case): void {
  for (const { hostname: name, error } of one.hosts) {
    if (error !== undefined) continue;
    const others = one.hosts.filter((other) => other.hostname !== name && other.error === undefined);
    const dead = others.filter((other) => isDead(one, name, other.hostname));
    const living = others.some((a) =>
      others.some((b) => a !== b && one.result(a.hostname, b.hostname, "intrawire")?.ok)
    );
    if (others.length < 2 || dead.length < others.length || !living) continue;
    const heard = others.map(({ hostname }) => handshakeBetween(one, name, hostname));
    one.blame(
      [name],
      `${name} answers nobody and hears nobody, while the others hear each other: the host's own WireGuard or its way to the ` +
        `underlay (UDP 51820)${heard[0] ? `; ${heard[0]}` : ""}`,
      (failure) => isAbout(name)(failure) && isLink(failure),
    );
  }
}

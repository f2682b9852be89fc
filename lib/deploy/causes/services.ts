/**
 * Rules about what uses the network: connections, packets that are too large, names, the way to the Internet, clocks. Pure.
 */
import { hostAddresses } from "../../address.ts";
import { deployerClock } from "../evidence.ts";
import type { Case, Failure } from "./case.ts";

export function deafListeners(one: Case): void {
  for (const { hostname: name, evidence } of one.hosts) {
    if (!evidence?.deaf) continue;
    one.blame(
      [name],
      `TCP to ${name} was not tried: ${evidence.deaf}. Push, so that it has this version of mobula`,
      ({ kind, to }) => kind.startsWith("tcp-") && to === name,
    );
  }
}

/** Full packets pass, but connections do not. */
export function connections(one: Case): void {
  for (const kind of ["tcp-intrawire", "tcp-access"] as const) {
    const where = kind === "tcp-intrawire" ? "on the intrawire" : "at its gateway";
    for (const name of one.targets) {
      const failures = one.failures((failure) => failure.kind === kind && failure.to === name);
      const asked = one.hosts.filter(({ results }) =>
        results.some((result) => result.kind === kind && result.to === name)
      );
      if (failures.length < 2 || failures.length < asked.length) continue;
      one.blame(
        [name],
        `nobody gets a TCP connection to ${name} ${where} (${
          failures[0]!.found
        }), though pings of full size pass: a firewall ` +
          `${kind === "tcp-intrawire" ? "on the host" : "older than this mobula"} that drops TCP port 6255`,
        (failure) => failure.kind === kind && failure.to === name,
      );
    }
  }
  for (const { asker, to, kind, found } of one.failures(({ kind }) => kind.startsWith("tcp-"))) {
    const network = kind === "tcp-intrawire" ? "intrawire" : "access network";
    one.blame(
      [asker.hostname, to],
      `TCP from ${asker.hostname} to ${to} on the ${network}: ${found}, though pings of full size pass`,
      (failure) => failure.asker === asker && failure.to === to && failure.kind === kind,
    );
  }
}

export function oversize(one: Case): void {
  for (const { asker, kind, found } of one.failures(({ kind }) => kind.startsWith("oversize-"))) {
    const name = asker.hostname;
    const same = (failure: Failure) =>
      failure.asker === asker && failure.kind === kind && failure.found === found;
    const targets = one.failures(same).map(({ to }) => to);
    const network = kind === "oversize-intrawire" ? "intrawire" : "access network";
    const { mtus } = asker.evidence ?? {};
    const full = kind === "oversize-intrawire" ? mtus?.wireguard : mtus?.access;
    const what = found === "answered" ? "passes" : "is lost without a word";
    one.blame(
      [name],
      `a packet of ${full ? full + 1 : "one byte too many"} bytes from ${name} to ${
        targets.join(", ")
      } on the ${network} ${what}` +
        `; expected to be refused. Look at the MTU of ${
          kind === "oversize-intrawire" ? "mo-dir-hs" : "veth_fac0"
        } there`,
      same,
    );
  }
}

export function names(one: Case): void {
  for (const asker of one.hosts) {
    const name = asker.hostname;
    const all = asker.results.filter(({ kind }) => kind === "name");
    const own = (failure: Failure) => failure.asker === asker && failure.kind === "name";
    const silent = one.failures(own).filter(({ found }) => found === undefined);
    if (silent.length > 0 && silent.length === all.length) {
      one.blame(
        [name],
        `names at ${name}: its gateway answers no question: dnsmasq is down. See "systemctl status mobula-dnsmasq" there`,
        (failure) =>
          own(failure) || (failure.asker === asker && failure.kind === "world" && onlyNames(failure)),
      );
    }
    for (const { to, found, address } of one.failures(own)) {
      one.blame(
        [name],
        `names at ${name}: ${to} resolves to ${found ?? "nothing"}; expected ${address}`,
        (failure) => own(failure) && failure.to === to && failure.address === address,
      );
    }
  }
}

function onlyNames({ found = "" }: Failure): boolean {
  return !found.includes("gateway");
}

export function world(one: Case): void {
  for (const { asker, found } of one.failures(({ kind }) => kind === "world")) {
    const name = asker.hostname;
    const over = asker.evidence?.egress;
    const other = one.hosts.find(({ id }) => hostAddresses(id).gateway === over)?.hostname ?? over;
    one.blame(
      [name],
      over === undefined
        ? `${name} has no way to the world: ${found}`
        : `${name}: ${found}; default traffic leaves by ${other} meanwhile`,
      (failure) => failure.asker === asker && failure.kind === "world",
    );
  }
}

export function clocks(one: Case): void {
  const deployer = deployerClock(one.hosts);
  if (deployer) {
    one.blame([], `the clock of this machine is ${deployer} of what most hosts say`, () => false, {
      always: true,
    });
  }
  for (const { asker, found } of one.failures(({ kind }) => kind === "clock")) {
    one.blame(
      [asker.hostname],
      `the clock of ${asker.hostname} is ${found} of the others'. Let it be set by the network (NTP)`,
      (failure) => failure.asker === asker && failure.kind === "clock",
    );
  }
}

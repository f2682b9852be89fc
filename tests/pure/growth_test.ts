/**
 * How the plan of a fleet grows with its hosts: counted, never timed. An exponent of 1 is ten times as much for ten times the hosts.
 */
import { assert, assertEquals } from "@std/assert";
import { parseFleet } from "../../lib/config/parse_fleet.ts";
import type { Fleet } from "../../lib/fleet.ts";
import { planHost, type SeenHost } from "../../lib/host/plan.ts";
import { hostConfigFor } from "../../lib/host_config.ts";
import type { Seen } from "../../lib/net/seen.ts";
import { type HostInput, wantedNetwork } from "../../lib/net/wanted.ts";
import { renderHosts } from "../../lib/render/dnsmasq.ts";
import { renderFiles } from "../../lib/render/files.ts";
import { renderFlows } from "../../lib/render/flows.ts";
import { baselineOf, blankSeen, fleetOf, keyOf, type Mode, MODES, seenOf } from "../net/fixtures.ts";
import { countWork } from "./count_work.ts";

const SMALL = 100;
const LARGE = 1000;
/** The documented exponents (docs/figures.md): of one host's plan, and of the plans of all hosts. */
const ONE_HOST = 1.05;
const ALL_HOSTS = 2.05;
const EGRESS = { probes: ["192.0.2.1"] };

/** A fleet of so many hosts, each with a key, for which nothing has been computed yet. */
function freshFleet(
  count: number,
): { readonly fleet: Fleet; readonly inputOf: (id: number, mode: Mode) => HostInput } {
  const ids = Array.from({ length: count }, (_, index) => index + 1);
  const plain = fleetOf(ids);
  const fleet = { ...plain, hosts: plain.hosts.map((host) => ({ ...host, egress: EGRESS })) };
  const pubkeys = new Map(fleet.hosts.map(({ address, id }) => [address, { publicKey: keyOf(id) }]));
  const inputOf = (id: number, mode: Mode): HostInput => ({
    config: hostConfigFor(fleet, id, pubkeys, 1500),
    baseline: baselineOf(`192.0.${id >> 8}.${id & 255}`),
    capabilities: MODES[mode],
  });
  return { fleet, inputOf };
}

/** By how much `measure` of a fleet grows: the exponent of the number of hosts. */
function exponent(measure: (count: number) => number): number {
  return Math.log(measure(LARGE) / measure(SMALL)) / Math.log(LARGE / SMALL);
}

function assertGrows(what: string, most: number, measure: (count: number) => number): void {
  const found = exponent(measure);
  assert(found <= most, `${what} grows with exponent ${found.toFixed(3)}; expected at most ${most}`);
}

function seenHost(network: Seen, files: SeenHost["files"] = new Map()): SeenHost {
  return { network, files, modes: new Map(), pending: new Set(), enabled: false };
}

/** What may be there when a host is planned; of a fleet of `count` hosts. */
const SITUATIONS: Readonly<Record<string, (input: HostInput, count: number) => SeenHost>> = {
  "nothing": (input) => seenHost(blankSeen(input)),
  "all that is wanted": (input) =>
    seenHost(
      seenOf(wantedNetwork(input)),
      new Map(renderFiles(input).map(({ path, content }) => [path, content])),
    ),
  "another fleet": (input, count) => {
    const hosts = input.config.hosts.map((host) =>
      host.id === input.config.self
        ? host
        : { ...host, id: host.id + count, publicKey: keyOf(host.id + count) }
    );
    return seenHost(seenOf(wantedNetwork({ ...input, config: { ...input.config, hosts } })));
  },
};

for (const mode of ["kernel", "userspace"] as const) {
  for (const [what, situation] of Object.entries(SITUATIONS)) {
    Deno.test(`the plan of one host, ${mode}, where ${what} is there: its work is in proportion to the hosts`, () => {
      assertGrows("the work", ONE_HOST, (count) => {
        const input = freshFleet(count).inputOf(count / 2, mode);
        const seen = situation(input, count);
        // Equal to `input`, but nothing of it has been computed yet.
        const fresh = freshFleet(count).inputOf(count / 2, mode);
        return countWork(() => planHost(fresh, seen));
      });
    });
  }
}

Deno.test("the plan of one host: each host of a large fleet is read as often as one of a small fleet", () => {
  const reads = (count: number) => {
    const { config, ...input } = freshFleet(count).inputOf(count / 2, "userspace");
    let total = 0;
    const hosts = new Proxy(config.hosts, {
      get(target, key, receiver) {
        if (typeof key === "string" && /^\d+$/.test(key)) total++;
        return Reflect.get(target, key, receiver);
      },
    });
    const seen = seenHost(blankSeen(input));
    planHost({ ...input, config: { ...config, hosts } }, seen);
    return total;
  };
  assertEquals(reads(LARGE) / LARGE, reads(SMALL) / SMALL);
});

Deno.test("the plan of one host: what it writes and runs is in proportion to the hosts", () => {
  const planOf = (count: number) => {
    const input = freshFleet(count).inputOf(count / 2, "userspace");
    return planHost(input, seenHost(blankSeen(input)));
  };
  const plans = new Map([SMALL, LARGE].map((count) => [count, planOf(count)]));
  const steps = (count: number) => plans.get(count)!.network;
  const sum = (numbers: readonly number[]) => numbers.reduce((total, number) => total + number, 0);
  assertEquals(steps(LARGE).length, steps(SMALL).length);
  assertGrows(
    "the files' bytes",
    ONE_HOST,
    (count) => sum(plans.get(count)!.files.map(({ content }) => content?.length ?? 0)),
  );
  assertGrows(
    "the steps' words",
    ONE_HOST,
    (count) => sum(steps(count).map(({ argv }) => argv.join(" ").length)),
  );
  assertGrows(
    "what the steps load",
    ONE_HOST,
    (count) => sum(steps(count).map(({ stdin }) => stdin?.length ?? 0)),
  );
});

Deno.test("the plans of all hosts: the work is in proportion to the pairs of hosts", () => {
  assertGrows("the work", ALL_HOSTS, (count) => {
    const { inputOf } = freshFleet(count);
    const work = (id: number) =>
      countWork(() => {
        const input = inputOf(id, "kernel");
        planHost(input, seenHost(blankSeen(input)));
      });
    const first = work(1);
    const sample = [2, count / 4, count / 2, count - 1, count].map(work);
    return first + (count - 1) * sample.reduce((sum, one) => sum + one, 0) / sample.length;
  });
});

Deno.test("what all hosts of a fleet have in common is computed once", () => {
  const shared: Readonly<Record<string, (input: HostInput) => unknown>> = {
    "the switch's flows": ({ config, capabilities }) => renderFlows(config, capabilities),
    "the names": ({ config }) => renderHosts(config),
  };
  for (const [what, compute] of Object.entries(shared)) {
    const { inputOf } = freshFleet(LARGE);
    const inputs = [1, LARGE / 2, LARGE].map((id) => inputOf(id, "kernel"));
    const [first = 0, ...others] = inputs.map((input) => countWork(() => compute(input)));
    for (const work of others) {
      assert(work < first / 10, `${what}: ${work} for a further host; expected a tenth of ${first}`);
    }
  }
});

Deno.test("the configuration: reading it is in proportion to the hosts", () => {
  assertGrows("the work", ONE_HOST, (count) => {
    const lines = freshFleet(count).fleet.hosts.map(({ address, id, hostname }) =>
      `    ${address}: { host_id: ${id}, hostname: ${hostname} }\n`
    );
    const text = `all:\n  hosts:\n${lines.join("")}`;
    return countWork(() => parseFleet({ hostsYml: { file: "hosts.yml", text } }));
  });
});

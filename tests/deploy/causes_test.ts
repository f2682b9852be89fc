import { assertEquals, assertMatch } from "@std/assert";
import { type Cause, findCauses } from "../../lib/deploy/causes.ts";
import type { CheckResult, Evidence, Kind } from "../../lib/deploy/checks.ts";
import { type Breakage, fleet, keyOf, moved, verification } from "./verification.ts";

type Answer = NonNullable<Breakage["answer"]>;

function isBetween(a: string, b: string, from: string, { to }: CheckResult): boolean {
  return (from === a && to === b) || (from === b && to === a);
}

const REACH = /^(access|gateway|intrawire|oversize-|tcp-)/;

/** Nothing passes between two hosts. */
function cut(a: string, b: string, kinds = REACH): Answer {
  return (from, result) =>
    isBetween(a, b, from, result) && kinds.test(result.kind)
      ? {
        ok: false,
        roundTrip: undefined,
        ...(/^tcp|^over/.test(result.kind) ? { found: "no connection within 3 s" } : { passes: 0 }),
      }
      : undefined;
}

function fails(matches: (from: string, result: CheckResult) => boolean, found?: string): Answer {
  return (from, result) =>
    matches(from, result) ? { ok: false, roundTrip: undefined, ...(found ? { found } : {}) } : undefined;
}

/** Both ends of a pair with their counters; by what each received and sent since the first question. */
function counters(ends: Readonly<Record<string, readonly [peer: string, received: number, sent: number]>>) {
  return (name: string, evidence: Evidence): Evidence => {
    const end = ends[name];
    return end ? moved(evidence, end[0], { received: end[1], sent: end[2] }) : evidence;
  };
}

interface Case extends Breakage {
  readonly what: string;
  /** One for each cause, in their order. */
  readonly causes: readonly RegExp[];
  readonly hosts?: Breakage["hosts"];
}

const CASES: readonly Case[] = [
  { what: "everything is well", causes: [] },
  {
    what: "the underlay of a pair is cut both ways",
    answer: cut("alpha", "beta"),
    evidence: counters({ alpha: ["beta", 0, 500], beta: ["alpha", 0, 500] }),
    causes: [/^the underlay between alpha and beta is broken both ways$/],
  },
  {
    what: "the underlay of a pair is cut one way",
    answer: cut("alpha", "beta"),
    evidence: counters({ alpha: ["beta", 300, 500], beta: ["alpha", 0, 500] }),
    causes: [
      /between alpha and beta is broken one way only: nothing that alpha sends arrives at beta, but alpha hears beta$/,
    ],
  },
  {
    what: "the same the other way round",
    answer: cut("alpha", "beta"),
    evidence: counters({ alpha: ["beta", 0, 500], beta: ["alpha", 300, 500] }),
    causes: [/one way only: nothing that beta sends arrives at alpha, but beta hears alpha$/],
  },
  {
    what: "the underlay is cut, and a watched path makes way for a detour with smaller packets",
    answer: (from, result) =>
      isBetween("alpha", "beta", from, result) && result.kind === "intrawire"
        ? { ok: false, roundTrip: undefined, passes: 1386 }
        : undefined,
    evidence: (name, evidence) => {
      const peer = name === "alpha" ? 2 : 1;
      if (name === "gamma") return evidence;
      return {
        ...counters({ alpha: ["beta", 0, 500], beta: ["alpha", 0, 500] })(name, evidence),
        paths: [{ name: `mo-path-${peer}`, up: false }],
      };
    },
    causes: [
      /^the underlay between alpha and beta is broken both ways; they reach each other over other hosts meanwhile$/,
    ],
  },
  {
    what: "nothing moved, so the direction is not told",
    answer: cut("alpha", "beta"),
    causes: [/^the underlay between alpha and beta is broken$/],
  },
  {
    what: "there never was a handshake",
    answer: cut("beta", "gamma"),
    evidence: (name, evidence) =>
      moved(evidence, name === "beta" ? "gamma" : "beta", { handshake: name === "alpha" ? undefined : 0 }),
    causes: [
      /^the underlay between beta and gamma is broken; there never was a WireGuard handshake between them$/,
    ],
  },
  {
    what: "the last handshake is old",
    answer: cut("beta", "gamma"),
    evidence: (name, evidence) =>
      name === "alpha" ? evidence : moved(evidence, name === "beta" ? "gamma" : "beta", {
        handshake: Math.floor(Date.now() / 1000) - 720,
      }),
    causes: [/broken; their last WireGuard handshake was 12 min ago$/],
  },
  {
    what: "the tree leads over the broken link: one cause for what crosses it",
    hosts: fleet(4),
    answer: (from, result) =>
      cut("alpha", "beta")(from, result) ?? cut("beta", "gamma", /access|gateway/)(from, result),
    causes: [/^the underlay between alpha and beta is broken$/],
  },
  {
    what: "a host answers nobody",
    answer: (from, result) => cut("alpha", "gamma")(from, result) ?? cut("beta", "gamma")(from, result),
    causes: [
      /^gamma answers nobody and hears nobody, while the others hear each other: the host's own WireGuard/,
    ],
  },
  {
    what: "a host cannot be asked, and nobody reaches it",
    errors: { gamma: "gamma: Cannot connect to 198.51.100.3: no answer in time" },
    answer: fails((_, { to, kind }) => to === "gamma" && REACH.test(kind)),
    causes: [
      /^gamma: Cannot connect .*: no answer in time; no other host reaches it either: it is down, or cut off$/,
    ],
  },
  {
    what: "a host cannot be asked, but is reached inside",
    errors: { gamma: "Cannot connect to 198.51.100.3: connection refused" },
    causes: [
      /^gamma: Cannot connect .*; other hosts reach it inside, so the way to its SSH server is broken/,
    ],
  },
  {
    what: "only small packets pass on the underlay of a pair",
    answer: (from, result) =>
      isBetween("alpha", "beta", from, result) && REACH.test(result.kind) &&
        !result.kind.startsWith("oversize")
        ? { ok: false, roundTrip: undefined, passes: result.kind === "intrawire" ? 928 : 874 }
        : undefined,
    causes: [
      /^only packets of up to 928 bytes pass between alpha and beta on the intrawire; expected 1440\. MTU .* more than about 988 bytes$/,
    ],
  },
  {
    what: "a host uses another key than everybody knows, so that it is not in the tree either",
    answer: (from, result) => cut("alpha", "beta")(from, result) ?? cut("beta", "gamma")(from, result),
    evidence: (name, evidence) =>
      name === "beta"
        ? {
          ...evidence,
          wireguard: { ...evidence.wireguard!, publicKey: keyOf("other") },
          tree: { ...evidence.tree!, root: evidence.tree!.bridge },
        }
        : evidence,
    causes: [
      /^beta uses the key other000…, but alpha, gamma have beta0000… for it, and wireguard_pubkeys\.yml has beta0000…\. Push again/,
    ],
  },
  {
    what: "one host has another key for a peer",
    answer: cut("alpha", "beta"),
    evidence: (name, evidence) =>
      name !== "alpha" ? evidence : {
        ...evidence,
        wireguard: {
          ...evidence.wireguard!,
          peers: evidence.wireguard!.peers.map((peer) =>
            peer.publicKey === keyOf("beta") ? { ...peer, publicKey: keyOf("old") } : peer
          ),
        },
      },
    causes: [/^alpha has the key old00000… for beta, which uses beta0000…/],
  },
  {
    what: "a host does not reach its own gateway",
    answer: fails((from, { to, kind }) =>
      (from === "beta" || to === "beta") && /^(access|gateway|tcp-access|name)$/.test(kind)
    ),
    causes: [
      /^beta does not reach its own gateway: its switch or veth_fac0/,
      /names at alpha: beta/,
      /names at gamma: beta/,
    ],
  },
  {
    what: "the access network loses one host, WireGuard does not",
    answer: (from, result) =>
      cut("alpha", "beta", /access|gateway/)(from, result) ??
        cut("beta", "gamma", /access|gateway/)(from, result),
    causes: [
      /^beta is cut off from the access network, though WireGuard reaches it: its switch, or its tunnels/,
    ],
  },
  {
    what: "one single question has no answer",
    answer: fails((from, { to, kind }) => from === "alpha" && to === "gamma" && kind === "access"),
    causes: [/^alpha gets no answer from gamma \(access 10\.31\.128\.3\), asked from the host$/],
  },
  {
    what: "a packet that is too large passes",
    answer: fails((from, { kind }) => from === "gamma" && kind === "oversize-access", "answered"),
    causes: [
      /^a packet of 1387 bytes from gamma to alpha, beta on the access network passes; expected to be refused\. .*veth_fac0/,
    ],
  },
  {
    what: "a firewall on a host drops TCP",
    answer: fails((_, { to, kind }) => to === "beta" && kind === "tcp-intrawire", "no connection within 3 s"),
    causes: [
      /^nobody gets a TCP connection to beta on the intrawire \(no connection within 3 s\), though pings of full size pass/,
    ],
  },
  {
    what: "one connection stalls",
    answer: fails(
      (from, { to, kind }) => from === "alpha" && to === "beta" && kind === "tcp-access",
      "stalled: 0 of 65536",
    ),
    causes: [
      /^TCP from alpha to beta on the access network: stalled: 0 of 65536, though pings of full size pass$/,
    ],
  },
  {
    what: "a host has an older version",
    answer: fails((_, { to, kind }) => to === "beta" && kind.startsWith("tcp-"), "connection refused"),
    evidence: (name, evidence) => name === "beta" ? { ...evidence, deaf: "no such verb" } : evidence,
    causes: [/^TCP to beta was not tried: no such verb\. Push/],
  },
  {
    what: "dnsmasq is down",
    answer: (from, result) =>
      from === "gamma" && result.kind === "name"
        ? { ok: false, roundTrip: undefined }
        : from === "gamma" && result.kind === "world"
        ? { ok: false, found: "the world's name servers give no answer" }
        : undefined,
    causes: [/^names at gamma: its gateway answers no question: dnsmasq is down/],
  },
  {
    what: "a name leads elsewhere",
    answer: fails(
      (from, { to, kind }) => from === "gamma" && kind === "name" && to === "beta",
      "10.31.128.9",
    ),
    causes: [/^names at gamma: beta resolves to 10\.31\.128\.9; expected 10\.31\.128\.2$/],
  },
  {
    what: "no way to the world",
    answer: fails(
      (from, { kind }) => from === "alpha" && kind === "world",
      "the gateway has no default route",
    ),
    causes: [/^alpha has no way to the world: the gateway has no default route$/],
  },
  {
    what: "no way to the world but another host's",
    answer: fails((from, { kind }) => from === "alpha" && kind === "world", "its own way out is lost"),
    evidence: (name, evidence) => name === "alpha" ? { ...evidence, egress: "10.31.0.3" } : evidence,
    causes: [
      /^alpha: its own way out is lost; default traffic leaves by gamma meanwhile$/,
    ],
  },
  {
    what: "a clock is wrong",
    evidence: (name, evidence) =>
      name === "beta" ? { ...evidence, clock: { low: 89_900, high: 90_100 } } : evidence,
    causes: [/^the clock of beta is 89\.8 s ahead of the others'/],
  },
  {
    what: "the deployer's clock is wrong",
    evidence: (_, evidence) => ({ ...evidence, clock: { low: 89_900, high: 90_100 } }),
    causes: [/^the clock of this machine is 89\.9 s behind of what most hosts say$/],
  },
  {
    what: "a host has another root",
    evidence: (name, evidence) =>
      name === "gamma"
        ? { ...evidence, tree: { ...evidence.tree!, root: "32768.02:6d:6f:00:02:0c" } }
        : evidence,
    causes: [/^the tree \(RSTP\) at gamma: its root is beta; expected alpha$/],
  },
  {
    what: "a port is stuck in learning",
    evidence: (name, evidence) => withPort(evidence, name === "alpha" ? 2 : 0, { state: "Learning" }),
    causes: [
      /^the tree \(RSTP\) at alpha, towards beta: its port there is Designated and Learning; expected Forwarding$/,
    ],
  },
  {
    what: "a port is disabled",
    evidence: (name, evidence) => withPort(evidence, name === "gamma" ? 2 : 0, { role: "Disabled" }),
    causes: [/^the tree \(RSTP\) at gamma, towards beta: its port there is disabled$/],
  },
  {
    what: "a port has gone",
    evidence: (name, evidence) =>
      name !== "beta" ? evidence : {
        ...evidence,
        tree: { ...evidence.tree!, ports: evidence.tree!.ports.filter(({ name }) => name !== "mo-t-3") },
      },
    causes: [
      /^the tree \(RSTP\) at beta, towards gamma: it has no port there that takes part in the tree, but the other end has one$/,
    ],
  },
  {
    what: "neither end hears the other: told once",
    evidence: (name, evidence) =>
      withPort(evidence, name === "gamma" ? 2 : 0, { role: "Designated", state: "Forwarding" }),
    causes: [/^the tree \(RSTP\) at beta, towards gamma: both ends are Designated: neither hears the other$/],
  },
  {
    what: "a watched path is down",
    evidence: (name, evidence) =>
      name === "alpha" ? { ...evidence, paths: [{ name: "mo-path-2", up: false }] } : evidence,
    causes: [/^the path \(BFD\) at alpha, towards beta: mo-path-2 is down$/],
  },
  {
    what: "a third host carries a pair whose path is held back",
    evidence: (name, evidence) =>
      name === "alpha"
        ? { ...evidence, paths: [{ name: "mo-path-2", up: true, held: true, over: 3 }] }
        : evidence,
    causes: [
      /^the path \(BFD\) at alpha, towards beta: mo-path-2 is held back for a while, because it has just died; gamma carries its traffic$/,
    ],
  },
  {
    what: "the underlay is cut, and a third host carries the pair",
    evidence: (name, evidence) => {
      if (name === "gamma") return evidence;
      return {
        ...counters({ alpha: ["beta", 0, 500], beta: ["alpha", 0, 500] })(name, evidence),
        paths: [{ name: `mo-path-${name === "alpha" ? 2 : 1}`, up: false, over: 3 }],
      };
    },
    causes: [
      /^the underlay between alpha and beta is broken both ways; they reach each other over gamma meanwhile$/,
    ],
  },
];

function withPort(evidence: Evidence, peer: number, change: { role?: string; state?: string }): Evidence {
  const ports = evidence.tree!.ports.map((port) =>
    port.name === `mo-t-${peer}` ? { ...port, ...change } : port
  );
  return { ...evidence, tree: { ...evidence.tree!, ports } };
}

for (const { what, causes, ...breakage } of CASES) {
  Deno.test(`findCauses: ${what}`, () => {
    const broken = verification(breakage);
    const found = findCauses(broken);
    const said = found.map(({ message }: Cause) => message).join("\n");
    assertEquals(found.length, causes.length, said);
    causes.forEach((wanted, index) => assertMatch(found[index]!.message, wanted));
    const failures = broken.hosts.flatMap(({ results }) => results).filter(({ ok }) => !ok).length;
    assertEquals(
      found.reduce((sum, cause) => sum + cause.failures, 0),
      failures,
      "every failure is explained once",
    );
  });
}

Deno.test("findCauses: whatever fails alone has a cause", () => {
  const kinds = new Set(verification().hosts.flatMap(({ results }) => results.map(({ kind }) => kind)));
  for (const kind of kinds) {
    const broken = verification({
      answer: (from, result) => from === "beta" && result.kind === kind ? { ok: false } : undefined,
    });
    const failed = broken.hosts.flatMap(({ results }) => results).filter(({ ok }) => !ok).length;
    const explained = findCauses(broken).reduce((sum, { failures }) => sum + failures, 0);
    assertEquals([kind, explained], [kind as Kind, failed]);
  }
});

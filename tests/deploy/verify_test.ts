import { assert, assertEquals, assertMatch } from "@std/assert";
import { stripAnsiCode } from "@std/fmt/colors";
import type { Depth } from "../../lib/deploy/checks.ts";
import { callHost, type Executor } from "../../lib/deploy/host_call.ts";
import {
  checksFor,
  judge,
  type Prober,
  probeRequest,
  type Verification,
  verify,
} from "../../lib/deploy/verify.ts";
import { LISTENING, type ProbeRequest } from "../../lib/host/protocol.ts";
import type { PathState } from "../../lib/net/live_state.ts";
import { renderVerification } from "../../lib/ui/matrix.ts";
import { verificationJson } from "../../lib/ui/report.ts";
import { hostOf } from "./fleet.ts";

const EXTRA = [{ address: "10.31.200.1", hostname: "db.example" }];
function plain(verification: Verification): string {
  return stripAnsiCode(renderVerification(verification));
}

const CAPABILITIES = { wireguard: "kernel", datapath: "system" } as const;

Deno.test("checksFor: a host asks for access, gateway and intrawire of the others, its own gateway, and all names", () => {
  const checks = checksFor(hostOf(2), [hostOf(2), hostOf(256)], EXTRA);
  assertEquals(checks.map(({ kind, to, address, from }) => `${kind} ${to} ${address} ${from}`), [
    "gateway web2 10.31.0.2 host",
    "access web256 10.31.129.0 host",
    "gateway web256 10.31.1.0 host",
    "intrawire web256 10.30.1.0 host",
    "name web2 10.31.128.2 gateway",
    "name web256 10.31.129.0 gateway",
    "name db.example 10.31.200.1 gateway",
  ]);
});

Deno.test("checksFor: a blank host is asked for no access address and lets its gateway ask", () => {
  const blank = hostOf(3, { access: "none" });
  const asking = checksFor(blank, [hostOf(2), blank], []).filter(({ kind }) => kind !== "name");
  assertEquals(asking.map(({ kind, from }) => `${kind} ${from}`), [
    "access gateway",
    "gateway gateway",
    "intrawire host",
    "gateway gateway",
  ]);
  const asked = checksFor(hostOf(2), [hostOf(2), blank], []).filter(({ to, kind }) =>
    to === "web3" && kind !== "name"
  );
  assertEquals(asked.map(({ kind }) => kind), ["gateway", "intrawire"]);
});

Deno.test("judge: answers are put beside their questions", () => {
  const checks = checksFor(hostOf(2), [hostOf(3)], []);
  assertEquals(probeRequest(checks), {
    pings: [
      { address: "10.31.128.3", from: "host" },
      { address: "10.31.0.3", from: "host" },
      { address: "10.30.0.3", from: "host" },
    ],
    names: [{ name: "web3", address: "10.31.128.3" }],
  });
  const judged = judge(checks, {
    pings: [0, null, 2.5],
    names: ["10.31.128.4"],
    capabilities: CAPABILITIES,
    clock: 1,
  });
  assertEquals(judged.map(({ ok, roundTrip, found }) => [ok, roundTrip, found]), [
    [true, 0, undefined],
    [false, undefined, undefined],
    [true, 2.5, undefined],
    [false, undefined, "10.31.128.4"],
  ]);
});

/** Answers everything but the addresses in `dead`, from the second round on those too unless `forever`. */
function host(dead: readonly string[], { forever = false } = {}): Executor & { requests: ProbeRequest[] } {
  const requests: ProbeRequest[] = [];
  return {
    requests,
    exec(_argv, options) {
      const request: ProbeRequest = JSON.parse(String(options?.stdin));
      requests.push(request);
      const silent = (address?: string) => dead.includes(address ?? "") && (forever || requests.length === 1);
      const result = {
        pings: request.pings.map(({ address }) => silent(address) ? null : 1),
        names: request.names.map(({ address }) => silent(address) ? null : address),
        capabilities: CAPABILITIES,
        clock: 1,
      };
      options?.onLine?.(JSON.stringify({ event: "result", result }));
      return Promise.resolve({ code: 0, stdout: "", stderr: "" });
    },
  };
}

function verifyFleet(
  answering: readonly Executor[],
  deadline = Date.now() + 5000,
  depth: Depth = "quick",
): Promise<Verification> {
  const hosts = answering.map((_, index) => hostOf(index + 2));
  const probers = answering.map((ssh, index): Prober => ({
    host: hosts[index]!,
    calls: { call: (verb, request, options) => callHost(ssh, verb, request, options) },
  }));
  return verify(probers, { targets: hosts, extraHosts: EXTRA, parallel: 5, deadline, rest: 1, depth });
}

Deno.test("verify: asks again only for what did not answer", async () => {
  const late = host(["10.31.0.3", "10.31.200.1"]);
  const verification = await verifyFleet([late, host([])]);
  assertEquals(verification.ok, true);
  assertEquals(late.requests.map(({ pings, names }) => [pings.length, names.length]), [[4, 3], [1, 1]]);
});

Deno.test("verify: what never answers is told from whom to whom, in text and in JSON", async () => {
  const verification = await verifyFleet([host(["10.31.0.3"], { forever: true }), host([])], Date.now() + 20);
  assertEquals(verification.ok, false);
  assertEquals(plain(verification).split("\n").map((line) => line.trimEnd()), [
    "         1   2",
    "  1 web2  g  a-i",
    "  2 web3 agi  g",
    "a access, g gateway, i intrawire: as it should be; -: not; <: smaller packets only; blank: not asked; " +
    "?: the host could not be asked",
    "",
    "names: 6 of 6 resolved as expected",
    "mode: WireGuard in the kernel, Open vSwitch in the kernel on all hosts",
    "",
    "What is broken:",
    "  web2 gets no answer from web3 (gateway 10.31.0.3), asked from the host",
  ]);
  const json = JSON.stringify(verificationJson(verification));
  assertMatch(
    json,
    /"ok":false,"causes":\[\{"hosts":\["web2"\].*"hosts":\[\{"hostname":"web2","id":2,"ok":false.*"kind":"gateway","to":"web3"/,
  );
});

Deno.test("verify: a host that cannot be asked is an error of its own", async () => {
  const broken: Executor = { exec: () => Promise.resolve({ code: 127, stdout: "", stderr: "not found" }) };
  const verification = await verifyFleet([host([]), broken]);
  assertEquals(verification.hosts.map(({ error }) => error !== undefined), [false, true]);
  assertMatch(
    plain(verification),
    /2 web3 \? {3}\?[\s\S]*web3: Cannot probe host: no answer, exit code 127/,
  );
});

/** Answers everything, and tells of its paths what is next each time it is asked, at last always the same. */
function hostOnPaths(states: readonly PathState[]): Executor & { asked: number } {
  return {
    asked: 0,
    async exec([, , verb], options) {
      const say = (event: unknown) => options?.onLine?.(JSON.stringify(event));
      if (verb === "listen") {
        say({ event: "step", title: LISTENING });
        for await (const _ of options?.stdin as ReadableStream);
        say({ event: "result", result: { served: 0 } });
      } else {
        const request: ProbeRequest = JSON.parse(String(options?.stdin));
        const path = states[Math.min(this.asked++, states.length - 1)]!;
        const result = {
          pings: request.pings.map(() => 1),
          oversize: request.oversize?.map(() => "refused"),
          dials: request.dials?.map(() => ({ milliseconds: 1 })),
          world: [],
          names: request.names.map(({ address }) => address),
          paths: [path],
          capabilities: CAPABILITIES,
          clock: 1,
        };
        say({ event: "result", result });
      }
      return { code: 0, stdout: "", stderr: "" };
    },
  };
}

/** The problem of the first host's path. */
async function pathFound(states: readonly PathState[], wait: number): Promise<[string | undefined, number]> {
  const [first, second] = [hostOnPaths(states), hostOnPaths([WELL])];
  const verification = await verifyFleet([first, second], Date.now() + wait, "full");
  const { results, error } = verification.hosts[0]!;
  assertEquals(error, undefined);
  return [results.find(({ kind, ok }) => kind === "path" && !ok)?.found, first.asked];
}

const WELL: PathState = { name: "mo-path-3", up: true };
const HELD: PathState = { ...WELL, held: true };
const DOWN: PathState = { ...WELL, up: false };

Deno.test("verify: a path that died while all were asking is waited for, and so is one that is held back", async () => {
  assertEquals(await pathFound([DOWN, DOWN, HELD, HELD, WELL], 5000), [undefined, 5]);
  assertEquals(await pathFound([HELD, DOWN, HELD, WELL], 5000), [undefined, 4]);
  // However long the answers took.
  assertEquals(await pathFound([DOWN, DOWN, WELL], 0), [undefined, 3]);
});

Deno.test("verify: a path that stays down is told when the time is over", async () => {
  const began = Date.now();
  const [found, asked] = await pathFound([DOWN], 0);
  assertEquals(found, "mo-path-3 is down");
  assert(asked > 2 && Date.now() - began >= 4900, `asked ${asked} times in ${Date.now() - began} ms`);
});

Deno.test("renderVerification: fifty hosts fit eighty columns", async () => {
  const verification = await verifyFleet(Array.from({ length: 50 }, () => host([])));
  const lines = plain(verification).split("\n");
  assertEquals(lines.filter((line) => line.length > 80).length, 0);
  assertEquals(lines.filter((line) => /\.{50}$/.test(line)).length, 50);
});

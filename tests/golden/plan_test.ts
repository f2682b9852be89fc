/** What `mobula plan` shows of a fleet in which each host differs in another way, as text and for programs. */
import { assertEquals } from "@std/assert";
import { stripAnsiCode } from "@std/fmt/colors";
import type { PushResult } from "../../lib/deploy/push.ts";
import type { HostRun } from "../../lib/deploy/run.ts";
import { ALL_RELOADS, planHost, type SeenHost } from "../../lib/host/plan.ts";
import type { HostPreview } from "../../lib/host/preview.ts";
import { wantedNetwork } from "../../lib/net/wanted.ts";
import { modesOf } from "../../lib/host/plan.ts";
import { renderFiles } from "../../lib/render/files.ts";
import { isEmpty, planJson, renderPlan } from "../../lib/ui/plan.ts";
import { fleetOf, inputFor, MODES, seenOf } from "../net/fixtures.ts";
import { assertGolden } from "./golden.ts";

const fleet = fleetOf([2, 3, 4, 5, 6]);
const NOTHING: HostPreview = {
  capabilities: MODES.userspace,
  packages: [],
  newGeneration: false,
  files: [],
  steps: [],
  closed: [],
  sendsExecutable: false,
  reboots: false,
};

/** A host on which everything is as wanted, but for a file, a mode and the card's MTU; and every daemon has still to be told. */
function drifted(): HostPreview {
  const input = inputFor(fleet, 2, "userspace", { managers: ["networkd", "NetworkManager"] });
  const wanted = wantedNetwork(input);
  const network = seenOf(wanted);
  const files = new Map(renderFiles(input).map(({ path, content }) => [path, content]));
  const hosts = "/opt/mobula/etc/hosts";
  const edited = `${files.get(hosts)}10.31.200.9 by-hand\n`;
  const modes = modesOf(input).map(({ path, mode }) =>
    [path, { mode: path.endsWith(".key") ? 0o644 : mode, owner: "0:0" }] as const
  );
  const seen: SeenHost = {
    network: {
      ...network,
      links: network.links.map((link) => link.name === "enp1s0" ? { ...link, mtu: 1400 } : link),
    },
    files: new Map([...files, [hosts, edited]]),
    modes: new Map(modes),
    pending: new Set(ALL_RELOADS),
    enabled: true,
  };
  const plan = planHost(input, seen);
  return {
    ...NOTHING,
    files: plan.files.map(({ path, content }) => ({ path, before: seen.files.get(path), after: content })),
    steps: [...plan.before, ...plan.network, ...plan.after],
  };
}

const RUNS: readonly Partial<HostRun>[] = [
  { preview: drifted() },
  { preview: NOTHING },
  { preview: { ...NOTHING, sendsExecutable: true } },
  {
    preview: {
      ...NOTHING,
      packages: ["openvswitch-switch"],
      files: [{ path: "/etc/new", before: undefined, after: "text\n" }, {
        path: "/etc/old",
        before: "text\n",
        after: undefined,
      }],
      sendsExecutable: true,
      newGeneration: true,
      reboots: true,
    },
    notes: ["a note"],
  },
  { failure: { phase: "connect", message: "host-6: no answer" } },
];

function resultOf(runs: readonly Partial<HostRun>[], keepKeys = true): PushResult {
  const hosts = runs.map((run, index) => ({ host: fleet.hosts[index], notes: [], ...run }));
  const push = { fleet: { ...fleet, keepKeys }, hosts } as unknown as PushResult["push"];
  return { push, seconds: new Map(), exitCode: 0 };
}

Deno.test("renderPlan: every kind of change with its effect, as in the golden file", () => {
  assertGolden("plan/text", `${stripAnsiCode(renderPlan(resultOf(RUNS)))}\n`);
});

Deno.test("planJson: the same for programs, as in the golden file", () => {
  assertGolden("plan/json", `${JSON.stringify(planJson(resultOf(RUNS), 4), null, 2)}\n`);
});

Deno.test("renderPlan: from source nobody knows the executable, and says so", () => {
  const result = resultOf([{ preview: { ...NOTHING, sendsExecutable: undefined } }], false);
  const text = stripAnsiCode(renderPlan(result)).split("\n").slice(-3);
  assertEquals(text, [
    "Started from source: a push makes the executable first, and sends it where it is another one.",
    "A push also makes new WireGuard keys, unless mobula_keys: keep or --keep-keys.",
    "Nothing to do: every host is as wanted.",
  ]);
});

Deno.test("isEmpty: an executable, a generation and a reboot are changes, what nobody knows is none", () => {
  const previews: Partial<HostPreview>[] = [
    {},
    { sendsExecutable: undefined },
    { sendsExecutable: true },
    { newGeneration: true },
    { reboots: true },
  ];
  assertEquals(previews.map((preview) => isEmpty({ ...NOTHING, ...preview })), [
    true,
    true,
    false,
    false,
    false,
  ]);
});

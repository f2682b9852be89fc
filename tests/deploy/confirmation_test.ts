/** Which hosts stay as they were just configured, whatever the others say. */
import { assertEquals } from "@std/assert";
import { type CheckResult, isPing } from "../../lib/deploy/checks.ts";
import { whyUnconfirmed } from "../../lib/deploy/confirmation.ts";
import { fleet, verification } from "./verification.ts";

const CUT_OFF = "it reaches none of the other hosts, which reach each other";

/** Pings that fail: from → to. */
type Silence = readonly (readonly [from: string, to: string])[];

function judged(count: number, silence: Silence, host = "alpha"): string | undefined {
  const answer = (from: string, result: CheckResult) =>
    isPing(result) && silence.some(([one, to]) => one === from && to === result.to)
      ? { ok: false }
      : undefined;
  const hosts = fleet(count);
  return whyUnconfirmed(hosts.find(({ hostname }) => hostname === host)!, verification({ hosts, answer }));
}

const CASES:
  readonly (readonly [what: string, count: number, silence: Silence, expected: string | undefined])[] = [
    ["all is well", 3, [], undefined],
    ["its gateway is silent", 3, [["alpha", "alpha"]], "its own gateway does not answer"],
    ["one of two others is silent", 3, [["alpha", "beta"]], undefined],
    [
      "both others are silent, and say that they reach each other",
      3,
      [["alpha", "beta"], ["alpha", "gamma"]],
      CUT_OFF,
    ],
    [
      "both others are silent, and one says that it reaches the other",
      3,
      [["alpha", "beta"], ["alpha", "gamma"], ["gamma", "beta"]],
      undefined,
    ],
    ["the only other one is silent, and says that it reaches this one", 2, [["alpha", "beta"]], undefined],
    ["nobody answers anybody", 2, [["alpha", "beta"], ["beta", "alpha"]], undefined],
    [
      "three are silent, of which one lies about the other two",
      4,
      [
        ...(["beta", "gamma", "delta"] as const).map((to) => ["alpha", to] as const),
        ...[["beta", "gamma"], ["gamma", "beta"], ["beta", "delta"], ["gamma", "delta"]] as const,
      ],
      undefined,
    ],
    ["there is no other one", 1, [], undefined],
  ];

for (const [what, count, silence, expected] of CASES) {
  Deno.test(`whyUnconfirmed: ${what}`, () => assertEquals(judged(count, silence), expected));
}

Deno.test("whyUnconfirmed: a host that could not be asked is told with its reason", () => {
  const hosts = fleet(2);
  const said = whyUnconfirmed(hosts[0]!, verification({ hosts, errors: { alpha: "it hangs" } }));
  assertEquals([said, whyUnconfirmed(hosts[0]!, undefined)], ["it hangs", undefined]);
});

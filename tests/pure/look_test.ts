/**
 * A look at a host whose own daemons change something at that moment. On a stand-in of a host.
 */
import { assert, assertEquals } from "@std/assert";
import { lookAtHost } from "../../lib/host/look.ts";
import { planHost, planTitles } from "../../lib/host/plan.ts";
import { bench } from "../fake/bench.ts";
import type { FakeHost } from "../fake_host.ts";

/** The next looks, so many, find what `run-paths` sets for some milliseconds: another BFD interval for sending. */
function changeInterval({ network }: FakeHost, looks: number): FakeHost["fate"] {
  const usual = network.switch!;
  const interfaces = usual.interfaces.map((row) =>
    "bfd:min_tx" in row.columns ? { ...row, columns: { ...row.columns, "bfd:min_tx": "997" } } : row
  );
  assert(interfaces.some((row, index) => row !== usual.interfaces[index]), "the stand-in has paths");
  let left = looks;
  return ({ what }) => {
    if (what === "sh -s") network.switch = left-- > 0 ? { ...usual, interfaces } : usual;
    return "done";
  };
}

for (
  const [title, looks, isEmpty] of [
    ["changes its interval for a moment: the plan is empty", 1, true],
    ["has another interval for long: the plan names it", Infinity, false],
  ] as const
) {
  Deno.test(`a path ${title}`, async () => {
    await bench({}, async ({ host }) => {
      host.fate = changeInterval(host, looks);
      const titles = await host.process("look", async ({ runner }) => {
        return planTitles(planHost(host.input(), await lookAtHost(runner, host.input())));
      });
      assertEquals(titles.length === 0, isEmpty, titles.join());
    });
  });
}

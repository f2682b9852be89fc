/** Proof about a direct path that loses packets: the hold-down, with the kernel's datapath. */
import { assert, assertEquals } from "@std/assert";
import { hostAddresses } from "../../lib/address.ts";
import type { Lab } from "../lab/lab.ts";
import {
  type Direction,
  during,
  mendPaths,
  type PathWatch,
  restsOf,
  startFlow,
  thinPaths,
  vsctl,
  waitForPaths,
  watchPath,
} from "../lab/switching.ts";
import { NAMES, NETWORK_DEADLINE_MS, type Proof } from "./stage.ts";

const PATH: Direction = ["alpha", "beta"];
const BACK: Direction = ["beta", "alpha"];
/** Packets that are lost, of a hundred. */
const LOST = 20;
/** Milliseconds; what hosts have unless told. Emulated machines are usually given more. */
const USUAL_INTERVAL = 100;
const STAGE_INTERVAL = 1000;
/** Milliseconds for which it is watched. */
const WATCHED = 60_000;
/** Seconds that a path which has died is left alone; a look takes some of them here. */
const HELD = 5;
const LOOK = 1;

export function declareThinPath(proof: Proof): void {
  proof("a path that loses a fifth of its packets: given up at most every five seconds", async (lab) => {
    await waitForPaths(lab, NAMES, NETWORK_DEADLINE_MS);
    await lookEvery(lab, USUAL_INTERVAL);
    const { gateway } = hostAddresses(lab.host(PATH[1]).id);
    const flow = await startFlow(lab, PATH.join("-"), lab.network(PATH[0], "mobula"), gateway);
    let watched: PathWatch = { givenUp: [], unused: 0 };
    try {
      const seen = await during([flow], async () => {
        await thinPaths(lab, LOST, PATH, BACK);
        watched = await watchPath(lab, PATH, WATCHED);
      });
      const rests = restsOf(watched);
      console.log(
        `  given up ${watched.givenUp.length} times, ${
          rests.map((rest) => rest.toFixed(1)).join(", ")
        } s apart, ` +
          `in use ${Math.round(100 - watched.unused * 100)} % of the time`,
      );
      assert(watched.givenUp.length > 0, "the loss is noticed");
      for (const rest of rests) assert(rest >= HELD - LOOK, `given up ${rest} s after the time before`);
      const { sent, lost, duplicates } = seen[flow.name]!;
      assertEquals(duplicates, 0);
      // A ping and its answer both have to come through: 36 of 100 are lost on the path alone.
      assert(lost < sent * 0.36, `${lost} of ${sent} lost; expected fewer than without a third host`);
    } finally {
      await mendPaths(lab);
      await lookEvery(lab, STAGE_INTERVAL);
    }
    await waitForPaths(lab, NAMES, NETWORK_DEADLINE_MS);
  });
}

/** Has both ends look at each other so often, on both ports of the pair. */
async function lookEvery(lab: Lab, milliseconds: number): Promise<void> {
  const columns = [`bfd:min_tx=${milliseconds}`, `bfd:min_rx=${milliseconds}`];
  await Promise.all([PATH, BACK].map(async ([from, to]) => {
    const { id } = lab.host(to);
    const set = (port: string) => ["set", "Interface", port, ...columns];
    await vsctl(lab, from, ...set(`mo-path-${id}`), "--", ...set(`mo-t-${id}`));
  }));
}

/**
 * Declares the fault injections of one lab, three of the six that each run makes: two labs share them. Reads the commit.
 */
import { assert, assertEquals } from "@std/assert";
import { setStage } from "../lab/proof.ts";
import { fromFileUrl } from "@std/path";
import { injectAll, renderSummary } from "./run.ts";
import { halfOf, RECORD_ANEW } from "./spread.ts";
import { CHAOS_HOSTS, type ChaosStage, prepareChaos } from "./stage.ts";

/** Injections of one lab. */
const COUNT = 3;

/** Declares the tests of the first or of the second lab. */
export function declareChaos(which: "first" | "second"): void {
  const { proof } = setStage<ChaosStage>({
    name: `chaos-${which}`,
    hosts: CHAOS_HOSTS,
    prepare: prepareChaos,
  });
  proof(
    `${which} lab: a host with a fault answers SSH again, and the next push repairs it`,
    async (_lab, stage) => {
      const half = halfOf(await parityOfCommit());
      const injections = which === "first" ? half.slice(0, COUNT) : half.slice(COUNT);
      const write = (line: string) => console.log(line);
      const outcomes = await injectAll(stage, injections, { write });
      write(renderSummary(outcomes));
      assertEquals(outcomes.flatMap(({ problems }) => problems), []);
      // A point may be passed by, where a retry was not needed for example; not most of them.
      const reached = outcomes.filter((outcome) => outcome.reached).length;
      assert(reached >= COUNT - 1, `only ${reached} of ${COUNT} points were reached; ${RECORD_ANEW}`);
    },
  );
}

/** Of the commit's hash; sources without a commit count as even. */
async function parityOfCommit(): Promise<0 | 1> {
  const cwd = fromFileUrl(new URL("../..", import.meta.url));
  const git = new Deno.Command("git", { args: ["rev-parse", "HEAD"], cwd, stderr: "null" });
  const said = await git.output().then(({ stdout }) => new TextDecoder().decode(stdout).trim(), () => "");
  return parseInt(said.at(-1) ?? "0", 16) % 2 === 1 ? 1 : 0;
}

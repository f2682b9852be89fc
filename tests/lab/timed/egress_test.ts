/**
 * The way out by another host's gateway: a host whose own one has lost the Internet, but not its peers, takes another's within 5 s, with
 * its names, and returns. Three hosts and a world; what is counted is asserted, times are printed. Needs root and the lab's packages.
 */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { executable } from "../executables.ts";
import { writeInventory } from "../inventory.ts";
import type { Lab } from "../lab.ts";
import { allInnerAddresses, seenAddress, unreached } from "../probes.ts";
import { must } from "../process.ts";
import { expectCode, mobula, setStage } from "../proof.ts";
import { ask } from "../snapshot.ts";
import { during, startFlow, waitForPaths } from "../switching.ts";
import { DEPLOYER, WEB_NAME, WEB_SERVER } from "../underlay.ts";
import { waitFor } from "../wait.ts";
import { TRIO } from "../trio.ts";

const NAMES = TRIO.map(({ name }) => name);
/** Milliseconds until the way out is another one. */
const LIMIT = 5000;

interface Pushed {
  readonly program: string;
}

const { proof } = setStage<Pushed>({ name: "egress", hosts: TRIO, prepare });

/** Declares a test that begins with everybody on his own way out. */
function egressProof(name: string, check: (lab: Lab, pushed: Pushed) => Promise<void>): void {
  proof(name, async (lab, pushed) => {
    await loseWorld(lab);
    await waitFor("everybody's own way out", async () => (await ways(lab)).every((way) => way === ""), {
      deadlineMs: 30_000,
    });
    await check(lab, pushed);
  });
}

async function prepare(lab: Lab): Promise<Pushed> {
  const program = await executable("compiled");
  await loseWorld(lab);
  await push(lab, program, "failover");
  return { program };
}

async function push(lab: Lab, program: string, egress: "own" | "failover"): Promise<void> {
  await writeInventory(lab, { vars: { mobula_egress: egress, mobula_egress_probes: [WEB_SERVER] } });
  expectCode(await mobula(lab, { executable: program }, "push", "--no-reboot"), 0, "the push");
  await waitForPaths(lab, NAMES);
}

const TABLE = "table inet lost";

/** These hosts, and no others, lose all of the world beyond the underlay, names included; their peers still hear them. */
async function loseWorld(lab: Lab, ...names: string[]): Promise<void> {
  const rules = names.map((name) => `ip saddr ${lab.host(name).address} ip daddr != ${DEPLOYER} drop`);
  const chain = `chain input { type filter hook input priority 0;\n${rules.join("\n")}\n}`;
  const stdin = `${TABLE}\ndelete ${TABLE}\n${TABLE} {\n${chain}\n}\n`;
  await must(lab.world.enter(["nft", "-f", "-"]), { stdin });
}

/** The gateway by which each host's default traffic leaves instead of its own; the empty text for its own. */
async function ways(lab: Lab): Promise<string[]> {
  return await Promise.all(NAMES.map(async (name) => {
    const { stdout } = await lab.exec(name, ["ip", "-4", "route", "show", "table", "109"], {
      namespace: "mobula",
    });
    return /^default via (\S+)/m.exec(stdout)?.[1] ?? "";
  }));
}

/** Under which address the web server sees a host; asked by name, so that names have to work, too. */
function seen(lab: Lab, name: string): Promise<string> {
  return seenAddress({ exec: (argv) => lab.exec(name, argv) }, WEB_NAME);
}

egressProof("plan: empty after the push; everybody leaves by his own gateway", async (lab, { program }) => {
  expectCode(await mobula(lab, { executable: program }, "plan"), 0, "the plan");
  for (const name of NAMES) assertEquals(await seen(lab, name), lab.host(name).address);
});

egressProof(
  "a gateway loses the Internet: the host's traffic and names leave by another's within 5 s, and return",
  async (lab, { program }) => {
    const flows = () =>
      Promise.all([
        startFlow(lab, "alpha to the world", lab.network("alpha"), WEB_SERVER),
        startFlow(lab, "beta to the world", lab.network("beta"), WEB_SERVER),
      ]);
    const lost = await during(await flows(), async () => {
      await loseWorld(lab, "alpha");
      const began = performance.now();
      await waitFor("another way out", async () => (await ways(lab))[0] === "10.31.0.3", {
        deadlineMs: 20_000,
      });
      await waitFor(
        "alpha to be seen as beta",
        async () => await seen(lab, "alpha") === lab.host("beta").address,
        {
          deadlineMs: 20_000,
        },
      );
      console.log(
        `  a name was resolved and its page read ${Math.round(performance.now() - began)} ms later`,
      );
    });
    const { gap, duplicates } = lost["alpha to the world"]!;
    assert(gap <= LIMIT, `${gap} ms; expected at most ${LIMIT}`);
    assertEquals(duplicates, 0);
    assertEquals(lost["beta to the world"]!.lost, 0);
    assertEquals(await unreached(lab.network("alpha"), allInnerAddresses(lab.state.hosts)), []);
    expectCode(await mobula(lab, { executable: program }, "plan"), 0, "the plan meanwhile");
    const verified = await mobula(lab, { executable: program }, "verify");
    assertMatch(verified.stdout, /alpha: its own way out is lost; default traffic leaves by beta meanwhile/);
    assert(verified.code !== 0, "a verification says that something is wrong");
    const back = await during(await flows(), async () => {
      await loseWorld(lab);
      await waitFor("the own way out", async () => (await ways(lab))[0] === "", { deadlineMs: 20_000 });
      await waitFor(
        "alpha to be seen as itself",
        async () => await seen(lab, "alpha") === lab.host("alpha").address,
      );
    });
    assert(back["alpha to the world"]!.gap <= 1000, "the return costs next to nothing");
    assertEquals(back["beta to the world"]!.lost, 0);
  },
);

egressProof("two lose it: both take the third, and nothing goes around in circles", async (lab) => {
  const flow = await startFlow(lab, "alpha to the world", lab.network("alpha"), WEB_SERVER);
  const cut = await during([flow], async () => {
    await loseWorld(lab, "alpha", "beta");
    await waitFor("the third", async () => (await ways(lab)).join() === "10.31.0.4,10.31.0.4,", {
      deadlineMs: 30_000,
    });
    await waitFor(
      "both to be seen as gamma",
      async () =>
        (await Promise.all([seen(lab, "alpha"), seen(lab, "beta")])).every((address) =>
          address === lab.host("gamma").address
        ),
      { deadlineMs: 20_000 },
    );
  });
  assertEquals(cut["alpha to the world"]!.duplicates, 0);
  await loseWorld(lab, ...NAMES);
  await waitFor("nobody to lead anybody", async () => (await ways(lab)).every((way) => way === ""), {
    deadlineMs: 30_000,
  });
});

egressProof("mobula_egress: own: the watch ends, and takes its rules with it", async (lab, { program }) => {
  await push(lab, program, "own");
  for (const name of NAMES) {
    await waitFor(`the end of the watch on ${name}`, async () => {
      const { stdout } = await lab.exec(name, ["systemctl", "is-active", "mobula-egress.service"]);
      return stdout.trim() === "inactive";
    });
    assert(!/109|110/.test(await ask(lab, name, ["ip", "rule", "show"], "mobula")));
    assertEquals(await seen(lab, name), lab.host(name).address);
  }
  expectCode(await mobula(lab, { executable: program }, "plan"), 0, "the plan");
  await push(lab, program, "failover");
});

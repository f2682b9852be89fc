/**
 * `deno task bench loss`: what updates lose, as a table and as JSON. Needs root; makes a lab and removes it. Figures only: nothing here
 * passes or fails.
 */
import { fromFileUrl } from "@std/path";
import { executable } from "../../tests/lab/executables.ts";
import { writeInventory } from "../../tests/lab/inventory.ts";
import { type Lab, withLab } from "../../tests/lab/lab.ts";
import { innerLosses, type Loss, lossDuring } from "../../tests/lab/loss.ts";
import { ensurePackages } from "../../tests/lab/packages.ts";
import { TRIO } from "../../tests/lab/trio.ts";
import { UPDATES, withClientKey } from "../../tests/lab/updates.ts";

const REPORT = fromFileUrl(new URL("../../dist/bench_loss.json", import.meta.url));

interface Row {
  readonly what: string;
  readonly losses: readonly Loss[];
}

/** Measures and prints; gives the exit code. */
export async function benchLoss(): Promise<number> {
  await ensurePackages();
  const program = await executable("compiled");
  const rows = await withLab(Deno.env.get("MOBULA_BENCH_LAB") ?? "bench-loss", TRIO, async (lab) => {
    await writeInventory(lab);
    await push(lab, program);
    const rows: Row[] = [];
    for (const { what, change, probed } of UPDATES) {
      if (change) await writeInventory(lab, await withClientKey(change, program));
      rows.push({ what, losses: await lossOf(lab, program, probed) });
    }
    await writeInventory(lab, { vars: { mobula_keys: "rotate" } });
    rows.push({ what: "new keys for all", losses: await lossOf(lab, program) });
    return rows;
  });
  console.log(renderTable(rows));
  await Deno.mkdir(REPORT.slice(0, REPORT.lastIndexOf("/")), { recursive: true });
  await Deno.writeTextFile(REPORT, `${JSON.stringify({ date: new Date().toISOString(), rows }, null, 2)}\n`);
  console.log(`\nas JSON: ${REPORT}`);
  return 0;
}

async function lossOf(lab: Lab, program: string, probed?: readonly string[]): Promise<readonly Loss[]> {
  const hosts = lab.state.hosts.filter(({ name }) => probed === undefined || probed.includes(name));
  return (await lossDuring(lab, hosts, () => push(lab, program))).losses;
}

async function push(lab: Lab, program: string): Promise<void> {
  const argv = [program, "push", `${lab.directory}/hosts.yml`, "--ssh-config", lab.sshConfig, "--no-reboot"];
  const { code, stdout, stderr } = await lab.deployer.exec(argv);
  if (code !== 0) {
    throw new Error(`Cannot measure loss: push ended with ${code}; expected 0\n${stdout}${stderr}`);
  }
}

/** One line for each update and way: all its pairs together, the longest run of any. */
function renderTable(rows: readonly Row[]): string {
  const lines = rows.flatMap(({ what, losses }) =>
    [...new Set(losses.map(({ way }) => way))].map((way) => {
      const own = losses.filter((loss) => loss.way === way);
      const sum = (key: "sent" | "lost") => own.reduce((total, loss) => total + loss[key], 0);
      const worst = own.toSorted((a, b) => b.longestRun - a.longestRun)[0]!;
      const cells = [what, way, own.length, sum("sent"), sum("lost"), worst.longestRun, worst.longestGap];
      return `| ${cells.join(" | ")} |`;
    })
  );
  const pairs = rows.flatMap(({ losses }) => innerLosses(losses)).filter(({ lost }) => lost > 0).length;
  return [
    "| update | way | pairs | probes | lost | most in a row | longest gap (ms) |",
    "| --- | --- | --: | --: | --: | --: | --: |",
    ...lines,
    `\n${pairs} measurements with a loss`,
  ].join("\n");
}

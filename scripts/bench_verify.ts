/**
 * `deno run -A scripts/bench_verify.ts [hosts] [lab]`: what `mobula verify` of so many hosts (20 unless told) costs on this machine.
 * Needs root; makes a lab of containers and removes it. Figures only: nothing here passes or fails.
 */
import { executable } from "../tests/lab/executables.ts";
import { writeInventory } from "../tests/lab/inventory.ts";
import { type Lab, withLab } from "../tests/lab/lab.ts";
import { ensurePackages } from "../tests/lab/packages.ts";

const REPEATS = 3;
/** So many switches, all in userspace and on one machine, cannot look at each path ten times a second, as hosts of their own would. */
const VARS = { mobula_bfd_interval: 5000 };

async function timed(what: string, lab: Lab, argv: readonly string[]): Promise<void> {
  const start = performance.now();
  const { code, stdout } = await lab.deployer.exec(argv);
  const seconds = ((performance.now() - start) / 1000).toFixed(1);
  const [load = "?"] = (await Deno.readTextFile("/proc/loadavg")).split(" ");
  console.log(`${what}: ${seconds} s, exit code ${code}, load ${load}`);
  if (code !== 0) console.log(stdout.split("\n").slice(-30).join("\n"));
}

const [count = "20", name = "bench-verify"] = Deno.args;
const hosts = Array.from({ length: Number(count) }, (_, index) => ({
  name: `h${index + 2}`,
  address: `198.51.100.${index + 2}`,
}));
await ensurePackages();
const program = await executable("compiled");
await withLab(name, hosts, async (lab) => {
  const inventory = await writeInventory(lab, { vars: VARS });
  const common = [inventory, "--ssh-config", lab.sshConfig];
  await timed(`push of ${count} hosts`, lab, [
    program,
    "push",
    "--no-reboot",
    "--confirm-timeout",
    "600",
    ...common,
  ]);
  for (let round = 0; round < REPEATS; round++) {
    await timed(`verify of ${count} hosts`, lab, [program, "verify", ...common]);
  }
  await timed(`verify --quick of ${count} hosts`, lab, [program, "verify", "--quick", ...common]);
});

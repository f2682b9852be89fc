/**
 * `deno task bench scale`: one push of many hosts with the default confirm timeout, then what `verify` of them costs. Needs root; makes a
 * lab of containers and removes it. Figures only: nothing here passes or fails.
 */
import { executable } from "../../tests/lab/executables.ts";
import { writeInventory } from "../../tests/lab/inventory.ts";
import { type Lab, withLab } from "../../tests/lab/lab.ts";
import { ensurePackages } from "../../tests/lab/packages.ts";

const REPEATS = 3;
/** So many switches on one machine, all in userspace, cannot look at each path ten times a second, as hosts of their own would. */
const VARS = { mobula_bfd_interval: 5000 };

/** What the command line asks for. */
export interface ScaleOptions {
  readonly hosts: number;
  /** Processes that only take processor time beside it. */
  readonly busy: number;
}

/** What `push --json` says of a host, as far as it is read here. */
interface HostReport {
  readonly ok: boolean;
}

/** Measures and prints. */
export async function benchScale({ hosts: count, busy }: ScaleOptions): Promise<void> {
  const hosts = Array.from({ length: count }, (_, index) => ({
    name: `h${index + 2}`,
    address: `198.51.100.${index + 2}`,
  }));
  await ensurePackages();
  const program = await executable("compiled");
  await withLab("bench-scale", hosts, async (lab) => {
    const inventory = await writeInventory(lab, { vars: VARS });
    const common = [inventory, "--ssh-config", lab.sshConfig];
    const loops = startLoops(busy);
    try {
      const said = await timed(`push of ${count} hosts, ${busy} busy loops beside`, lab, [
        ...[program, "push", "--no-reboot", "--json"],
        ...common,
      ]);
      console.log(`  ${confirmed(said)} of ${count} confirmed`);
    } finally {
      await stopLoops(loops);
    }
    for (let round = 0; round < REPEATS; round++) {
      await timed(`verify of ${count} hosts`, lab, [program, "verify", ...common]);
    }
    await timed(`verify --quick of ${count} hosts`, lab, [program, "verify", "--quick", ...common]);
  });
}

function confirmed(json: string): number {
  const { hosts }: { hosts: readonly HostReport[] } = JSON.parse(json);
  return hosts.filter(({ ok }) => ok).length;
}

/** They end with this process, however it ends. */
function startLoops(count: number): Deno.ChildProcess[] {
  const args = ["-c", 'while kill -0 "$1"; do :; done 2>/dev/null', "sh", String(Deno.pid)];
  return Array.from({ length: count }, () => new Deno.Command("sh", { args, stdin: "null" }).spawn());
}

async function stopLoops(loops: readonly Deno.ChildProcess[]): Promise<void> {
  for (const loop of loops) loop.kill("SIGKILL");
  await Promise.all(loops.map(({ status }) => status));
}

async function timed(what: string, lab: Lab, argv: readonly string[]): Promise<string> {
  const start = performance.now();
  const { code, stdout } = await lab.deployer.exec(argv, { timeoutMs: 1_200_000 });
  const seconds = ((performance.now() - start) / 1000).toFixed(1);
  const [load = "?"] = (await Deno.readTextFile("/proc/loadavg")).split(" ");
  console.log(`${what}: ${seconds} s, exit code ${code}, load ${load}`);
  if (code !== 0) console.log(stdout.split("\n").slice(-30).join("\n"));
  return stdout;
}

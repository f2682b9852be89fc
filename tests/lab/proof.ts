/**
 * One lab for all tests of a file: made by the first test that needs it, removed after the last one. Makes and removes labs.
 *
 * `MOBULA_LAB_KEEP=1` leaves the lab when the tests are over, and the next run goes on with it: for those who write such tests.
 */
import {
  down,
  ensureImages,
  type HostKind,
  type HostOptions,
  type Lab,
  openLab,
  printConsoles,
  up,
} from "./lab.ts";
import { ensurePackages, MACHINE_PACKAGES } from "./packages.ts";
import { type CommandResult, isAlive } from "./process.ts";
import { loadState } from "./state.ts";
import { waitFor } from "./wait.ts";

const KEEP = Deno.env.get("MOBULA_LAB_KEEP") === "1";

/** A lab and what a file's tests prepared in it. */
export interface Stage<T> {
  readonly lab: Lab;
  readonly value: T;
}

/** Declares the tests of one file about one lab. */
export interface Proofs<T> {
  /** The lab, made and prepared when first asked for. */
  readonly stage: () => Promise<Stage<T>>;
  /** Declares a test that uses the lab. */
  readonly proof: (name: string, check: (lab: Lab, value: T) => Promise<void>) => void;
}

/** How the lab is made. */
export interface StageOptions<T> {
  readonly name: string;
  readonly hosts: readonly HostOptions[];
  /** Of hosts that do not say; default: container. */
  readonly kind?: HostKind;
  /** Packages that this machine needs beside those of every lab. */
  readonly packages?: readonly string[];
  /** Runs once, before the first test. */
  readonly prepare: (lab: Lab) => Promise<T>;
}

/** Sets the stage for the tests of a file; whatever happens to them, the lab is removed after the last one. */
export function setStage<T>(options: StageOptions<T>): Proofs<T> {
  let made: Promise<Stage<T>> | undefined;
  let guard: Guard | undefined;
  const stage = () => {
    if (!KEEP) guard ??= startGuard(options.name);
    return made ??= make(options);
  };
  Deno.test.afterAll(async () => {
    await made?.catch(() => {});
    if (made !== undefined && !KEEP) await down(options.name);
    await guard?.dismiss();
  });
  const proof: Proofs<T>["proof"] = (name, check) => {
    // The lab's processes, and what a test has going on beside the others, outlive a single test.
    Deno.test({
      name,
      sanitizeOps: false,
      sanitizeResources: false,
      fn: async () => {
        const { lab, value } = await stage();
        try {
          await check(lab, value);
        } catch (error) {
          // Told at once: the runner tells it when all tests of the file are over.
          console.error(error);
          await printUnits(lab);
          throw error;
        }
      },
    });
  };
  return { stage, proof };
}

/** A process that removes the lab when this one ends without having done so. */
interface Guard {
  readonly dismiss: () => Promise<void>;
}

/** Its standard input ends with us, however we end: Ctrl-C ends a test run before anything in it could clean up. */
const GUARD = 'read -r word; [ "$word" = dismissed ] || exec "$@"';

function startGuard(name: string): Guard {
  const script = new URL("../../scripts/lab.ts", import.meta.url).pathname;
  const remove = [Deno.execPath(), "run", "-A", script, "down", name];
  const child = new Deno.Command("setsid", {
    args: ["sh", "-c", GUARD, "sh", ...remove],
    stdin: "piped",
    stdout: "null",
    stderr: "null",
  }).spawn();
  const dismiss = async () => {
    const writer = child.stdin.getWriter();
    await writer.write(new TextEncoder().encode("dismissed\n"));
    await writer.close();
    await child.status;
  };
  return { dismiss };
}

async function make<T>(
  { name, hosts, kind, packages = [], prepare }: StageOptions<T>,
): Promise<Stage<T>> {
  await ensurePackages([...MACHINE_PACKAGES, ...packages]);
  const lab = await makeLab(name, hosts, kind);
  try {
    return { lab, value: await prepare(lab) };
  } catch (error) {
    await printUnits(lab);
    throw error;
  }
}

async function makeLab(name: string, hosts: readonly HostOptions[], kind?: HostKind): Promise<Lab> {
  if (KEEP && loadState(name) !== undefined) return openLab(name);
  await down(name);
  await ensureImages(hosts, kind);
  const start = performance.now();
  const lab = await up(name, hosts, kind);
  const seconds = ((performance.now() - start) / 1000).toFixed(1);
  console.log(
    `${
      lab.state.hosts.map((host) => `${host.name} (${host.kind})`).join(", ")
    }: SSH greets after ${seconds} s`,
  );
  return lab;
}

/**
 * Prints what our units said lately on each running host, the end of each machine's console, and which of the lab's own servers are
 * gone, to standard error.
 */
async function printUnits(lab: Lab): Promise<void> {
  printConsoles(lab);
  const journal = ["journalctl", "--no-pager", "-q", "-n", "12", "-o", "short-precise", "-u", "mobula*"];
  for (const { name } of lab.state.hosts) {
    const said = await lab.exec(name, journal).catch((error) => ({ stdout: `${error}` }));
    console.error(`---- mobula's units on ${name}\n${said.stdout}`);
  }
  const gone = lab.state.processes.filter((process) => !isAlive(process)).map(({ pid }) => pid);
  const log = await Deno.readTextFile(`${lab.directory}/world.log`).catch((error) => `${error}`);
  console.error(
    `---- the world: ${lab.state.processes.length} processes, gone ${gone.join(", ") || "none"}\n` +
      log.split("\n").slice(-6).join("\n"),
  );
}

/** What a run of mobula is given besides its arguments. */
export interface MobulaOptions {
  /** The program on this machine. */
  readonly executable: string;
  readonly directory?: string;
  /** Default: 5 minutes. */
  readonly timeoutMs?: number;
}

/** Runs mobula on the deployer, where the lab's inventory lies; its outcome is returned whatever it is. */
export async function mobula(
  lab: Lab,
  { executable, directory = lab.directory, timeoutMs = 300_000 }: MobulaOptions,
  verb: "push" | "plan" | "verify" | "keys" | "rollback" | "uninstall",
  ...args: readonly string[]
): Promise<CommandResult> {
  const ssh = verb === "keys" ? [] : ["--ssh-config", lab.sshConfig];
  return await lab.deployer.exec([executable, verb, ...args, ...ssh], {
    cwd: directory,
    env: { PATH: Deno.env.get("PATH") ?? "", HOME: directory, NO_COLOR: "1" },
    timeoutMs,
  });
}

/** A push of which nothing is left from one moment to the next: killed when it has said so much. */
export async function killedPush(
  lab: Lab,
  program: string,
  last: readonly string[],
  args: readonly string[],
): Promise<void> {
  const log = `${lab.directory}/killed.log`;
  await Deno.writeTextFile(log, "");
  const argv = [program, "push", "--verbose", "--ssh-config", lab.sshConfig, ...args];
  const [command = "", ...words] = lab.deployer.enter(["sh", "-c", 'exec "$@" >"$0" 2>&1', log, ...argv]);
  const child = new Deno.Command(command, { args: words, cwd: lab.directory, stdin: "null" }).spawn();
  const said = (line: string) => Deno.readTextFileSync(log).includes(line);
  await waitFor(`${last}`, () => last.every(said), { intervalMs: 20, deadlineMs: 90_000 });
  child.kill("SIGKILL");
  await child.status;
}

/** Kills all processes of ours on a host, by their ids, and prints these. */
export const KILL_ALL = `for process in /proc/[0-9]*; do
  case "$(readlink "$process/exe")" in /opt/mobula/bin/mobula* | /root/mobula)
    kill -9 "\${process#/proc/}" && echo "\${process#/proc/}" ;;
  esac
done
exit 0`;

/** Fails with everything that was said unless the exit code is the expected one. */
export function expectCode(result: CommandResult, expected: number, what: string): void {
  if (result.code === expected) return;
  const said = `${result.stdout}\n${result.stderr}`.trimEnd().split("\n").slice(-60).join("\n  ");
  throw new Error(`${what} ended with ${result.code}; expected ${expected}\n  ${said}`);
}

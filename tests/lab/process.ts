/**
 * Commands and processes of the lab. Runs programs, reads `/proc`, moves processes into control groups.
 * A process that outlives its call is remembered by id and start time, so that a reused id is never ended.
 */
import { waitFor } from "./wait.ts";

/** What a command said and how it ended. */
export interface CommandResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Options of a command. */
export interface RunOptions {
  readonly stdin?: string | Uint8Array;
  /** Pass standard input, output and error through to the terminal; the result's texts are then empty. */
  readonly inherit?: boolean;
  /** Replaces the environment. */
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** End the command after so many milliseconds. */
  readonly timeoutMs?: number;
  /** Directory of the control group that the command joins. */
  readonly cgroup?: string;
}

/** A process that stays: the id alone would not tell it from a later one. */
export interface ProcessRecord {
  readonly pid: number;
  /** Clock ticks after the machine's start (field 22 of `/proc/<pid>/stat`). */
  readonly startTime: number;
}

/** A search path that holds the system's programs even where the caller's does not. */
export const SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

const JOIN_GROUP = 'echo 0 >"$1/cgroup.procs" || exit 125; shift; exec "$@"';

/** Runs a command and returns its outcome, whatever it is. */
export async function run(argv: readonly string[], options: RunOptions = {}): Promise<CommandResult> {
  const [program, ...args] = options.cgroup === undefined
    ? argv
    : ["sh", "-c", JOIN_GROUP, "sh", options.cgroup, ...argv];
  if (program === undefined) throw new Error("Cannot run a command: empty argument list; expected a program");
  const signal = options.timeoutMs === undefined ? undefined : AbortSignal.timeout(options.timeoutMs);
  const output = options.inherit ? "inherit" : "piped";
  const child = new Deno.Command(program, {
    args,
    stdin: options.stdin === undefined ? (options.inherit ? "inherit" : "null") : "piped",
    stdout: output,
    stderr: output,
    env: { PATH: `${Deno.env.get("PATH") ?? ""}:${SYSTEM_PATH}`, ...options.env },
    clearEnv: options.env !== undefined,
    cwd: options.cwd,
    signal,
  }).spawn();
  if (options.stdin !== undefined) await feed(child, options.stdin);
  if (options.inherit) return { code: (await child.status).code, stdout: "", stderr: "" };
  const { code, stdout, stderr } = await child.output();
  const text = new TextDecoder();
  return { code, stdout: text.decode(stdout), stderr: text.decode(stderr) };
}

async function feed(child: Deno.ChildProcess, input: string | Uint8Array): Promise<void> {
  const writer = child.stdin.getWriter();
  try {
    await writer.write(typeof input === "string" ? new TextEncoder().encode(input) : input);
    await writer.close();
  } catch (error) {
    // The command may end without reading all of its input.
    if (!(error instanceof Deno.errors.BrokenPipe)) throw error;
  }
}

/** Runs a command that must succeed and returns its standard output. */
export async function must(argv: readonly string[], options: RunOptions = {}): Promise<string> {
  const result = await run(argv, options);
  if (result.code !== 0) {
    const said = `${result.stdout}${result.stderr}`.trimEnd().split("\n").slice(-15).join("\n  ");
    throw new Error(`Cannot run "${argv.join(" ")}": it ended with ${result.code}; expected 0\n  ${said}`);
  }
  return result.stdout;
}

/** How a process that stays is started. */
export interface StartOptions {
  /** Directory of the control group that the process joins first. */
  readonly cgroup: string;
  /** Standard output and error are appended here. */
  readonly log: string;
  readonly env?: Readonly<Record<string, string>>;
}

const START = "log=$1; group=$2; shift 2\n" +
  '( echo 0 >"$group/cgroup.procs" || exit 125; exec setsid "$@" ) </dev/null >>"$log" 2>&1 &\necho $!';

/** Starts a process that outlives this one, in a session and control group of its own. */
export async function start(argv: readonly string[], options: StartOptions): Promise<ProcessRecord> {
  const pid = Number(
    await must(["sh", "-c", START, "sh", options.log, options.cgroup, ...argv], { env: options.env }),
  );
  return { pid, startTime: startTime(pid) ?? 0 };
}

/** Start time of a living process; `undefined` when there is none (a zombie counts as none). */
export function startTime(pid: number): number | undefined {
  const fields = statFields(pid);
  return fields === undefined || fields[0] === "Z" ? undefined : Number(fields[19]);
}

/** Fields of `/proc/<pid>/stat` from the third on; the second may hold spaces and brackets. */
function statFields(pid: number): string[] | undefined {
  try {
    const text = Deno.readTextFileSync(`/proc/${pid}/stat`);
    return text.slice(text.lastIndexOf(")") + 2).trimEnd().split(" ");
  } catch {
    return undefined;
  }
}

/** Whether the remembered process is still the one with this id. */
export function isAlive(process: ProcessRecord): boolean {
  return startTime(process.pid) === process.startTime;
}

/** Ends the remembered process at once, if it is still the same one. */
export function killProcess(process: ProcessRecord): void {
  if (!isAlive(process)) return;
  try {
    Deno.kill(process.pid, "SIGKILL");
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}

/** Ids of all living processes in a control group and the groups below it. */
export function groupMembers(cgroup: string): number[] {
  const own = readLines(`${cgroup}/cgroup.procs`).map(Number).filter((pid) => startTime(pid) !== undefined);
  return [...own, ...childGroups(cgroup).flatMap(groupMembers)];
}

function childGroups(cgroup: string): string[] {
  try {
    return [...Deno.readDirSync(cgroup)].filter((entry) => entry.isDirectory).map((entry) =>
      `${cgroup}/${entry.name}`
    );
  } catch {
    return [];
  }
}

function readLines(path: string): string[] {
  try {
    return Deno.readTextFileSync(path).split("\n").filter((line) => line !== "");
  } catch {
    return [];
  }
}

/** Removes a control group and the groups below it; false while one of them is still in use. */
function removeGroup(cgroup: string): boolean {
  for (const child of childGroups(cgroup)) removeGroup(child);
  try {
    Deno.removeSync(cgroup);
    return true;
  } catch (error) {
    return error instanceof Deno.errors.NotFound;
  }
}

/**
 * Ends every process of a control group and removes the group; done when there is none. Who joins from outside meanwhile ends as well:
 * what a killed maker had just begun goes on without it, and would come in after the first kill.
 */
export async function endGroup(cgroup: string, owner: string): Promise<void> {
  await waitFor(`the control group of ${owner} to be free`, () => {
    killGroup(cgroup);
    if (removeGroup(cgroup)) return true;
    throw new Error(`still there: ${groupMembers(cgroup).map(describeProcess).join(", ") || "groups alone"}`);
  }, { intervalMs: 20 });
}

function describeProcess(pid: number): string {
  const command = readLines(`/proc/${pid}/cmdline`).join(" ").replaceAll("\0", " ").trim();
  return `${pid} ${statFields(pid)?.[0] ?? "gone"} (${command.slice(0, 80)})`;
}

/** Ends every process of a control group at once, also those that fork meanwhile. */
function killGroup(cgroup: string): void {
  try {
    Deno.writeTextFileSync(`${cgroup}/cgroup.kill`, "1", { create: false });
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}

/** Where the machine's unified control groups are mounted (`/sys/fs/cgroup`, or below it on a hybrid machine). */
export function unifiedHierarchy(): string {
  const mount = readLines("/proc/self/mounts").map((line) => line.split(" ")).find((fields) =>
    fields[2] === "cgroup2"
  );
  if (mount?.[1] === undefined) {
    throw new Error(
      "Cannot make control groups for the lab: no cgroup2 mount; expected one in /proc/self/mounts",
    );
  }
  return mount[1];
}

/** The first id outside the group's own namespace: the process that is number 1 in a container of this group. */
export function containerInit(cgroup: string): number | undefined {
  return groupMembers(cgroup).find((pid) => {
    const ids = readLines(`/proc/${pid}/status`).find((line) =>
      line.startsWith("NSpid:")
    )?.split(/\s+/).slice(1) ?? [];
    return ids.length === 2 && ids[1] === "1";
  });
}

/**
 * One injection: a scenario goes on, the host or the deployer is struck at one point, and then the host must answer SSH, and the next
 * push must repair all. Strikes hosts of the lab.
 */
import { hostAddresses } from "../../lib/address.ts";
import { pumpLines } from "../../lib/deploy/lines.ts";
import { startPing } from "../lab/probes.ts";
import { must, SYSTEM_PATH } from "../lab/process.ts";
import { KILL_ALL } from "../lab/proof.ts";
import { waitFor } from "../lab/wait.ts";
import type { Injection, Point, Recording } from "./points.ts";
import { BYSTANDERS, type Scenario, SCENARIOS, VICTIM } from "./scenarios.ts";
import { watchSsh } from "./ssh_watch.ts";
import {
  beginAt,
  type ChaosStage,
  CONFIRM_TIMEOUT,
  expectVerified,
  isArmed,
  LOCAL_INSTALL,
  onVictim,
  push,
  pushOptions,
} from "./stage.ts";
import { GO_FILE, lastingName, LOG_FILE, type Order, ORDER_FILE, readLog, TAKEN_FILE } from "./strike.ts";

/** What was seen. */
export interface Outcome {
  readonly injection: Injection;
  /** False: the run never came by that point, so nothing was struck. */
  readonly reached: boolean;
  /** The longest time without a greeting of the host's SSH server, milliseconds. */
  readonly sshSilence: number;
  readonly lockedOut: boolean;
  /** How the deployer ended; undefined where it was killed or there was none. */
  readonly deployer?: number;
  /** What the deployer said of the victim at last. */
  readonly said?: string;
  /** What the next push was; undefined where it did not converge. */
  readonly convergedBy?: "push" | "push --reinstall";
  /** Pings between the two other hosts: sent, and without an answer. */
  readonly bystanders: { readonly sent: number; readonly lost: number };
  readonly seconds: number;
  /** What must not be. */
  readonly problems: readonly string[];
}

/** Milliseconds after the time for a confirmation: the way back itself, or a boot. */
const RETURN = 30_000;
/** Milliseconds until the deployer has to have ended. */
const DEPLOYER_PATIENCE = 200_000;
/** Milliseconds until a point has to be reached. */
const REACH_PATIENCE = 120_000;

/** Something that runs, and can be killed with all that it started. */
interface Running {
  readonly lines: string[];
  /** Exit code; resolves when it has ended, also by a kill. */
  readonly ended: Promise<number>;
  readonly kill: () => void;
  hasEnded: boolean;
}

/** Runs a scenario in peace and gives what can be struck. */
export async function record(stage: ChaosStage, scenario: Scenario): Promise<Recording> {
  await beginAt(stage, scenario);
  await clearOrders(stage);
  const running = startRun(stage, scenario);
  const code = await running.ended;
  if (scenario.abandonedAt === undefined && code !== 0) {
    throw new Error(
      `Cannot record "${scenario.name}": it ended with ${code}\n  ${running.lines.slice(-40).join("\n  ")}`,
    );
  }
  await settled(stage);
  const effects = readLog(Deno.readTextFileSync(onVictim(stage, LOG_FILE)!));
  stage.victimIs = scenario.abandonedAt === undefined ? "installed" : scenario.from;
  if (scenario.abandonedAt !== undefined) {
    return { effects: effects.filter(({ verb }) => verb === "undo"), lines: [] };
  }
  return { effects, lines: scenario.run === "local" ? [] : running.lines };
}

/** Strikes once; the outcome tells all, also that something must not be. Throws only where the lab itself is broken. */
export async function inject(stage: ChaosStage, injection: Injection): Promise<Outcome> {
  const began = performance.now();
  const { lab } = stage;
  const scenario = SCENARIOS.find(({ name }) => name === injection.scenario)!;
  await beginAt(stage, scenario);
  await clearOrders(stage);
  if (injection.point.at === "host") await giveOrder(stage, injection);
  stage.victimIs = "unknown";
  const problems: string[] = [];
  const watch = await watchSsh(lab, lab.host(VICTIM).address);
  const { access } = hostAddresses(lab.host(BYSTANDERS[1]).id);
  const ping = await startPing(lab, lab.network(BYSTANDERS[0]), access);
  try {
    const running = startRun(stage, scenario);
    const reached = await reach(stage, injection.point, running);
    if (reached) await strike(stage, injection, running);
    await Promise.race([running.ended, deadline(DEPLOYER_PATIENCE)]);
    if (!running.hasEnded) problems.push(`the deployer had not ended after ${DEPLOYER_PATIENCE / 1000} s`);
    running.kill();
    const code = await running.ended;
    const isSettled = await settled(stage);
    const filled = injection.fault === "disk";
    if (!isSettled && !filled) problems.push("the host neither stayed nor went back in time");
    const silence = watch.longest();
    const answers = (await lab.ssh(VICTIM, "true", { timeoutMs: 15_000 })).code === 0;
    const lockedOut = !answers || silence > CONFIRM_TIMEOUT * 1000 + RETURN;
    if (lockedOut) {
      problems.push(
        `locked out: silent for ${(silence / 1000).toFixed(1)} s, ${answers ? "but back" : "and still"}`,
      );
    }
    if (filled) await emptyDisk(stage);
    // An order that was never taken must not strike, or stop, the push that repairs.
    await clearOrders(stage);
    const convergedBy = await converge(stage, problems);
    const { sent, lost } = await ping.stop();
    return {
      injection,
      reached,
      sshSilence: silence,
      lockedOut,
      ...code >= 0 && scenario.run === "push" && injection.fault !== "deployer" ? { deployer: code } : {},
      ...lastWord(running.lines),
      ...convergedBy === undefined ? {} : { convergedBy },
      bystanders: { sent, lost: lost.length },
      seconds: (performance.now() - began) / 1000,
      problems,
    };
  } finally {
    watch.stop();
  }
}

function lastWord(lines: readonly string[]): { said?: string } {
  const said = lines.findLast((line) => line.startsWith(`${VICTIM}: `) && !line.startsWith(`${VICTIM}: - `));
  return said === undefined ? {} : { said: said.slice(VICTIM.length + 2) };
}

async function clearOrders(stage: ChaosStage): Promise<void> {
  await stage.lab.exec(VICTIM, ["rm", "-f", LOG_FILE, ORDER_FILE, TAKEN_FILE, GO_FILE]);
}

async function giveOrder(stage: ChaosStage, { point, fault }: Injection): Promise<void> {
  if (point.at !== "host") return;
  const how: Order["how"] = fault !== "process" ? "wait" : dies(point) ? "die" : "die-during";
  await Deno.writeTextFile(onVictim(stage, ORDER_FILE)!, JSON.stringify({ ...point.effect, how }));
}

/** Half of the points before the effect, half of them in its midst, always the same. */
function dies({ effect }: Point & { at: "host" }): boolean {
  return [...effect.title].reduce((sum, letter) => sum + letter.charCodeAt(0), 0) % 2 === 0;
}

function startRun(stage: ChaosStage, scenario: Scenario): Running {
  const running = scenario.run === "local" ? startLocal(stage) : startPush(stage, scenario);
  if (scenario.abandonedAt !== undefined) abandon(running, scenario.abandonedAt);
  return running;
}

function startPush({ lab, program }: ChaosStage, scenario: Scenario): Running {
  const argv = [program, "push", ...pushOptions(scenario), "--ssh-config", lab.sshConfig];
  return spawn(lab.deployer.enter(argv), lab.directory);
}

function startLocal({ lab }: ChaosStage): Running {
  const running: Running = {
    lines: [],
    ended: lab.exec(VICTIM, ["setsid", "--wait", ...LOCAL_INSTALL]).then(({ code, stdout, stderr }) => {
      running.lines.push(...stdout.split("\n"), ...stderr.split("\n"));
      running.hasEnded = true;
      return code;
    }),
    // What hangs here hangs on the host, and is ended with what hangs there.
    kill: () => void lab.exec(VICTIM, ["sh", "-c", KILL_ALL]).catch(() => {}),
    hasEnded: false,
  };
  return running;
}

/** In a session, and so a process group, of its own. */
function spawn(argv: readonly string[], cwd: string): Running {
  const env = { PATH: `${Deno.env.get("PATH") ?? ""}:${SYSTEM_PATH}`, HOME: cwd, NO_COLOR: "1" };
  const child = new Deno.Command("setsid", {
    args: [...argv],
    cwd,
    env,
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const lines: string[] = [];
  const heard = [child.stdout, child.stderr].map((stream) =>
    pumpLines(stream, (line) => void lines.push(line)).catch(() => {})
  );
  const running: Running = {
    lines,
    ended: Promise.all([child.status, ...heard]).then(([{ code, signal }]) => {
      running.hasEnded = true;
      return signal === null ? code : -1;
    }),
    kill: () => killGroupOf(child.pid),
    hasEnded: false,
  };
  return running;
}

function killGroupOf(pid: number): void {
  try {
    Deno.kill(-pid, "SIGKILL");
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}

function abandon(running: Running, line: string): void {
  waitFor(`"${line}"`, () => running.lines.includes(line) || running.hasEnded, {
    intervalMs: 10,
    deadlineMs: REACH_PATIENCE,
  })
    .catch(() => {}).then(() => running.kill());
}

/** Whether the point is reached before the run is over. */
async function reach(stage: ChaosStage, point: Point, running: Running): Promise<boolean> {
  let endedAt: number | undefined;
  const hit = async () =>
    point.at === "deployer"
      ? running.lines.some((line) => lastingName(line) === point.line)
      : await isThere(onVictim(stage, TAKEN_FILE));
  return await waitFor("the point", async () => {
    if (await hit()) return "hit";
    if (running.hasEnded) endedAt ??= performance.now();
    // What the host does by itself afterwards, going back, is part of the scenario.
    const patience = point.at === "deployer" ? 0 : CONFIRM_TIMEOUT * 1000 + RETURN;
    return endedAt !== undefined && performance.now() - endedAt > patience ? "over" : undefined;
  }, { intervalMs: 5, deadlineMs: REACH_PATIENCE + CONFIRM_TIMEOUT * 1000 }).catch(() => "over") === "hit";
}

async function strike(stage: ChaosStage, { fault, point }: Injection, running: Running): Promise<void> {
  const { lab } = stage;
  const goFile = onVictim(stage, GO_FILE)!;
  const go = () => Deno.writeTextFile(goFile, "").catch(() => {});
  if (fault === "deployer") {
    running.kill();
    await running.ended;
    await go();
  } else if (fault === "process") {
    if (point.at === "deployer") await lab.exec(VICTIM, ["sh", "-c", KILL_ALL]);
  } else if (fault === "reboot") {
    const rebooted = lab.reboot(VICTIM);
    await go();
    await rebooted;
  } else if (fault === "power") {
    // A machine without power says no goodbye: first the cable.
    await must(["ip", "-n", lab.state.namespace, "link", "delete", `vb-${VICTIM}`]).catch(() => {});
    await lab.kill(VICTIM);
    await lab.start(VICTIM);
  } else {
    await lab.exec(VICTIM, ["sh", "-c", FILL_DISK]);
    await go();
  }
}

/** By number, all that are ours. */
const FILL_DISK = `cd /var
free=$(df --output=avail -B 1024 . | tail -n 1)
fallocate -l "\${free}K" chaos-fill-1
cat /dev/zero >chaos-fill-2
for name in 3 4 5; do echo x >chaos-fill-$name; done
exit 0`;

async function emptyDisk({ lab }: ChaosStage): Promise<void> {
  await lab.exec(VICTIM, ["sh", "-c", "rm -f /var/chaos-fill-*"]);
}

/** The host answers and will not go back any more. */
async function settled({ lab }: ChaosStage): Promise<boolean> {
  const calm = async () =>
    (await lab.ssh(VICTIM, "true", { timeoutMs: 5_000 })).code === 0 && !await isArmed(lab, VICTIM);
  return await waitFor("the host to settle", calm, {
    deadlineMs: CONFIRM_TIMEOUT * 1000 + RETURN,
    intervalMs: 300,
  })
    .then(() => true, () => false);
}

/** What an admin does next: pushes again, with --reinstall where that is asked for. */
async function converge(stage: ChaosStage, problems: string[]): Promise<Outcome["convergedBy"]> {
  let by: "push" | "push --reinstall" = "push";
  let pushed = await push(stage);
  if (pushed.code !== 0 && pushed.stdout.includes("--reinstall")) {
    by = "push --reinstall";
    pushed = await push(stage, "--reinstall");
  }
  if (pushed.code !== 0) {
    problems.push(
      `the next ${by} ended with ${pushed.code}:\n    ${pushed.stdout.split("\n").slice(-25).join("\n    ")}`,
    );
    return undefined;
  }
  try {
    await expectVerified(stage);
  } catch (error) {
    problems.push(`after the next ${by}: ${(error as Error).message}`);
    return undefined;
  }
  stage.victimIs = "installed";
  return by;
}

async function isThere(path: string | undefined): Promise<boolean> {
  return path !== undefined && await Deno.lstat(path).then(() => true, () => false);
}

function deadline(milliseconds: number): Promise<void> {
  return new Promise((resolve) => Deno.unrefTimer(setTimeout(resolve, milliseconds)));
}

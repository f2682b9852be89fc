/**
 * A stand-in of a host: files, systemd's units, the rollback timer, packages and the network, all in memory. The real actions of lib/host
 * run on it as processes that can be killed, and the host can be rebooted, at every call of its Runner. In memory only.
 */
import type { Baseline } from "../lib/facts.ts";
import type { Context, Locks } from "../lib/host/context.ts";
import { LAST_SCRIPT } from "../lib/host/leave.ts";
import { lookAtHost } from "../lib/host/look.ts";
import {
  ACTIVATION_FILE,
  ARMED_FILE,
  BASELINE_FILE,
  CAPABILITIES_FILE,
  CURRENT_LINK,
  FAILURE_FILE,
  FOLLOWED_FILE,
  INSTALL_DIR,
  KEYS_FILE,
  STATE_FILE,
} from "../lib/host/paths.ts";
import { BASELINE_SCRIPT, parseBaseline } from "../lib/host/baseline.ts";
import { planHost, planTitles } from "../lib/host/plan.ts";
import { undo } from "../lib/host/undo.ts";
import { up } from "../lib/host/up.ts";
import { baselineDifferences } from "../lib/net/down.ts";
import type { Scope } from "../lib/net/network.ts";
import { BIN_DIR } from "../lib/net/steps.ts";
import type { HostInput } from "../lib/net/wanted.ts";
import { KEY_DIR } from "../lib/net/wireguard.ts";
import { managerFiles } from "../lib/render/managers.ts";
import { FOLLOW_UNIT, HEAL_UNIT, MAIN_UNIT, ROLLBACK_UNIT, UNIT_DIR } from "../lib/render/units.ts";
import { parseHostConfig } from "../lib/host_config.ts";
import { parseKnownKeys } from "../lib/parse_known_keys.ts";
import type { Output, Runner, Step, WantedFile } from "../lib/step.ts";
import { FakeNetwork, Refused } from "./fake/network.ts";
import type { VirtualTime } from "./fake/virtual_time.ts";

/** The process was killed, or the host lost its power. No product code ever sees it: a killed process does nothing more. */
export class Killed extends Error {
  override name = "Killed";
}

/** One call of a Runner, before it has an effect. */
export interface Call {
  /** Counts from 0, over all processes of the host. */
  readonly number: number;
  /** Name of the process: a verb, or a unit. */
  readonly process: string;
  /** The command line, or "read" or "write" with a path. */
  readonly what: string;
}

/** What becomes of a call. `fail`: it ends with an error and has no effect. */
export type Fate = "done" | "fail" | "kill" | "power cut";

interface Process {
  readonly name: string;
  readonly death: ReturnType<typeof Promise.withResolvers<never>>;
  killed: boolean;
  /** Counted as at work. */
  busy: boolean;
}

interface Lock {
  holder?: Process;
  readonly waiting: { readonly process: Process; readonly enter: () => void }[];
}

/** What a host is from the beginning. */
export interface FakeHostOptions {
  readonly baseline: Baseline;
  /** Packages of which the host lacks the commands, by name. */
  readonly lacks?: Readonly<Record<string, readonly string[]>>;
}

const OK: Output = { code: 0, stdout: "", stderr: "" };
const never = new Promise<never>(() => {});
/** Seconds after the first time at which the rollback timer starts its unit again (see ARM_ROLLBACK). */
const AGAIN = [0, 20, 60, 180, 600, 3600];

/** One host. */
export class FakeHost {
  readonly files = new Map<string, string>();
  readonly links = new Map<string, string>();
  readonly network: FakeNetwork;
  /** Decides about each call; missing: all are done. */
  fate: ((call: Call) => Fate) | undefined;
  /** Calls so far. */
  calls = 0;
  boots = 1;
  /** Package → the commands that it brings, of those that are not installed. */
  readonly lacks: Map<string, readonly string[]>;
  /** Package → what else goes with it. */
  readonly dependents = new Map<string, readonly string[]>();
  readonly held = new Set<string>();
  /** What the kernel can do. */
  kernel: readonly string[] = ["wireguard", "geneve", "openvswitch"];
  readonly installed = new Set<string>();
  readonly #packages: Readonly<Record<string, readonly string[]>>;
  readonly #time: VirtualTime;
  readonly #baseline: Baseline;
  readonly #locks = { host: emptyLock(), armed: emptyLock() };
  readonly #processes = new Set<Process>();
  #booted: number;
  #timers: number[] = [];
  /** Units that are starting, and those that failed. */
  readonly #starting = new Map<string, Promise<unknown>>();
  readonly #failed = new Set<string>();
  #lastInput: HostInput | undefined;

  constructor(time: VirtualTime, { baseline, lacks = {} }: FakeHostOptions) {
    this.#time = time;
    this.#baseline = baseline;
    this.#booted = time.now();
    this.#packages = lacks;
    this.lacks = new Map(Object.entries(lacks));
    this.network = new FakeNetwork(baseline);
    this.files.set("/etc/os-release", 'ID=debian\nVERSION_ID="12"\n');
    this.files.set("/etc/resolv.conf", baseline.resolvConf.text ?? "");
    this.files.set(`${BIN_DIR}/mobula`, "the executable");
  }

  /** Runs an action as a process of its own; rejects with Killed when that is killed. `connection` is that of its SSH session. */
  async process<T>(
    name: string,
    action: (context: Context) => Promise<T>,
    connection?: string,
  ): Promise<T> {
    const process: Process = { name, death: Promise.withResolvers(), killed: false, busy: false };
    process.death.promise.catch(() => {});
    this.#processes.add(process);
    this.#setBusy(process, true);
    const done = action(this.#contextOf(process, connection)).finally(() => this.#end(process));
    return await Promise.race([done, process.death.promise]);
  }

  /** The power is cut and comes back; ends when the host is up. */
  async reboot(): Promise<void> {
    this.#powerCut();
    await this.#boot();
  }

  /** Waits until no unit is starting any more. */
  async settled(): Promise<void> {
    while (this.#starting.size > 0) {
      await Promise.allSettled([...this.#starting.values()]);
      await this.#time.pause(1);
    }
  }

  /** Whether the rollback timer will start its unit. */
  get timerRuns(): boolean {
    return this.#timers.length > 0;
  }

  /** A JSON file's content; undefined where there is none. */
  json<T>(path: string): T | undefined {
    const text = this.#read(path);
    return text === undefined ? undefined : JSON.parse(text) as T;
  }

  /** The generation that is current; 0 for none. */
  get current(): number {
    return Number(this.links.get(CURRENT_LINK)?.split("/").at(-1) ?? 0);
  }

  /** "baseline", "generation N", or what lies between them: only the first two can be reached by SSH for sure. */
  async standing(): Promise<string> {
    const runner = this.#plainRunner();
    if (this.current > 0) {
      const input = this.input();
      const left = planTitles(planHost(input, await lookAtHost(runner, input)));
      return left.length === 0 ? `generation ${this.current}` : `half: ${left.join("; ")}`;
    }
    const { stdout } = await runner.run({ title: "", argv: ["sh", "-s"], stdin: BASELINE_SCRIPT });
    const left = [
      ...baselineDifferences(this.#baseline, parseBaseline(stdout, this.#baseline.sshPort)),
      ...[...this.network.scopes].filter((scope) => scope !== "root"),
      ...this.network.links.filter(({ scope, kind }) => scope === "root" && kind !== undefined).map((
        { name },
      ) => name),
    ];
    return left.length === 0 ? "baseline" : `half: ${left.join("; ")}`;
  }

  /** What the current generation, the baseline and the capabilities say; while one of them is broken, what they said before. */
  input(): HostInput {
    const knownKeys = this.#knownKeys();
    try {
      const config = parseHostConfig(this.json(`${CURRENT_LINK}/config.json`));
      const baseline = this.json<Baseline>(BASELINE_FILE)!;
      const capabilities = this.json<HostInput["capabilities"]>(CAPABILITIES_FILE)!;
      if (!baseline.addresses || !capabilities.datapath) throw new Error("Cannot use what is broken");
      this.#lastInput = { config, baseline, capabilities };
    } catch {
      // As it was.
    }
    return { ...this.#lastInput!, ...(knownKeys ? { knownKeys } : {}) };
  }

  /** A broken file counts as none. */
  #knownKeys(): HostInput["knownKeys"] {
    try {
      const known = this.json<unknown>(KEYS_FILE);
      return known === undefined ? undefined : parseKnownKeys(known);
    } catch {
      return undefined;
    }
  }

  #setBusy(process: Process, busy: boolean): void {
    if (process.busy !== busy) this.#time.busy += busy ? 1 : -1;
    process.busy = busy;
  }

  #end(process: Process): void {
    this.#setBusy(process, false);
    this.#processes.delete(process);
  }

  #kill(process: Process): void {
    process.killed = true;
    this.#end(process);
    for (const lock of Object.values(this.#locks)) {
      if (lock.holder === process) this.#passOn(lock);
    }
    process.death.reject(new Killed(process.name));
  }

  #powerCut(): void {
    for (const process of this.#processes) this.#kill(process);
    this.#cancelTimer();
    this.#starting.clear();
    this.#failed.clear();
    for (const path of this.files.keys()) if (path.startsWith("/run/")) this.files.delete(path);
    this.network.boot();
    this.boots++;
    this.#booted = this.#time.now();
  }

  /** What systemd does: ours come before the network's manager. */
  async #boot(): Promise<void> {
    const boot = this.boots;
    for (const unit of [ROLLBACK_UNIT, MAIN_UNIT]) {
      if (this.files.has(`${UNIT_DIR}/multi-user.target.wants/${unit}`)) {
        await this.#startUnit(unit).catch(() => {});
      }
      if (this.boots !== boot) return;
    }
    if (!this.#isLeftAlone()) this.network.configureCard();
    await this.settled();
  }

  /** Whether the network's manager was told to leave the card alone. */
  #isLeftAlone(): boolean {
    return managerFiles("networkd").some((path) => this.files.has(path));
  }

  #contextOf(process: Process, connection: string | undefined): Context {
    return {
      runner: this.#runnerOf(process),
      locks: this.#locksOf(process),
      clock: {
        now: () => this.#time.now(),
        pause: async (milliseconds) => {
          this.#setBusy(process, false);
          await this.#time.pause(milliseconds);
          if (process.killed) return await never;
          this.#setBusy(process, true);
        },
      },
      report: () => {},
      ...(connection === undefined ? {} : { connection }),
    };
  }

  #locksOf(process: Process): Locks {
    return {
      locked: (action) => this.#locked(this.#locks.host, process, action),
      lockedArmed: (action) => this.#locked(this.#locks.armed, process, action),
      lockedByForce: async (patience, action) => {
        const force = this.#time.schedule(patience, () => {
          const { holder } = this.#locks.host;
          if (holder && !process.killed) this.#kill(holder);
        });
        return await this.#locked(this.#locks.host, process, () => {
          this.#time.cancel(force);
          return action();
        });
      },
    };
  }

  async #locked<T>(lock: Lock, process: Process, action: () => Promise<T>): Promise<T> {
    if (lock.holder) {
      this.#setBusy(process, false);
      await new Promise<void>((enter) => lock.waiting.push({ process, enter }));
      if (process.killed) return await never;
    }
    lock.holder = process;
    try {
      return await action();
    } finally {
      if (lock.holder === process) this.#passOn(lock);
    }
  }

  #passOn(lock: Lock): void {
    delete lock.holder;
    const next = lock.waiting.splice(0).filter(({ process }) => !process.killed);
    const first = next.shift();
    lock.waiting.push(...next);
    if (!first) return;
    lock.holder = first.process;
    this.#setBusy(first.process, true);
    first.enter();
  }

  #runnerOf(process: Process): Runner {
    const call = async <T>(what: string, effect: () => T, failed: () => T): Promise<T> => {
      await Promise.resolve();
      if (process.killed) return await never;
      const fate = this.fate?.({ number: this.calls, process: process.name, what }) ?? "done";
      this.calls++;
      if (fate === "power cut") {
        this.#powerCut();
        this.#time.schedule(5_000, () => void this.#boot());
      } else if (fate === "kill") this.#kill(process);
      if (process.killed) return await never;
      const result = fate === "fail" ? failed() : effect();
      // It may have killed itself.
      return process.killed ? await never : result;
    };
    const broken = (): never => {
      throw new Deno.errors.Interrupted("Input/output error");
    };
    const failure: Output = { code: 1, stdout: "", stderr: "Input/output error" };
    return {
      run: (step) => call(`${step.argv.join(" ").slice(0, 200)}`, () => this.#run(step), () => failure),
      readFile: (path) => call(`read ${path}`, () => this.#read(path), broken),
      readFiles: (paths) =>
        call(
          `read ${paths.length} files`,
          () => new Map(paths.map((path) => [path, this.#read(path)])),
          broken,
        ),
      readLink: (path) => call(`read link ${path}`, () => this.links.get(path), () => undefined),
      list: (path) => call(`list ${path}`, () => this.#list(path), () => []),
      writeFile: (file) => call(`write ${file.path}`, () => this.#write(file), broken),
    };
  }

  /** For a look that is none of a process. */
  #plainRunner(): Runner {
    return {
      run: (step) => Promise.resolve(this.#run(step)),
      readFile: (path) => Promise.resolve(this.#read(path)),
      readFiles: (paths) => Promise.resolve(new Map(paths.map((path) => [path, this.#read(path)]))),
      readLink: (path) => Promise.resolve(this.links.get(path)),
      list: (path) => Promise.resolve(this.#list(path)),
      writeFile: (file) => Promise.resolve(this.#write(file)),
    };
  }

  #resolve(path: string): string {
    for (const [link, target] of this.links) {
      if (path === link) return target;
      if (path.startsWith(`${link}/`)) return `${target}${path.slice(link.length)}`;
    }
    return path;
  }

  #read(path: string): string | undefined {
    if (path === "/proc/uptime") return `${(this.#time.now() - this.#booted) / 1000} 0\n`;
    if (path === "/proc/sys/kernel/random/boot_id") return `boot-${this.boots}\n`;
    if (path === "/proc/1/stat") return `1 (systemd) ${"0 ".repeat(30)}`;
    return this.files.get(this.#resolve(path));
  }

  #write({ path, content }: WantedFile): void {
    if (content === undefined) this.files.delete(path);
    else this.files.set(path, content);
    if (path === KEYS_FILE) this.#follow();
  }

  /** `mobula follow`, as far as others can see it. */
  #follow(): void {
    const keys = this.files.get(KEYS_FILE);
    if (keys === undefined) {
      this.network.units.delete(FOLLOW_UNIT);
      this.files.delete(FOLLOWED_FILE);
    } else if (this.network.units.has(FOLLOW_UNIT)) this.files.set(FOLLOWED_FILE, keys);
  }

  #run(step: Step): Output {
    try {
      return { ...OK, stdout: this.#perform(step) ?? "" };
    } catch (error) {
      if (error instanceof Refused) return { code: 1, stdout: "", stderr: error.message };
      throw error;
    }
  }

  /** Gives the standard output; throws Refused. */
  #perform({ argv, namespace: inner, stdin = "" }: Step): string | void {
    const namespace: Scope = inner ?? "root";
    if (!this.network.scopes.has(namespace)) {
      throw new Refused(`Cannot open network namespace "${namespace}": No such file or directory`);
    }
    const [program = "", ...words] = argv;
    if (program.startsWith(`${BIN_DIR}/`)) return this.#ownProgram(program, words, namespace, stdin);
    switch (program) {
      case "sh":
        return words[0] === "-s" ? this.#script(stdin) : this.#shell(words[1]!, words.slice(3), namespace);
      case "ip":
        return words[0] === "-batch" ? this.#batch(namespace, stdin) : this.network.ip(namespace, words);
      case "wg":
        if (words[0] === "show") return this.network.wgShow(words[2]!);
        if (words.includes("private-key") && !this.files.has(words[words.indexOf("private-key") + 1]!)) {
          throw new Refused("No such file or directory");
        }
        return this.network.wg(words, stdin, Math.floor(this.#time.now() / 1000));
      case "ethtool":
        this.network.links.find(({ scope, name }) => scope === namespace && name === words[1])!.txChecksum =
          words[3] === "on";
        return;
      case "ovs-vsctl":
        return this.network.configureSwitch(this.input());
      case "systemctl":
        return this.#systemctl(words.filter((word) => !word.startsWith("--job-mode")));
      case "ln":
        return this.#link(words.at(-2)!, words.at(-1)!);
      case "rm":
        return this.#remove(words.filter((word) => !word.startsWith("-")));
      case "dpkg-query":
        return [...this.installed].filter((name) => words.includes(name))
          .map((name) => `${name} ${this.held.has(name) ? "hi" : "ii"} \n`).join("");
      case "env":
        return this.#packageManager(words.filter((word) => !word.includes("=") && word !== "-o"));
      case "systemd-run":
        if (words.includes("reboot")) return void this.#time.schedule(500, () => void this.reboot());
        if (this.timerRuns) throw new Refused("Unit mobula-rollback.timer already exists.");
        return this.#armTimer(Number(/--on-active=(\d+)/.exec(words.join(" "))?.[1]));
      case "sync":
      case "udevadm":
      case "unshare":
      case "dnsmasq":
      case "ovs-appctl":
      case "chmod":
      case "chown":
        return;
    }
    throw new Error(`Cannot run "${argv.join(" ")}" on the stand-in: it does not know ${program}`);
  }

  #batch(namespace: Scope, stdin: string): void {
    stdin.trimEnd().split("\n").forEach((line, index) => {
      try {
        this.network.ip(namespace, line.split(" "));
      } catch (error) {
        throw error instanceof Refused
          ? new Refused(`${error.message}\nCommand failed -:${index + 1}\n`)
          : error;
      }
    });
  }

  #ownProgram(program: string, words: readonly string[], namespace: Scope, stdin: string): void {
    if (!this.files.has(program)) throw new Refused(`${program}: not found`);
    const name = program.slice(BIN_DIR.length + 1);
    if (name === "arm-rollback") return this.#armTimer(words[0] === undefined ? undefined : Number(words[0]));
    if (name === "start-units") return this.#startDaemons(words);
    if (!this.network.scopes.has("mobula")) throw new Refused(`${name}: no namespace (${namespace})`);
    const loaded = name.slice("load-".length);
    this.network.loaded.add(loaded);
    this.files.set(`/run/mobula/${loaded}.${loaded === "firewall" ? "nft" : "text"}`, stdin);
    this.files.set(`/run/mobula/${loaded}.listing`, "");
  }

  #startDaemons(units: readonly string[]): void {
    for (const unit of units) {
      if (!this.files.has(`${UNIT_DIR}/${unit}`)) throw new Refused(`Unit ${unit} not found.`);
      this.network.units.add(unit);
      if (unit === "mobula-wireguard.service") this.network.addUserspaceWireguard();
    }
    this.#follow();
  }

  #armTimer(seconds: number | undefined): void {
    this.#cancelTimer();
    if (seconds === undefined) return;
    this.#timers = AGAIN.map((more) =>
      this.#time.schedule((seconds + more) * 1000, () => {
        this.#timers.shift();
        this.#startUnit(ROLLBACK_UNIT).catch(() => {});
      })
    );
  }

  #cancelTimer(): void {
    for (const timer of this.#timers) this.#time.cancel(timer);
    this.#timers = [];
  }

  /** Any script that looks gets all that is to be seen; the others are told by what they do. */
  #script(script: string): string {
    if (script.includes("mo-probe")) return [...this.kernel, ""].join("\n");
    if (!script.includes("@@")) throw new Error(`Cannot run a script on the stand-in:\n${script}`);
    const units = /systemctl is-active ((?:mobula\S* ?)+)/.exec(script)?.[1]?.trim().split(" ") ?? [];
    return `${this.network.render(units)}\n@@link\n@@resolv\n${this.files.get("/etc/resolv.conf") ?? ""}
@@resolved\n\n@@managers\nnetworkd\n@@services\n`;
  }

  #shell(script: string, args: readonly string[], namespace: Scope): string | void {
    if (script.includes("/proc/sys/")) {
      for (let index = 0; index + 1 < args.length; index += 2) {
        this.network.sysctls.set(`${namespace} ${args[index + 1]}`, args[index]!);
      }
    } else if (script.includes("command -v") && script.startsWith("for name")) {
      const missing = new Set([...this.lacks.values()].flat());
      return args.filter((name) => !missing.has(name)).map((name) => `/usr/bin/${name}\n`).join("");
    } else if (script === LAST_SCRIPT) {
      this.#remove([`${UNIT_DIR}/multi-user.target.wants/${ROLLBACK_UNIT}`, `${UNIT_DIR}/${ROLLBACK_UNIT}`]);
      if (args[0] === "uninstall") this.#remove([INSTALL_DIR, "/run/mobula", "/var/cache/mobula"]);
    } else if (script.includes(KEY_DIR)) {
      const units = [...this.files.keys()].filter((path) =>
        /^\/etc\/systemd\/system\/(multi-user\.target\.wants\/)?mobula[^/]*\.service$/.test(path) &&
        !path.endsWith(ROLLBACK_UNIT)
      );
      this.#remove([...units, "/etc/netns/mobula", KEYS_FILE, KEY_DIR]);
    } else {
      for (const [, path = ""] of script.matchAll(/^rm -f (\S+);/gm)) this.#remove([path]);
    }
  }

  #list(directory: string): string[] {
    if (directory === "/run/netns") return [...this.network.scopes].filter((scope) => scope !== "root");
    const below = [...this.files.keys()].filter((path) => path.startsWith(`${directory}/`))
      .map((path) => path.slice(directory.length + 1).split("/")[0]);
    return [...new Set(below)].filter((name) => name !== undefined).sort();
  }

  /** One by which a boot finds a unit counts as a file. */
  #link(target: string, path: string): void {
    if (path.includes(".wants/")) this.files.set(path, "");
    else this.links.set(path, target);
  }

  #remove(paths: readonly string[]): void {
    const isBelow = (one: string) => paths.some((path) => one === path || one.startsWith(`${path}/`));
    for (const map of [this.files, this.links]) {
      for (const one of map.keys()) if (isBelow(one)) map.delete(one);
    }
    this.#follow();
  }

  #systemctl([verb = "", ...words]: readonly string[]): string | void {
    const units = words.filter((word) => !word.startsWith("-"));
    if (verb === "enable") {
      for (const unit of units) this.files.set(`${UNIT_DIR}/multi-user.target.wants/${unit}`, "");
    } else if (verb === "kill" && words.includes("--signal=KILL")) {
      for (const process of this.#processes) if (units.includes(process.name)) this.#kill(process);
    } else if (verb === "stop") {
      for (const unit of units) this.network.stop(unit);
    } else if ((verb === "start" || verb === "restart") && words.includes("--no-block")) {
      for (const unit of units) this.#startUnit(unit).catch(() => {});
    } else if (verb === "try-restart" && units.includes("systemd-networkd.service")) {
      if (!this.#isLeftAlone()) this.network.configureCard();
    }
  }

  /** Starts a oneshot unit of ours, if its condition holds; one that is starting already goes on. */
  async #startUnit(unit: string): Promise<void> {
    const [condition, action] = unit === ROLLBACK_UNIT
      ? [ARMED_FILE, undo] as const
      : [CURRENT_LINK, up] as const;
    if (!this.files.has(`${UNIT_DIR}/${unit}`)) return;
    if (!this.files.has(condition) && !this.links.has(condition)) return;
    if (this.#starting.has(unit)) return await this.#starting.get(unit) as void;
    const starting = this.process<unknown>(unit, action);
    this.#starting.set(unit, starting);
    this.#failed.delete(unit);
    try {
      await starting;
    } catch (error) {
      this.#failed.add(unit);
      if (unit === MAIN_UNIT) {
        this.#afterUp();
        this.#heal();
      }
      throw error;
    } finally {
      if (this.#starting.get(unit) === starting) this.#starting.delete(unit);
    }
  }

  /** OnFailure of the main unit while it is armed (see RUN_HEAL). */
  #afterUp(): void {
    if (!this.files.has(ARMED_FILE) || this.#starting.has(ROLLBACK_UNIT)) return;
    if (!this.files.has(FAILURE_FILE)) this.files.set(FAILURE_FILE, "what configured the network was killed");
    this.#startUnit(ROLLBACK_UNIT).catch(() => {});
  }

  /** OnFailure of the main unit (see RUN_HEAL). */
  #heal(): void {
    if (this.files.has(ARMED_FILE)) return;
    const healing = this.process(HEAL_UNIT, async (context) => {
      for (let tries = 1; tries <= 20; tries++) {
        if (!this.links.has(CURRENT_LINK)) return;
        if (await up(context).then(() => true, () => false)) return;
        await context.clock.pause(tries * 1000);
      }
    });
    this.#starting.set(HEAL_UNIT, healing);
    healing.catch(() => {}).finally(() => {
      if (this.#starting.get(HEAL_UNIT) === healing) this.#starting.delete(HEAL_UNIT);
    });
  }

  /** apt-get and dpkg, as far as mobula asks them. */
  #packageManager(words: readonly string[]): string | void {
    const verb = words.find((word) => word === "install" || word === "purge");
    if (verb === undefined) return;
    const names = words.slice(words.indexOf(verb) + 1);
    if (verb === "install") {
      if (words.includes("-s")) return names.map((name) => `Inst ${name} (1 Debian [all])\n`).join("");
      for (const name of names) {
        this.lacks.delete(name);
        this.installed.add(name);
      }
      return;
    }
    const gone = [...names, ...names.flatMap((name) => this.dependents.get(name) ?? [])];
    if (words.includes("-s")) return gone.map((name) => `Purg ${name} [1]\n`).join("");
    for (const name of gone) {
      this.installed.delete(name);
      if (this.#packages[name]) this.lacks.set(name, this.#packages[name]);
    }
  }
}

/** How the last activation went, as others see it. */
export function activationOf(host: FakeHost): string | undefined {
  return host.json<{ status: string }>(ACTIVATION_FILE)?.status;
}

/** What is known of the installation; undefined for none. */
export function stateOf(
  host: FakeHost,
): { readonly status: string; readonly generation: number } | undefined {
  return host.json(STATE_FILE);
}

function emptyLock(): Lock {
  return { waiting: [] };
}

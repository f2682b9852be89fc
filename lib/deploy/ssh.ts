/**
 * A host seen through the system's own `ssh`: one master connection, every command a session on it. Effects: starts `ssh`
 * processes and changes what the commands change on the host.
 */
import { HostError, TransportError } from "../errors.ts";
import type { SshTarget } from "../fleet.ts";
import type { Output, Runner, Step, WantedFile } from "../step.ts";
import { readFilesByScript } from "../host/read_files.ts";
import { type CommandOptions, endProcess, runCommand } from "./command.ts";
import { plainText } from "../plain.ts";
import { pumpLines, TooMuchOutput } from "./lines.ts";
import { shellQuote } from "./quote.ts";
import { classifySshFailure, lostConnection } from "./ssh_errors.ts";

/** What all connections of one run share. */
export interface SshOptions {
  /** Private folder for the control sockets; see `control_directory.ts`. */
  readonly controlDirectory: string;
  /** Passed on as `-F`. */
  readonly configFile?: string;
  readonly acceptNewHostKeys?: boolean;
  readonly connectTimeoutSeconds?: number;
}

/** One command's surroundings. */
export interface ExecOptions extends CommandOptions {
  /** Through sudo? As the host's target says unless told. */
  readonly become?: boolean;
  /** Milliseconds that the command may take where no signal ends it; two minutes unless told, `Infinity` for one that stays. */
  readonly milliseconds?: number;
}

/** Seconds; three unanswered questions end a connection whose path has died silently. */
const ALIVE_INTERVAL = 5;
const ALIVE_COUNT = 3;
const CONNECT_TIMEOUT = 10;
/** Milliseconds a master has for a clean end before it is killed. */
const MASTER_GRACE = 1000;
/** Milliseconds that a command may take, unless told. */
const DEADLINE = 120_000;
const READY = "mobula-connected";
interface Master {
  readonly process: Deno.ChildProcess;
  readonly ended: Promise<Deno.CommandStatus>;
  /** All that it said on standard error so far; complete when `said` is done. */
  stderr: string;
  said: Promise<void>;
  alive: boolean;
}

/** One host over SSH. */
export class SshRunner implements Runner {
  readonly #name: string;
  readonly #target: SshTarget;
  readonly #options: SshOptions;
  #master: Master | undefined;
  #connections = 0;

  /** `name` is the host's name in messages. */
  constructor(name: string, target: SshTarget, options: SshOptions) {
    this.#name = name;
    this.#target = target;
    this.#options = options;
  }

  /** Whether commands go through sudo. */
  get become(): boolean {
    return this.#target.become;
  }

  /** Whether there is a connection, as far as is known here. */
  get connected(): boolean {
    return this.#master?.alive ?? false;
  }

  /** How many connections were made so far. */
  get connections(): number {
    return this.#connections;
  }

  /** Opens the master connection; a TransportError says whether trying again makes sense. */
  async connect(timeoutSeconds = this.#options.connectTimeoutSeconds ?? CONNECT_TIMEOUT): Promise<void> {
    await this.close();
    this.#connections++;
    const timeout = timeoutSeconds * 1000;
    const master = this.#startMaster(timeoutSeconds);
    this.#master = master;
    // Twice the time: ConnectTimeout covers TCP and the banner, not the authentication after it.
    const timer = setTimeout(() => endProcess(master.process, "SIGTERM"), timeout * 2);
    try {
      if (await firstLineIs(master.process.stdout, READY)) return;
      await master.ended;
      // A ProxyCommand that outlives it may hold the pipe open.
      await within(500, master.said);
      throw this.#failure(master.stderr);
    } catch (error) {
      await this.close();
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  /** Ends the connection; never waits for a network that does not answer. */
  async close(): Promise<void> {
    const master = this.#master;
    this.#master = undefined;
    if (!master) return;
    endProcess(master.process, "SIGTERM");
    const timer = setTimeout(() => endProcess(master.process, "SIGKILL"), MASTER_GRACE);
    await master.ended;
    clearTimeout(timer);
    await Deno.remove(this.#socket()).catch(() => {});
  }

  /** Runs a command on the host; throws a TransportError when the connection and not the command fails. */
  async exec(argv: readonly string[], options: ExecOptions = {}): Promise<Output> {
    if (!this.#master?.alive) {
      throw lostConnection(this.#name, this.#target.host, this.#master?.stderr ?? "");
    }
    const sudo = (options.become ?? this.#target.become) ? ["sudo", "-n", "--"] : [];
    // Should the master end at this moment, ssh would quietly make a connection of its own: it shall fail instead.
    const session = [
      "-o",
      "ControlMaster=no",
      "-o",
      "ProxyCommand=false",
      ...this.#destination(),
      shellQuote([...sudo, ...argv]),
    ];
    const deadline = new AbortController();
    const { milliseconds = options.signal ? Infinity : DEADLINE } = options;
    const timer = milliseconds === Infinity ? undefined : setTimeout(() => deadline.abort(), milliseconds);
    const signal = options.signal ?? deadline.signal;
    const said = await runCommand("ssh", session, { ...options, signal, env: { LC_ALL: "C" } })
      .catch((error) => {
        throw error instanceof TooMuchOutput ? this.#refusal(error) : error;
      }).finally(() => clearTimeout(timer));
    const output = { ...said, stderr: plainText(said.stderr) };
    if (output.code === 255 || signal.aborted) await this.#throwIfTransport(output, signal);
    if (sudo.length > 0) this.#throwIfNoSudo(output);
    return output;
  }

  /** Runs a step of a plan. */
  run(step: Step): Promise<Output> {
    const prefix = step.namespace ? ["ip", "netns", "exec", step.namespace] : [];
    return this.exec([...prefix, ...step.argv], { stdin: step.stdin });
  }

  /** Reads a file of the host, undefined where there is none. */
  async readFile(path: string): Promise<string | undefined> {
    const { code, stdout, stderr } = await this.exec(["sh", "-c", READ_FILE, "sh", path]);
    if (code === NO_FILE) return undefined;
    if (code !== 0) throw new HostError(`${this.#name}: Cannot read ${path}: ${stderr.trim()}`);
    return stdout;
  }

  /** Reads many files of the host in one round trip. */
  readFiles(paths: readonly string[]): Promise<ReadonlyMap<string, string | undefined>> {
    return readFilesByScript(this, paths);
  }

  /** Where a symbolic link of the host leads, undefined where there is none. */
  async readLink(path: string): Promise<string | undefined> {
    const { code, stdout } = await this.exec(["readlink", "--", path]);
    return code === 0 ? stdout.replace(/\n$/, "") : undefined;
  }

  /** The names in a folder of the host; none where it cannot be listed. */
  async list(path: string): Promise<readonly string[]> {
    const { code, stdout } = await this.exec(["ls", "-A", "--", path]);
    return code === 0 ? stdout.split("\n").filter((name) => name !== "") : [];
  }

  /** Writes a file of the host whole or not at all, or removes it. */
  async writeFile({ path, content, mode = 0o644 }: WantedFile): Promise<void> {
    const { code, stderr } = content === undefined
      ? await this.exec(["rm", "-f", "--", path])
      : await this.exec(["sh", "-c", WRITE_FILE, "sh", path, mode.toString(8)], { stdin: content });
    if (code !== 0) throw new HostError(`${this.#name}: Cannot write ${path}: ${stderr.trim()}`);
  }

  /**
   * The master runs a remote command that ends with our end of its standard input: should this process die, even by
   * SIGKILL, no connection stays behind.
   */
  #startMaster(timeoutSeconds: number): Master {
    const remote = shellQuote(["sh", "-c", `echo ${READY}; while read -r _; do :; done`]);
    const process = new Deno.Command("ssh", {
      args: ["-M", "-o", `ConnectTimeout=${timeoutSeconds}`, ...this.#destination(), remote],
      env: { LC_ALL: "C" },
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    const master: Master = {
      process,
      ended: process.status,
      stderr: "",
      said: Promise.resolve(),
      alive: true,
    };
    const hear = (line: string) => void (master.stderr = `${master.stderr}${line}\n`.slice(-8192));
    master.said = pumpLines(process.stderr, hear).catch(() => {});
    process.status.finally(() => {
      master.alive = false;
      process.stdin.close().catch(() => {});
    });
    return master;
  }

  #destination(): string[] {
    const { host, port, user, identityFile } = this.#target;
    const { configFile, acceptNewHostKeys } = this.#options;
    const settings = {
      ControlPath: this.#socket(),
      ControlPersist: "no",
      BatchMode: "yes",
      ServerAliveInterval: ALIVE_INTERVAL,
      ServerAliveCountMax: ALIVE_COUNT,
      // What a user's configuration may ask of an interactive login has no place here.
      ClearAllForwardings: "yes",
      RemoteCommand: "none",
      RequestTTY: "no",
      PermitLocalCommand: "no",
      // Nothing that lets a host act in this user's name, or reach this machine. Jump hosts keep working.
      ForwardAgent: "no",
      ForwardX11: "no",
      GSSAPIDelegateCredentials: "no",
      Tunnel: "no",
      LogLevel: "INFO",
      ...(acceptNewHostKeys ? { StrictHostKeyChecking: "accept-new" } : {}),
    };
    return [
      ...(configFile ? ["-F", configFile] : []),
      ...Object.entries(settings).flatMap(([key, value]) => ["-o", `${key}=${value}`]),
      ...(port ? ["-p", String(port)] : []),
      ...(user ? ["-l", user] : []),
      ...(identityFile ? ["-i", identityFile] : []),
      "--",
      host,
    ];
  }

  /** One socket per connection: a new master never meets what an old one left. */
  #socket(): string {
    const name = `${socketName(this.#name, this.#target.host)}.${this.#connections}`;
    return `${this.#options.controlDirectory}/${name}`;
  }

  #refusal({ message }: TooMuchOutput): HostError {
    return new HostError(
      `${this.#name}: Cannot read what the host says: ${message}; expected a short answer`,
    );
  }

  #failure(stderr: string): TransportError {
    return classifySshFailure(this.#name, this.#target.host, stderr) ??
      lostConnection(this.#name, this.#target.host, stderr);
  }

  async #throwIfTransport(output: Output, signal?: AbortSignal): Promise<void> {
    if (signal?.aborted) {
      throw new TransportError(`${this.#name}: Cannot finish command: no end in time; expected one`, {
        retry: true,
      });
    }
    const master = this.#master;
    if (master) await within(500, master.ended);
    const said = `${output.stderr}\n${master?.stderr ?? ""}`;
    if (!master?.alive) throw this.#failure(said);
    const complaint = classifySshFailure(this.#name, this.#target.host, output.stderr);
    if (complaint && /^(mux_|ssh:|kex_|Connection |Shared connection)/m.test(output.stderr)) throw complaint;
  }

  #throwIfNoSudo({ code, stderr }: Output): void {
    if (code === 0) return;
    const said = stderr.split("\n").find((line) => /^sudo: |sudo: (command )?not found|: sudo: /.test(line));
    if (!said) return;
    throw new HostError(
      `${this.#name}: Cannot become root: ${said.trim()}; expected sudo without a password. ` +
        "Give the user NOPASSWD in sudoers, or log in as root (ansible_user: root)",
    );
  }
}

const NO_FILE = 44;
const READ_FILE = `[ -e "$1" ] || exit ${NO_FILE}; exec cat -- "$1"`;
const WRITE_FILE =
  `set -e; umask 077; d=\${1%/*}; [ -d "$d" ] || (umask 022; mkdir -p -- "$d"); t="$1.mobula-new.$$"
trap 'rm -f -- "$t"' EXIT; : >"$t"; chmod "$2" "$t"; cat >"$t"; mv -f -- "$t" "$1"; trap - EXIT`;

function socketName(name: string, host: string): string {
  // FNV-1a: short, the same for the same host, and no two hosts of a fleet share a name and an address.
  let hash = 0x811c9dc5;
  for (const char of `${name}@${host}`) hash = Math.imul(hash ^ char.codePointAt(0)!, 0x01000193) >>> 0;
  return hash.toString(36);
}

/** Reads until the line is there (true) or the stream ends (false); what follows it is read and dropped. */
async function firstLineIs(stream: ReadableStream<Uint8Array>, wanted: string): Promise<boolean> {
  return await new Promise((resolve) => {
    pumpLines(stream, (line) => line.trim() === wanted && resolve(true)).catch(() => {}).finally(() =>
      resolve(false)
    );
  });
}

/** Waits for a promise, but not longer than this. */
async function within(milliseconds: number, promise: Promise<unknown>): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise((resolve) => timer = setTimeout(resolve, milliseconds));
  await Promise.race([promise, late]);
  clearTimeout(timer);
}

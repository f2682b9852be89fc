/**
 * The near end of the agent in a virtual machine: runs commands there through a virtio-serial port, without any network.
 * Connects to sockets in the host's directory. As a program: `agent.ts DIRECTORY [ENTRY=VALUE…] -- COMMAND…` passes everything through.
 */
import { type CommandResult, isAlive, type RunOptions, startTime } from "../lab/process.ts";
import { pause, waitFor } from "../lab/wait.ts";

/** Virtio-serial ports on which a machine runs commands, i.e. how many of them at the same time. */
export const AGENT_PORTS = 6;

/** What a command finds in its environment unless told. */
export const MACHINE_ENVIRONMENT: Readonly<Record<string, string>> = {
  PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
  HOME: "/root",
  USER: "root",
  LANG: "C.UTF-8",
};

/** A command for the agent. */
export interface AgentCommand extends Pick<RunOptions, "stdin" | "inherit" | "timeoutMs"> {
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

const GREETING_DEADLINE_MS = 300_000;

/** Runs a command on the machine whose sockets lie in this directory; its outcome is returned whatever it is. */
export async function runOnMachine(directory: string, command: AgentCommand): Promise<CommandResult> {
  const port = await waitFor("a free port of the agent", () => takePort(directory), {
    deadlineMs: GREETING_DEADLINE_MS,
  });
  try {
    using connection = await Deno.connect({ transport: "unix", path: `${directory}/agent.${port}.sock` });
    return await converse(connection, command);
  } finally {
    Deno.removeSync(lockPath(directory, port));
  }
}

function lockPath(directory: string, port: number): string {
  return `${directory}/agent.${port}.lock`;
}

/** One conversation at a time on each port, also among several programs. */
function takePort(directory: string): number | undefined {
  for (let port = 0; port < AGENT_PORTS; port++) {
    const path = lockPath(directory, port);
    try {
      Deno.writeTextFileSync(path, JSON.stringify({ pid: Deno.pid, startTime: startTime(Deno.pid) }), {
        createNew: true,
      });
      return port;
    } catch (error) {
      if (!(error instanceof Deno.errors.AlreadyExists)) throw error;
      if (isAbandoned(path)) Deno.removeSync(path);
    }
  }
  return undefined;
}

function isAbandoned(path: string): boolean {
  try {
    return !isAlive(JSON.parse(Deno.readTextFileSync(path)));
  } catch {
    // Being written or removed just now.
    return false;
  }
}

async function converse(connection: Deno.Conn, command: AgentCommand): Promise<CommandResult> {
  const reader = new FrameReader(connection);
  await greet(connection, reader);
  await writeFrame(connection, "C", encodeCommand(command));
  const timer = command.timeoutMs === undefined
    ? undefined
    : setTimeout(() => closeQuietly(connection), command.timeoutMs);
  const feeding = feed(connection, command).catch(() => {});
  try {
    const result = await collect(reader, command.inherit === true);
    if (result === undefined && timer === undefined) throw new Error("the machine has gone");
    return result ?? { code: 143, stdout: "", stderr: "" };
  } finally {
    clearTimeout(timer);
    // Standard input of a terminal is read until the next key; nobody waits for that.
    if (command.inherit !== true) await feeding;
  }
}

function closeQuietly(connection: Deno.Conn): void {
  try {
    connection.close();
  } catch {
    // It has ended by itself.
  }
}

/** The agent may still be starting, or at the end of an earlier conversation; it hears the greeting that comes last. */
async function greet(connection: Deno.Conn, reader: FrameReader): Promise<void> {
  const nonce = crypto.randomUUID().replaceAll("-", "");
  const call = new TextEncoder().encode(`\0LAB ${nonce}\n`);
  const answer = reader.skipTo(`\0GO ${nonce}\n`);
  let answered = false;
  answer.then(() => answered = true, () => answered = true);
  const deadline = performance.now() + GREETING_DEADLINE_MS;
  while (!answered) {
    if (performance.now() > deadline) {
      throw new Error(
        `Cannot run a command on the machine: its agent is silent for ${GREETING_DEADLINE_MS} ms; expected an answer`,
      );
    }
    await writeAll(connection, call);
    for (let waited = 0; waited < 2000 && !answered; waited += 20) await Promise.race([answer, pause(20)]);
  }
  await answer;
}

function encodeCommand({ argv, env }: AgentCommand): Uint8Array {
  const entries = Object.entries(env).map(([name, value]) => `${name}=${value}`);
  return new TextEncoder().encode([String(entries.length), ...entries, ...argv, ""].join("\0"));
}

const INPUT_PIECE = 32_768;

async function feed(connection: Deno.Conn, { stdin, inherit }: AgentCommand): Promise<void> {
  if (stdin !== undefined) {
    const bytes = typeof stdin === "string" ? new TextEncoder().encode(stdin) : stdin;
    for (let at = 0; at < bytes.length; at += INPUT_PIECE) {
      await writeFrame(connection, "I", bytes.subarray(at, at + INPUT_PIECE));
    }
  } else if (inherit) {
    const buffer = new Uint8Array(INPUT_PIECE);
    for (let count = await Deno.stdin.read(buffer); count !== null; count = await Deno.stdin.read(buffer)) {
      await writeFrame(connection, "I", buffer.subarray(0, count));
    }
  }
  await writeFrame(connection, "E", new Uint8Array());
}

/** The outcome; nothing when the machine went away before there was one. */
async function collect(reader: FrameReader, passThrough: boolean): Promise<CommandResult | undefined> {
  const decoders = { O: new TextDecoder(), X: new TextDecoder() };
  const texts = { O: "", X: "" };
  while (true) {
    const frame = await reader.next();
    if (frame === undefined) return undefined;
    const { kind, content } = frame;
    if (kind === "R") {
      return { code: new DataView(content.buffer).getUint32(0), stdout: texts.O, stderr: texts.X };
    }
    if (kind !== "O" && kind !== "X") return undefined;
    if (passThrough) await writeAll(kind === "O" ? Deno.stdout : Deno.stderr, content);
    else texts[kind] += decoders[kind].decode(content, { stream: true });
  }
}

interface Frame {
  readonly kind: string;
  readonly content: Uint8Array<ArrayBuffer>;
}

const HEADER = 5;

/** Bytes → frames; a connection that ends early ends the frames. */
class FrameReader {
  readonly #connection: Deno.Conn;
  #bytes = new Uint8Array();

  constructor(connection: Deno.Conn) {
    this.#connection = connection;
  }

  /** Throws away everything up to the end of this text. */
  async skipTo(text: string): Promise<void> {
    const wanted = text;
    while (true) {
      const seen = Array.from(this.#bytes, (byte) => String.fromCharCode(byte)).join("");
      const at = seen.indexOf(wanted);
      if (at >= 0) {
        this.#bytes = this.#bytes.slice(at + wanted.length);
        return;
      }
      if (!await this.#fill()) throw new Error("Cannot reach the machine's agent: the machine is off");
    }
  }

  async next(): Promise<Frame | undefined> {
    if (!await this.#need(HEADER)) return undefined;
    const length = new DataView(this.#bytes.buffer, this.#bytes.byteOffset).getUint32(1);
    if (!await this.#need(HEADER + length)) return undefined;
    const frame = {
      kind: String.fromCharCode(this.#bytes[0] ?? 0),
      content: this.#bytes.slice(HEADER, HEADER + length),
    };
    this.#bytes = this.#bytes.slice(HEADER + length);
    return frame;
  }

  async #need(count: number): Promise<boolean> {
    while (this.#bytes.length < count) if (!await this.#fill()) return false;
    return true;
  }

  async #fill(): Promise<boolean> {
    const buffer = new Uint8Array(65_536);
    const count = await this.#connection.read(buffer).catch(() => null);
    if (count === null) return false;
    const joined = new Uint8Array(this.#bytes.length + count);
    joined.set(this.#bytes);
    joined.set(buffer.subarray(0, count), this.#bytes.length);
    this.#bytes = joined;
    return true;
  }
}

async function writeFrame(connection: Deno.Conn, kind: string, content: Uint8Array): Promise<void> {
  const frame = new Uint8Array(HEADER + content.length);
  frame[0] = kind.charCodeAt(0);
  new DataView(frame.buffer).setUint32(1, content.length);
  frame.set(content, HEADER);
  await writeAll(connection, frame);
}

async function writeAll(
  writer: { write(bytes: Uint8Array): Promise<number> },
  bytes: Uint8Array,
): Promise<void> {
  for (let at = 0; at < bytes.length;) at += await writer.write(bytes.subarray(at));
}

/** The command line of the program below. */
export function agentArgv(
  directory: string,
  env: Readonly<Record<string, string>>,
  argv: readonly string[],
): string[] {
  const script = new URL(import.meta.url).pathname;
  const entries = Object.entries(env).map(([name, value]) => `${name}=${value}`);
  return [
    ...[Deno.execPath(), "run", "--quiet", "--no-config", "--no-prompt", "-A"],
    ...[script, directory, ...entries, "--", ...argv],
  ];
}

if (import.meta.main) {
  const [directory = "", ...rest] = Deno.args;
  const end = rest.indexOf("--");
  const env = Object.fromEntries(rest.slice(0, end).map((entry) => entry.split(/=(.*)/s).slice(0, 2)));
  for (const signal of ["SIGINT", "SIGTERM"] as const) Deno.addSignalListener(signal, () => Deno.exit(143));
  const { code } = await runOnMachine(directory, { argv: rest.slice(end + 1), env, inherit: true });
  Deno.exit(code);
}

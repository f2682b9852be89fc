/**
 * A stand-in of the SSH connection to a host that is itself a stand-in: serves the host's verbs in process, and may lose the host, take
 * long, or say something else. In memory only.
 */
import { TransportError } from "../../lib/errors.ts";
import type { ExecOptions, SshRunner } from "../../lib/deploy/ssh.ts";
import type { HostEvent, ProbeRequest, ProbeResult } from "../../lib/host/protocol.ts";
import { actionOf } from "../../lib/host/serve.ts";
import { type Input, serveSession } from "../../lib/host/session.ts";
import type { Output } from "../../lib/step.ts";
import type { FakeHost } from "../fake_host.ts";
import type { VirtualTime } from "./virtual_time.ts";

/** What is wrong between the deployer and a host. `lost`: connections end; `silent`: they stay open, and nothing comes. */
export type Trouble = "lost" | "silent" | "garbage" | "slow";

/** Milliseconds more that each verb takes where all is slow. */
const SLOW = 15_000;

/** One host's connection. */
export class FakeSsh {
  connected = false;
  connections = 0;
  /** What is wrong now. */
  trouble: Trouble | undefined;
  /** What the host says in place of the true result of a verb. */
  lie: ((verb: string, result: unknown) => unknown) | undefined;
  /** The verbs that the host was asked, in their order. */
  readonly asked: string[] = [];
  readonly #host: FakeHost;
  readonly #time: VirtualTime;
  readonly #address: string;
  readonly #lost = new Set<(error: unknown) => void>();

  constructor(host: FakeHost, time: VirtualTime, address: string) {
    this.#host = host;
    this.#time = time;
    this.#address = address;
  }

  /** The part of an SshRunner that the phases use. */
  get runner(): SshRunner {
    return this as unknown as SshRunner;
  }

  async connect(seconds = 10): Promise<void> {
    await this.close();
    if (this.#isGone()) {
      await this.#time.pause(this.trouble === "silent" ? seconds * 1000 : 10);
      throw this.#failure("no answer in time");
    }
    this.connected = true;
    this.connections++;
  }

  close(): Promise<void> {
    this.connected = false;
    for (const lose of this.#lost) lose(this.#failure("connection lost"));
    this.#lost.clear();
    return Promise.resolve();
  }

  /** From now on this is wrong. */
  break(trouble: Trouble): void {
    this.trouble = trouble;
    if (trouble === "lost") void this.close();
  }

  async exec(argv: readonly string[], { stdin, onLine, signal }: ExecOptions = {}): Promise<Output> {
    if (!this.connected) throw this.#failure("connection lost");
    const verb = argv.at(-1)!;
    const lost = Promise.withResolvers<never>();
    lost.promise.catch(() => {});
    this.#lost.add(lost.reject);
    signal?.addEventListener("abort", () => lost.reject(this.#failure("no answer in time")));
    const write = (line: string) => void (this.connected && !this.#isGone() && onLine?.(line));
    const work = verb === "session"
      ? serveSession(inputOf(stdin as ReadableStream<Uint8Array>), (...asked) => this.#serve(...asked), write)
      : this.#serve(verb, JSON.parse(String(stdin)), (event) => write(JSON.stringify(event)));
    try {
      await Promise.race([work, lost.promise]);
      return { code: 0, stdout: "", stderr: "" };
    } finally {
      this.#lost.delete(lost.reject);
    }
  }

  #isGone(): boolean {
    return this.trouble === "lost" || this.trouble === "silent";
  }

  #failure(what: string): TransportError {
    return new TransportError(`Cannot connect to ${this.#address}: ${what}; expected a host`, {
      retry: true,
    });
  }

  async #serve(verb: string, request: unknown, report: (event: HostEvent) => void): Promise<void> {
    if (this.#isGone()) return await new Promise(() => {});
    this.asked.push(verb);
    if (this.trouble === "slow") await this.#time.pause(SLOW);
    if (this.trouble === "garbage") return report({ event: "result", result: { garbage: 1 } });
    const connection = `198.51.100.1 ${40000 + this.connections} ${this.#address} 22`;
    try {
      const result = verb === "probe"
        ? answerAll(request as ProbeRequest, this.#time.now())
        : await this.#host.process(verb, async (context) =>
          await (await actionOf(verb)())(request, context), connection);
      report({ event: "result", result: this.lie ? this.lie(verb, result) : result });
    } catch (error) {
      const { name, message } = error as Error;
      // A process that was killed says nothing more.
      if (name !== "Killed") report({ event: "error", kind: name, message });
    }
  }
}

/** A stream as the standard input of a process. */
function inputOf(stream: ReadableStream<Uint8Array>): Input {
  const reader = stream.getReader();
  let rest = new Uint8Array();
  return {
    async read(bytes) {
      if (rest.length === 0) rest = new Uint8Array((await reader.read()).value ?? []);
      if (rest.length === 0) return null;
      const chunk = rest.subarray(0, bytes.length);
      bytes.set(chunk);
      rest = rest.subarray(chunk.length);
      return chunk.length;
    },
  };
}

/** A host from which everything answers. */
function answerAll({ pings, names }: ProbeRequest, clock: number): ProbeResult {
  const capabilities = { wireguard: "kernel", datapath: "system" } as const;
  return {
    pings: pings.map(() => 1),
    names: names.map(({ address }) => address ?? null),
    capabilities,
    clock,
  };
}

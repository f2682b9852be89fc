/**
 * The calls of one push to one host: each verb in a process of its own, or, where the host has this very executable, all of them in one
 * session. Effects: through the connection it is given.
 */
import { TransportError } from "../errors.ts";
import {
  Answer,
  callHost,
  type CallOptions,
  DEADLINES,
  type Executor,
  HOST_EXECUTABLE,
  type HostCaller,
  type HostVerbs,
  parseSessionEvent,
  resultOf,
} from "./host_call.ts";

/** Milliseconds without a request after which a session is not used again: the host ends it some minutes later. */
const IDLE = 5 * 60_000;

/** A connection that is replaced by a newer one at times. */
export interface Reach extends Executor {
  readonly connected: boolean;
  /** How many connections were made so far. */
  readonly connections: number;
}

/** The calls to one host. */
export class HostCalls implements HostCaller {
  readonly #ssh: Reach;
  #session: Session | undefined;
  #usesSession = false;
  #slowest = 0;

  constructor(ssh: Reach) {
    this.#ssh = ssh;
  }

  /** Milliseconds that the slowest start on the host took, from the request for it to its first line. */
  get slowestStart(): number {
    return this.#slowest;
  }

  /** From now on all calls share one session: only for a host whose executable is this one. Starts it, and does not wait for it. */
  useSession(): void {
    this.#usesSession = true;
    if (this.#ssh.connected) this.#openSession();
  }

  /** Runs one verb; errors as those of `callHost`. */
  async call<V extends keyof HostVerbs>(
    verb: V,
    request: HostVerbs[V][0],
    options: CallOptions = {},
  ): Promise<HostVerbs[V][1]> {
    const usesSession = this.#usesSession && this.#ssh.connected && options.hold === undefined;
    if (usesSession) return await this.#openSession().call(verb, request, options);
    return await callHost(this.#ssh, verb, request, { ...options, onAnswer: this.#stopwatch() });
  }

  #openSession(): Session {
    if (this.#session?.isLive(this.#ssh)) return this.#session;
    return this.#session = new Session(this.#ssh, this.#stopwatch());
  }

  /** Begins now; ends with the call of what it returns. */
  #stopwatch(): () => void {
    const began = performance.now();
    return () => void (this.#slowest = Math.max(this.#slowest, performance.now() - began));
  }
}

/** A call that has no result yet. */
interface Pending {
  readonly answer: Answer;
  readonly settle: (error?: unknown) => void;
}

/** One process on the host that answers requests until its input or the connection ends. */
class Session {
  readonly #connection: number;
  readonly #pending = new Map<number, Pending>();
  readonly #stop = new AbortController();
  readonly #noise = new Answer();
  #input: ReadableStreamDefaultController<Uint8Array> | undefined;
  #calls = 0;
  #lastUsed = Date.now();

  constructor(ssh: Reach, onReady: () => void) {
    this.#connection = ssh.connections;
    const stdin = new ReadableStream<Uint8Array>({
      start: (input) => void (this.#input = input),
      cancel: () => void (this.#input = undefined),
    });
    const onLine = (line: string) => this.#take(line, onReady);
    ssh.exec([HOST_EXECUTABLE, "host", "session"], { stdin, onLine, signal: this.#stop.signal }).then(
      (output) => this.#end(undefined, output),
      (error) => this.#end(error),
    );
  }

  /** Whether it can be asked over the present connection. */
  isLive(ssh: Reach): boolean {
    return this.#input !== undefined && ssh.connections === this.#connection &&
      (this.#pending.size > 0 || Date.now() - this.#lastUsed < IDLE);
  }

  async call<V extends keyof HostVerbs>(
    verb: V,
    request: HostVerbs[V][0],
    { onStep, milliseconds = DEADLINES[verb] }: CallOptions,
  ): Promise<HostVerbs[V][1]> {
    const id = ++this.#calls;
    const answer = new Answer(onStep);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#pending.set(id, { answer, settle: (error) => error === undefined ? resolve() : reject(error) });
    const timer = setTimeout(() => this.#stop.abort(), milliseconds);
    try {
      this.#write({ id, verb, request });
      await promise;
    } finally {
      clearTimeout(timer);
      this.#pending.delete(id);
      this.#lastUsed = Date.now();
    }
    return resultOf(verb, answer, { code: this.#ended?.code, stderr: this.#ended?.stderr ?? "" });
  }

  #ended: { readonly code: number; readonly stderr: string } | undefined;

  #write(line: unknown): void {
    if (this.#ended !== undefined || this.#input === undefined) {
      throw new TransportError("Cannot call host: the session has ended; expected it to last", {
        retry: true,
      });
    }
    this.#input.enqueue(new TextEncoder().encode(`${JSON.stringify(line)}\n`));
  }

  #take(line: string, onReady: () => void): void {
    const event = parseSessionEvent(line);
    if (event === undefined) {
      this.#noise.addNoise(line);
    } else if (event.event === "ready") onReady();
    else {
      const call = this.#pending.get(event.id);
      call?.answer.takeEvent(event);
      if (event.event !== "step") call?.settle();
    }
  }

  /** What has no answer by now gets none: the connection's error, or the exit code and what was said. */
  #end(error: unknown, output?: { readonly code: number; readonly stderr: string }): void {
    this.#input = undefined;
    this.#ended = output ?? { code: 255, stderr: "" };
    for (const { answer, settle } of this.#pending.values()) {
      for (const line of this.#noise.noise) answer.addNoise(line);
      settle(error);
    }
  }
}

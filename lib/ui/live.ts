/**
 * Progress on a terminal: one live line per host. Effects: draws on the terminal through listr2.
 */
import { Listr, type ListrTask } from "listr2";
import { type PhaseTitle, PlainProgress, type Progress, type ProgressOptions } from "./progress.ts";

interface Line {
  task?: { title: string; output: string };
  resolve: () => void;
  reject: (reason: Error) => void;
}

/** Lines appear once the hosts are known; until then, and for what is about no host, plain lines are written. */
export class LiveProgress implements Progress {
  readonly #plain: PlainProgress;
  readonly #lines = new Map<string, Line>();
  readonly #failed = new Set<string>();
  #phase = "";
  #shown: Promise<unknown> | undefined;
  readonly #maxHosts: number;
  #isPlain = false;

  /** With more than `maxHosts` the terminal has no room: plain lines then. */
  constructor(options: ProgressOptions, maxHosts: number) {
    this.#plain = new PlainProgress(options);
    this.#maxHosts = maxHosts;
  }

  phase(phase: PhaseTitle, hosts: readonly string[]): void {
    this.#phase = phase.title;
    if (hosts.length > this.#maxHosts && !this.#shown) this.#isPlain = true;
    if (this.#isPlain) return this.#plain.phase(phase, hosts);
    if (hosts.length === 0) return this.#shown ? undefined : this.#plain.phase(phase, hosts);
    this.#shown ??= this.#show(hosts);
    for (const host of hosts) this.#set(host, phase.title);
  }

  step(host: string, title: string): void {
    this.#set(host, `${this.#phase}: ${title}`);
  }

  /** Notes stand in the report; between moving lines nobody could read them. */
  note(text: string, host?: string): void {
    if (this.#isPlain) this.#plain.note(text, host);
  }

  failed(host: string, phase: PhaseTitle, message: string): void {
    if (this.#isPlain) return this.#plain.failed(host, phase, message);
    const line = this.#lines.get(host);
    if (line?.task) line.task.title = `${host}  failed: ${phase.title}`;
    this.#failed.add(host);
    line?.reject(new Error(message));
  }

  async end(): Promise<void> {
    for (const [host, { task, resolve }] of this.#lines) {
      if (task && !this.#failed.has(host)) task.title = host;
      resolve();
    }
    await this.#shown;
  }

  #set(host: string, text: string): void {
    const line = this.#lines.get(host);
    if (line?.task) line.task.title = `${host}  ${text}`;
  }

  async #show(hosts: readonly string[]): Promise<void> {
    const tasks = hosts.map((host) => this.#task(host));
    const list = new Listr(tasks, {
      concurrent: true,
      exitOnError: false,
      // What went wrong stands in the report, whole.
      rendererOptions: { showErrorMessage: false },
      // Signals are handled in one place, and that is not here.
      registerSignalListeners: false,
    });
    await list.run().catch(() => {});
  }

  #task(host: string): ListrTask {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    // A host that fails before its line is drawn must not count as an unhandled rejection.
    promise.catch(() => {});
    const line: Line = { resolve, reject };
    this.#lines.set(host, line);
    return {
      title: `${host}  ${this.#phase}`,
      task: async (_context, task) => {
        line.task = task;
        await promise;
      },
    };
  }
}

/**
 * What a run tells while it runs: an interface, and its plain form for pipes. Effects: through the `write` it is given.
 */

/** The present phase as people read it. */
export interface PhaseTitle {
  readonly name: string;
  readonly title: string;
}

/** Where a run reports to. Hosts are named by host name. */
export interface Progress {
  /** A phase begins for these hosts. */
  phase(phase: PhaseTitle, hosts: readonly string[]): void;
  /** What a host is doing now. */
  step(host: string, title: string): void;
  /** Something worth knowing; without a host it is about the whole run. */
  note(text: string, host?: string): void;
  /** A host drops out. */
  failed(host: string, phase: PhaseTitle, message: string): void;
  /** The run is over; resolves when everything is on the screen. */
  end(): Promise<void>;
}

/** How much is said. */
export interface ProgressOptions {
  readonly verbose: boolean;
  readonly write: (line: string) => void;
}

/** Plain lines, `host: …` in front. */
export class PlainProgress implements Progress {
  readonly #options: ProgressOptions;

  constructor(options: ProgressOptions) {
    this.#options = options;
  }

  phase({ title }: PhaseTitle, hosts: readonly string[]): void {
    if (hosts.length === 0) this.#options.write(`${title}`);
    for (const host of hosts) this.#options.write(`${host}: ${title}`);
  }

  step(host: string, title: string): void {
    if (this.#options.verbose) this.#lines(host, `- ${title}`);
  }

  note(text: string, host?: string): void {
    if (host) this.#lines(host, `note: ${text}`);
    else this.#options.write(`note: ${text}`);
  }

  failed(host: string, { title }: PhaseTitle, message: string): void {
    this.#lines(host, `FAILED (${title}): ${withoutHost(host, message)}`);
  }

  end(): Promise<void> {
    return Promise.resolve();
  }

  #lines(host: string, text: string): void {
    for (const line of text.split("\n")) this.#options.write(`${host}: ${line}`);
  }
}

/** Says nothing: for `--json`. */
export class SilentProgress implements Progress {
  phase(): void {}
  step(): void {}
  note(): void {}
  failed(): void {}
  end(): Promise<void> {
    return Promise.resolve();
  }
}

/** A message without its host's name in front, where the name stands there anyway. */
export function withoutHost(host: string, message: string): string {
  return message.startsWith(`${host}: `) ? message.slice(host.length + 2) : message;
}

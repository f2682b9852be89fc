/**
 * The failures of one verification and the causes found for them: what the rules work on. Pure.
 */
import type { CheckResult, HostVerification, Verification } from "../checks.ts";
import { isPing } from "../checks.ts";

/** One thing that is broken. */
export interface Cause {
  /** Names of the one or two hosts that it concerns; none where it is the deployer. */
  readonly hosts: readonly string[];
  readonly message: string;
  /** How many failures it explains. */
  readonly failures: number;
}

/** One failing check and who asked. */
export interface Failure extends CheckResult {
  readonly asker: HostVerification;
}

/** The failures that are not explained yet, and the causes found so far. */
export class Case {
  readonly hosts: readonly HostVerification[];
  readonly causes: Cause[] = [];
  readonly #verification: Verification;
  #open: readonly Failure[];

  constructor(verification: Verification) {
    this.#verification = verification;
    this.hosts = verification.hosts;
    this.#open = verification.hosts.flatMap((asker) =>
      asker.results.filter(({ ok }) => !ok).map((result) => ({ ...result, asker }))
    );
  }

  get targets(): readonly string[] {
    return this.#verification.targets;
  }

  host(name: string): HostVerification | undefined {
    return this.hosts.find(({ hostname }) => hostname === name);
  }

  failures(matches: (failure: Failure) => boolean): readonly Failure[] {
    return this.#open.filter(matches);
  }

  /** The answer to one host's question about another one, failed or not. */
  result(from: string, to: string, kind: CheckResult["kind"]): CheckResult | undefined {
    return this.host(from)?.results.find((result) => result.to === to && result.kind === kind);
  }

  /** A cause with the failures that it explains; `always`: even without one. */
  blame(
    hosts: readonly string[],
    message: string,
    explains: (failure: Failure) => boolean,
    { always = false } = {},
  ): void {
    const explained = new Set(this.#open.filter(explains));
    if (explained.size === 0 && !always) return;
    this.#open = this.#open.filter((failure) => !explained.has(failure));
    this.causes.push({ hosts, message, failures: explained.size });
  }
}

export type Rule = (one: Case) => void;

/** Between these two, whoever asks. */
export function between(a: string, b: string): (failure: Failure) => boolean {
  return ({ asker, to }) => (asker.hostname === a && to === b) || (asker.hostname === b && to === a);
}

export function isAbout(name: string): (failure: Failure) => boolean {
  return ({ asker, to, kind }) => asker.hostname === name || (to === name && kind !== "name");
}

export function isReach({ kind }: Pick<CheckResult, "kind">): boolean {
  return isPing({ kind }) || kind.startsWith("tcp-") || kind.startsWith("oversize-");
}

/** All that breaks with the way between two hosts. */
export function isLink(failure: Pick<CheckResult, "kind">): boolean {
  return isReach(failure) || failure.kind === "tree" || failure.kind === "path";
}

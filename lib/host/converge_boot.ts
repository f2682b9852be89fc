/**
 * Carries out the plan for a host that has nothing to go back to, at a boot or in a repair: what can be done is done, the path of SSH first.
 * Changes the host.
 */
import { CommandError, HostError } from "../errors.ts";
import { bootSteps, isSetting } from "../net/boot_steps.ts";
import type { HostInput } from "../net/wanted.ts";
import type { Step, WantedFile } from "../step.ts";
import type { Context } from "./context.ts";
import { forgetReloads, lookWithNic, settleDevices } from "./converge.ts";
import { giveNicBack } from "./give_back.ts";
import { type HostPlan, planHost, planTitles, wantedHost } from "./plan.ts";
import { runSteps } from "./run_steps.ts";

/** So often the path of SSH is tried; so often any other step may fail, or be found undone; and so often the host is looked at. */
const MAX_PATH_FAILURES = 3;
const MAX_STEP_FAILURES = 2;
const MAX_STEP_TRIES = 4;
const MAX_ROUNDS = 40;

/**
 * Writes the files, then configures the path of SSH, then the rest; returns the titles of all steps that were run. A failure outside the path
 * of SSH is a warning; at the end a HostError names what is left, so that the repair tries again. If the path of SSH fails, the NIC is
 * restored to its baseline until the next boot or push.
 */
export async function convergeBestEffort(context: Context, input: HostInput): Promise<readonly string[]> {
  await settleDevices(context);
  return await new BestEffort(context, input).run();
}

/** A plan without what is given up, in the order of a boot. */
interface Left {
  readonly before: readonly Step[];
  readonly path: readonly Step[];
  readonly wireguard: readonly Step[];
  readonly base: readonly Step[];
  readonly switch: readonly Step[];
  readonly after: readonly Step[];
}

class BestEffort {
  readonly #context: Context;
  readonly #input: HostInput;
  readonly #wanted: ReturnType<typeof wantedHost>;
  readonly #done: string[] = [];
  readonly #failures = new Map<string, number>();
  readonly #tries = new Map<string, number>();
  readonly #messages = new Set<string>();
  readonly #unwritable = new Set<string>();
  /** Of a network that runs, a repair takes nothing away. */
  #wasInGateway: boolean | undefined;

  constructor(context: Context, input: HostInput) {
    this.#context = context;
    this.#input = input;
    this.#wanted = wantedHost(input);
  }

  async run(): Promise<readonly string[]> {
    let pathFailures = 0;
    for (let round = 0; round < MAX_ROUNDS; round++) {
      try {
        if (!await this.#round()) continue;
        return this.#done;
      } catch (error) {
        if (error instanceof Incomplete) throw new HostError(error.message);
        // Whatever it is: nobody but this process brings the host back.
        const message = messageOf(error);
        this.#context.report(`warning: the path of SSH: ${message}`);
        if (++pathFailures < MAX_PATH_FAILURES) continue;
        if (this.#wasInGateway) throw error;
        await giveNicBack(this.#context, this.#input.baseline, message);
        throw new HostError(
          `${message}. The network card is as it was before mobula, until the next boot or push`,
        );
      }
    }
    throw new HostError(incomplete([`no end after ${MAX_ROUNDS} rounds`], this.#messages));
  }

  /** Says whether nothing is left; throws Incomplete where only what is given up is left, and any other error where the path of SSH fails. */
  async #round(): Promise<boolean> {
    const { runner } = this.#context;
    const seen = await lookWithNic(this.#context, this.#input, this.#wanted);
    const planNow = () => planHost(this.#input, seen, this.#wanted, this.#unwritable);
    await this.#write(planNow().files);
    // Whoever would read a file that could not be written has nothing to read.
    const plan = planNow();
    this.#wasInGateway ??= !plan.network.some(({ movesNic }) => movesNic);
    const left = this.#leftOf(plan);
    const titles = planTitles({
      ...plan,
      ...left,
      network: [...left.path, ...left.wireguard, ...left.base, ...left.switch],
    });
    if (titles.length === 0) {
      await forgetReloads(runner, plan.reloads).catch((error) => this.#warn([], error));
      const undone = [...[...this.#unwritable].map((path) => `write ${path}`), ...planTitles(plan)];
      if (undone.length > 0) throw new Incomplete(incomplete(undone, this.#messages));
      return true;
    }
    this.#done.push(...titles);
    await this.#runPath(left.path);
    for (const title of titles) this.#tries.set(title, (this.#tries.get(title) ?? 0) + 1);
    const all = [
      await this.#runAll([...left.before, ...left.wireguard, ...left.base]),
      await this.#runAll(left.switch, { goesOn: () => this.#mayStart(left.switch) }),
      await this.#runAll(left.after),
    ];
    if (all.every(Boolean)) await forgetReloads(runner, plan.reloads);
    return false;
  }

  #leftOf({ before, network, after }: HostPlan): Left {
    const steps = bootSteps(this.#wanted.network, network);
    const isLeft = (step: Step) => this.#isLeft(step.title);
    return {
      before: before.filter(isLeft),
      path: steps.path.filter(isLeft),
      wireguard: steps.wireguard.filter(isLeft),
      base: steps.base.filter(isLeft),
      switch: this.#mayStart(steps.switch) ? steps.switch.filter(isLeft) : [],
      after: [...steps.others, ...after].filter(isLeft),
    };
  }

  /** What does not last, because somebody else takes it back, would be done for ever. */
  #isLeft(title: string): boolean {
    return (this.#failures.get(title) ?? 0) < MAX_STEP_FAILURES &&
      (this.#tries.get(title) ?? 0) < MAX_STEP_TRIES;
  }

  /** Without its daemons each question to the switch would take its full time. */
  #mayStart(steps: readonly Step[]): boolean {
    return steps.every(({ title }) => !title.startsWith("start ") || !this.#failures.has(title));
  }

  async #write(files: readonly WantedFile[]): Promise<void> {
    const { runner, report } = this.#context;
    for (const { path } of files) if (!this.#isLeft(`write ${path}`)) this.#unwritable.add(path);
    await Promise.all(
      files.filter(({ path }) => !this.#unwritable.has(path)).map(async (file) => {
        report(`write ${file.path}`);
        await runner.writeFile(file).catch((error) => {
          this.#unwritable.add(file.path);
          this.#warn([], error);
        });
      }),
    );
  }

  /** Of the path of SSH only a setting may fail: throws what any other step throws. */
  async #runPath(steps: readonly Step[]): Promise<void> {
    await this.#runAll(steps, {
      mayFail: (titles) => {
        const failed = steps.filter(({ title }) => titles.includes(title));
        return failed.length > 0 && failed.every(isSetting);
      },
    });
  }

  /** Runs the steps in order, those behind one that fails as well as long as `goesOn`; says whether all have succeeded. */
  async #runAll(
    steps: readonly Step[],
    { mayFail = () => true, goesOn = () => true }: {
      readonly mayFail?: (titles: readonly string[]) => boolean;
      readonly goesOn?: () => boolean;
    } = {},
  ): Promise<boolean> {
    const { runner, report } = this.#context;
    let left = steps;
    while (left.length > 0) {
      try {
        await runSteps(runner, left, report);
        return left === steps;
      } catch (error) {
        if (!(error instanceof CommandError)) throw error;
        // Steps that share a process have a title together.
        const titles = [error.title, ...error.title.split(", ")];
        const failed = left.findLastIndex(({ title }) => titles.includes(title));
        if (failed < 0 || !mayFail(titles)) throw error;
        this.#warn(titles, error);
        if (!goesOn()) return false;
        left = left.slice(failed + 1);
      }
    }
    return steps.length === 0;
  }

  #warn(titles: readonly string[], error: unknown): void {
    for (const title of titles) this.#failures.set(title, (this.#failures.get(title) ?? 0) + 1);
    this.#messages.add(messageOf(error));
    this.#context.report(`warning: ${messageOf(error)}`);
  }
}

/** The path of SSH is there, and all else that can be. */
class Incomplete extends Error {
  override name = "Incomplete";
}

function incomplete(left: readonly string[], messages: ReadonlySet<string>): string {
  return `Cannot bring everything up: ${[...messages].join("; ")}; left: ${
    left.join(", ")
  }; the host answers SSH`;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

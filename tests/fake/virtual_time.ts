/**
 * Time that a test moves: it passes only while everything waits, so hours take milliseconds and no test depends on the machine's speed.
 * Effects: `install` replaces the timers and the clock of this process until `uninstall`.
 */
import { setImmediate } from "node:timers";
import type { Clock } from "../../lib/host/context.ts";

interface Timer {
  readonly at: number;
  readonly order: number;
  readonly ring: () => void;
}

const REAL = {
  setTimeout: globalThis.setTimeout,
  clearTimeout: globalThis.clearTimeout,
  setInterval: globalThis.setInterval,
  clearInterval: globalThis.clearInterval,
  now: Date.now,
  monotonic: performance.now,
};

/** So many turns without a timer: files of this machine may be waited for. */
const MAX_IDLE = 1_000_000;

/** One test's time, in milliseconds since 1970. */
export class VirtualTime implements Clock {
  /** How many actions are at work: as long as there is one, no time passes. */
  busy = 0;
  #now = Date.UTC(2026, 0, 1);
  #order = 0;
  readonly #timers = new Map<number, Timer>();

  now(): number {
    return this.#now;
  }

  pause(milliseconds: number): Promise<void> {
    return new Promise((resolve) => void this.schedule(milliseconds, resolve));
  }

  /** Calls `ring` after so many milliseconds, unless it is cancelled; gives the number to cancel it by. */
  schedule(milliseconds: number, ring: () => void): number {
    const order = ++this.#order;
    this.#timers.set(order, { at: this.#now + Math.max(0, milliseconds), order, ring });
    return order;
  }

  cancel(order: number | undefined): void {
    if (order !== undefined) this.#timers.delete(order);
  }

  /** Lets time pass until the promise is settled; gives its result. Throws where nothing comes that could settle it. */
  async drive<T>(promise: Promise<T>): Promise<T> {
    let settled = false;
    promise.then(() => settled = true, () => settled = true);
    for (let idle = 0; !settled;) {
      await turn();
      if (settled || this.busy > 0 || this.#ringNext()) idle = 0;
      else if (++idle > MAX_IDLE) {
        throw new Error("Cannot let time pass: nothing waits for it; expected a timer");
      }
    }
    return await promise;
  }

  #ringNext(): boolean {
    const next = [...this.#timers.values()].sort((a, b) => a.at - b.at || a.order - b.order)[0];
    if (next === undefined) return false;
    this.#timers.delete(next.order);
    this.#now = Math.max(this.#now, next.at);
    next.ring();
    return true;
  }

  /** From now on this process's timers and clock are these. */
  install(): void {
    const schedule = (ring: (...args: unknown[]) => void, milliseconds = 0, ...args: unknown[]) =>
      this.schedule(milliseconds, () => ring(...args));
    const repeat = (ring: (...args: unknown[]) => void, milliseconds = 0, ...args: unknown[]) => {
      const timer = { order: 0 };
      const again = () => timer.order = this.schedule(milliseconds, () => (again(), ring(...args)));
      again();
      return timer;
    };
    const cancel = (timer?: number | { order: number }) =>
      this.cancel(typeof timer === "object" ? timer.order : timer);
    Object.assign(globalThis, {
      setTimeout: schedule,
      clearTimeout: cancel,
      setInterval: repeat,
      clearInterval: cancel,
    });
    Date.now = () => this.#now;
    performance.now = () => this.#now;
  }

  /** Gives the process its own timers and clock back. */
  uninstall(): void {
    const { now, monotonic, ...timers } = REAL;
    Object.assign(globalThis, timers);
    Date.now = now;
    performance.now = monotonic;
  }
}

/** Lets all that is ready to run do so. */
function turn(): Promise<void> {
  return new Promise((resolve) => void setImmediate(resolve));
}

/**
 * Clocks of hosts compared with each other and with the deployer's, as well as the way there and back allows. Pure.
 */

/** Milliseconds that a host's clock is ahead of the deployer's: between these two. */
export interface ClockReading {
  readonly low: number;
  readonly high: number;
}

/** Milliseconds; logs of two hosts, certificates and one-time passwords mind more. */
export const CLOCK_TOLERANCE = 5_000;

/**
 * What one answer proves: the host read its clock first after the deployer had asked (`sent`), and last before the deployer had the
 * answer (`received`). All in milliseconds since 1970, each by its own clock.
 */
export function readClock(
  deployer: { readonly sent: number; readonly received: number },
  host: { readonly started: number; readonly finished: number },
): ClockReading {
  return { low: host.finished - deployer.received, high: host.started - deployer.sent };
}

/** Both readings are true: what both prove. A clock that was set in between makes them contradict, and the later one counts. */
export function narrow(before: ClockReading | undefined, now: ClockReading): ClockReading {
  if (!before) return now;
  const both = { low: Math.max(before.low, now.low), high: Math.min(before.high, now.high) };
  return both.low <= both.high ? both : now;
}

/** How far each clock is certainly away from what most clocks say, milliseconds; 0 where it may be right. */
export interface ClockVerdict {
  readonly deployer: number;
  readonly hosts: ReadonlyMap<number, number>;
}

/** The reference is the clock in the middle, the deployer's included; of two clocks it is the deployer's. */
export function judgeClocks(readings: ReadonlyMap<number, ClockReading>): ClockVerdict {
  const all = [...readings.values(), { low: 0, high: 0 }].sort((a, b) => middle(a) - middle(b));
  const [left, right] = [all[Math.floor((all.length - 1) / 2)]!, all[Math.floor(all.length / 2)]!];
  const reference = Math.abs(middle(left)) <= Math.abs(middle(right)) ? left : right;
  return {
    deployer: distance({ low: 0, high: 0 }, reference),
    hosts: new Map([...readings].map(([id, reading]) => [id, distance(reading, reference)])),
  };
}

function middle({ low, high }: ClockReading): number {
  return (low + high) / 2;
}

/** The least that the two can be apart, with its sign. */
function distance(reading: ClockReading, reference: ClockReading): number {
  if (reading.low > reference.high) return reading.low - reference.high;
  if (reading.high < reference.low) return reading.high - reference.low;
  return 0;
}

/** "12.3 s ahead", "2.0 h behind". */
export function renderOffset(milliseconds: number): string {
  const seconds = Math.abs(milliseconds) / 1000;
  const size = seconds < 600 ? `${seconds.toFixed(1)} s` : `${(seconds / 3600).toFixed(1)} h`;
  return `${size} ${milliseconds > 0 ? "ahead" : "behind"}`;
}

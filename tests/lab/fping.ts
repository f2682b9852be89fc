/**
 * Pings that go on, by `fping`: `ping` waits for its next turn without sleeping where turns are short, and so takes the processors away
 * from those who are to answer. Pure.
 */

/** One answer. */
export interface Answer {
  readonly address: string;
  /** Of the ping, from 1. */
  readonly number: number;
  /** When it came, seconds since 1970. */
  readonly time: number;
}

/** Milliseconds between two packets of one process, whoever they are for; the least that `fping` takes. */
const APART = 1;
/** Milliseconds for which an answer is waited for. */
const LATEST = 2000;

/** The command that pings all of these until it is interrupted; the interval is that of each address, milliseconds. */
export function fping(addresses: readonly string[], { interval }: { readonly interval: number }): string[] {
  return [
    "fping",
    "-4",
    "-l",
    "-D",
    ...["-i", APART, "-p", interval, "-t", LATEST].map(String),
    ...addresses,
  ];
}

/** What it says → the answers in the order in which they came; one that came twice is there twice (fping(8), 5.0 to 5.3). */
export function parseFping(text: string): Answer[] {
  const found = text.matchAll(/^\[([\d.]+)\] ([\d.]+) +: \[(\d+)\], \d+ bytes, [\d.]+ ms/gm);
  return [...found].map(([, time, address, number]) => ({
    address: address!,
    number: Number(number) + 1,
    time: Number(time),
  }));
}

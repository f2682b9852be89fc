/**
 * The keys that hosts may be using while their keys are being replaced: every host knows the old and the new one of every other.
 * Pure.
 */

/** What a host knows beside the configuration of its generation, from the announcement of new keys until the old ones are gone. */
export interface KnownKeys {
  readonly schema: 1;
  /** The key that the host itself goes on with until it is told to take the one of its configuration. */
  readonly hold?: string;
  /** By host id: all keys that the host may be using, the newest last. */
  readonly hosts: Readonly<Record<string, readonly string[]>>;
}

/** So many keys of one host are kept: each push that was cut off has left one. */
const KEPT = 8;

/** The keys of before with the announced ones behind them: whoever was cut off in between may still use any. */
export function announceKeys(
  known: KnownKeys | undefined,
  announced: KnownKeys["hosts"],
  hold: string | undefined,
): KnownKeys {
  const before = known?.hosts ?? {};
  const ids = new Set([...Object.keys(before), ...Object.keys(announced)]);
  // One key under one id: the word of now counts.
  const taken = new Set(Object.values(announced).flat());
  const hosts = Object.fromEntries(
    [...ids].sort().map((id) => {
      const fresh = announced[id] ?? [];
      const older = (before[id] ?? []).filter((key) => !taken.has(key));
      return [id, [...older, ...new Set(fresh)].slice(-KEPT)];
    }),
  );
  return { schema: 1, ...(hold === undefined ? {} : { hold }), hosts };
}

/** What is still to be known once these hosts use the key of the configuration for good; undefined when that is nothing. */
export function forgetKeys(known: KnownKeys, ids: readonly number[]): KnownKeys | undefined {
  const settled = new Set(ids.map(String));
  const hosts = Object.fromEntries(Object.entries(known.hosts).filter(([id]) => !settled.has(id)));
  return Object.keys(hosts).length === 0 ? undefined : { ...known, hosts };
}

/**
 * The key that a host proves to be using: that of the latest handshake (seconds since 1970); undefined before the first one. Of several
 * in the same second the first that is preferred, else the newest.
 */
export function provenKey(
  keys: readonly string[],
  handshakes: ReadonlyMap<string, number>,
  ...preferred: readonly ((key: string) => boolean)[]
): string | undefined {
  const latest = Math.max(0, ...keys.map((key) => handshakes.get(key) ?? 0));
  const proven = latest === 0 ? [] : keys.filter((key) => handshakes.get(key) === latest);
  return preferred.map((isPreferred) => proven.findLast(isPreferred)).find((key) => key !== undefined) ??
    proven.at(-1);
}

/**
 * Who may claim which WireGuard key: one key belongs to one host, or to one client. Pure.
 */

/** The keys that a host says are its own, and those that are known to be its own. */
export interface Claim {
  readonly id: number;
  readonly hostname: string;
  /** What it says: the key that it uses and the one that it is to use. */
  readonly claimed: readonly string[];
  /** The key in hosts.yml, which it has to use. */
  readonly pinned?: string;
  /** The key in wireguard_pubkeys.yml, from an earlier push. */
  readonly recorded?: string;
}

/** A key of somebody who is not asked: a host that is left out, or a client. */
export interface OtherKey {
  readonly publicKey: string;
  /** "host web3", "client 10.30.128.1". */
  readonly owner: string;
}

/** By id: what is wrong with a host's claim. A host whose claim is its own has no entry. */
export function falseClaims(
  claims: readonly Claim[],
  others: readonly OtherKey[],
): ReadonlyMap<number, string> {
  const owners = new Map(
    others.map(({ publicKey, owner }) => [publicKey, { owner, id: undefined as number | undefined }]),
  );
  for (const { id, hostname, claimed, recorded } of claims) {
    // A host that has got another address leaves a key behind that its successor there does not have.
    if (recorded !== undefined && claimed.includes(recorded)) {
      owners.set(recorded, { owner: `host ${hostname}`, id });
    }
  }
  for (const { id, hostname, pinned } of claims) {
    if (pinned !== undefined) owners.set(pinned, { owner: `host ${hostname}`, id });
  }
  const wrong = new Map<number, string>();
  for (const { id, claimed, pinned } of claims) {
    for (const key of claimed) {
      const owner = owners.get(key);
      if (owner && owner.id !== id) wrong.set(id, explain(key, `it belongs to ${owner.owner}`));
    }
    if (pinned !== undefined && !claimed.includes(pinned)) {
      wrong.set(id, explain(claimed[0] ?? "none", "hosts.yml has another one for it"));
    }
  }
  for (const claim of claims) {
    if (wrong.has(claim.id)) continue;
    const twin = claims.find((other) =>
      other.id !== claim.id && !wrong.has(other.id) &&
      other.claimed.some((key) => claim.claimed.includes(key))
    );
    // Nobody knows yet whose it is: neither gets anything.
    if (twin) {
      for (const [one, other] of [[claim, twin], [twin, claim]] as const) {
        wrong.set(one.id, explain(shared(one, other), `host ${other.hostname} says that it is its own`));
      }
    }
  }
  return wrong;
}

function shared(one: Claim, other: Claim): string {
  return one.claimed.find((key) => other.claimed.includes(key)) ?? "";
}

function explain(key: string, found: string): string {
  return `Cannot use the WireGuard key ${key} that the host says is its own: ${found}; expected a key that nobody else has. ` +
    "Look who has root on the host; a key that was copied with a disk is replaced by removing /etc/wireguard/mobula there";
}

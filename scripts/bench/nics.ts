/**
 * The cards of the bench's machines beside mobula's own. Data.
 */

/** A card: its slot, what the guest calls it, and the first three bytes of its addresses. */
export interface Nic {
  readonly slot: number;
  readonly name: string;
  readonly network: string;
}

/** What the other networks run on. */
export const SECOND_NIC: Nic = { slot: 8, name: "ens8", network: "192.0.2" };
/** For those who put it into a bridge. */
export const THIRD_NIC: Nic = { slot: 9, name: "ens9", network: "203.0.113" };

export const NICS: readonly Nic[] = [SECOND_NIC, THIRD_NIC];

/**
 * Numbered broadcasts of one gateway, and how often each arrives at the others: what comes twice has gone around a loop. Sends and captures
 * frames on hosts of a lab.
 */
import { hostMac } from "../../lib/address.ts";
import { capture, sendFrame } from "./capture.ts";
import type { Lab } from "./lab.ts";
import { pause } from "./wait.ts";

/** What became of the broadcasts, at all others together. */
export interface Broadcasts {
  readonly sent: number;
  /** Different ones, summed over the others. */
  readonly arrived: number;
  /** Arrivals beyond the first of the same one at the same host. */
  readonly twice: number;
}

/** Milliseconds between two of them. */
const BEAT = 100;
/** Milliseconds in which the last one arrives, or goes around. */
const TRAVEL = 1000;
/** Numbers fit into a byte. */
const MOST = 255;
/** IEEE 802, local experimental EtherType 1. */
const EXPERIMENTAL = 0x88b5;
const LINK = "ovsbr-mobula";
const BROADCAST = "ff:ff:ff:ff:ff:ff";

/** Starts to listen at the others; the function that it gives sends until it is told to end, at most 255 of them. */
export async function listenForBroadcasts(lab: Lab, from: string, others: readonly string[]) {
  const captures = await Promise.all(
    others.map((name) => capture(lab, lab.network(name, "mobula"), LINK, `ether proto ${EXPERIMENTAL}`)),
  );
  return async (isOver: () => boolean): Promise<Broadcasts> => {
    let sent = 0;
    while (!isOver() && sent < MOST) {
      const payload = new Uint8Array(46).fill(++sent);
      const frame = {
        to: BROADCAST,
        from: hostMac(lab.host(from).id, "gateway"),
        type: EXPERIMENTAL,
        payload,
      };
      await sendFrame(lab.network(from, "mobula"), LINK, frame);
      await pause(BEAT);
    }
    await pause(TRAVEL);
    let [arrived, twice] = [0, 0];
    for (const one of captures) {
      const numbers = (await one.stop()).map(({ payload }) => payload[0]);
      arrived += new Set(numbers).size;
      twice += numbers.length - new Set(numbers).size;
    }
    return { sent, arrived, twice };
  };
}

/** Sends broadcasts while the work goes on. */
export async function whileBroadcasting(
  lab: Lab,
  from: string,
  others: readonly string[],
  work: () => Promise<unknown>,
): Promise<Broadcasts> {
  const send = await listenForBroadcasts(lab, from, others);
  let over = false;
  const sending = send(() => over);
  const outcome = await work().then(() => undefined, (error: unknown) => ({ error }));
  over = true;
  const seen = await sending;
  if (outcome) throw outcome.error;
  console.log(`  broadcasts of ${from}: ${seen.sent} sent, ${seen.arrived} arrived, ${seen.twice} twice`);
  return seen;
}

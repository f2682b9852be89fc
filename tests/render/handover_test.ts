/** handoverOrder: while a part of the paths begins anew, the host that is asked to help has a living one. */
import { assert, assertEquals } from "@std/assert";
import { relaysOf } from "../../lib/net/network.ts";
import { handoverOrder } from "../../lib/render/handover.ts";

const FLEETS = [[1], [1, 2], [1, 2, 3], [2, 5, 6, 9], [1, 2, 3, 4, 5, 6, 7, 8, 9], [1, 4, 30, 31, 200, 256]];

for (const ids of FLEETS) {
  Deno.test(`handoverOrder: every path of ${ids.join(", ")} once, and never together with its helper's`, () => {
    for (const self of ids) {
      const peers = ids.filter((id) => id !== self);
      const parts = handoverOrder(self, peers);
      assertEquals(parts.flat().sort((a, b) => a - b), peers);
      for (const part of parts) {
        for (const peer of part) {
          const there = relaysOf(peer, peers)[0];
          const back = relaysOf(self, ids.filter((id) => id !== peer))[0];
          assert(there === undefined || !part.includes(there), `${self} to ${peer} by ${there}`);
          assert(back === undefined || !part.includes(back), `${peer} to ${self} by ${back}`);
        }
      }
    }
  });
}
